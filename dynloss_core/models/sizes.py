"""The sizes allowed for networks, and the samples that convolutional ones accept."""

from __future__ import annotations

from dynloss_core.config import ConfigError

__all__ = ["require_images", "require_size"]


def require_size(key: str, value: int, smallest: int, largest: int) -> None:
    """Refuse a size that no network has or no machine can hold: networks are built in order to be
    inspected.

    Raises:
        ConfigError: naming the key, the value and the bound.
    """
    if value < smallest:
        raise ConfigError(key, f"{value} is below {smallest}", f"use >= {smallest}")
    if value > largest:
        raise ConfigError(key, f"{value} is above {largest}", f"use <= {largest}")


def require_images(model: str, input_shape: tuple[int, ...], side: int) -> None:
    """Refuse samples other than images (channels, height, width) with sides of at least `side`.

    Raises:
        ConfigError: naming the network and the shape.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < side:
        raise ConfigError(
            "model.name",
            f"{model!r} cannot take samples of shape {tuple(input_shape)}",
            f"use images of at least {side} x {side} pixels",
        )
