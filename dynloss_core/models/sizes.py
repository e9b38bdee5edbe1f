"""Which sizes a network may have, and which samples a convolutional one takes."""

from __future__ import annotations

from dynloss_core.config import ConfigError

__all__ = ["require_images", "require_size"]


def require_size(key: str, value: int, smallest: int, largest: int) -> None:
    """Refuse a size that no network has, or that no machine can hold: networks are built in order
    to inspect them.

    Raises:
        ConfigError: naming the key, the value and the bound.
    """
    if value < smallest:
        raise ConfigError(key, f"{value} is below {smallest}", f"use >= {smallest}")
    if value > largest:
        raise ConfigError(key, f"{value} is above {largest}", f"use <= {largest}")


def require_images(model: str, input_shape: tuple[int, ...], side: int) -> None:
    """Refuse samples that are not images (channels, height, width) of sides that large.

    Raises:
        ConfigError: naming the network and the shape.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < side:
        raise ConfigError(
            "model.name",
            f"{model!r} cannot take samples of shape {tuple(input_shape)}",
            f"use images of at least {side} x {side} pixels",
        )
