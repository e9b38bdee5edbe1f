"""Which samples a convolutional network takes."""

from __future__ import annotations

from dynloss_core.config import ConfigError

__all__ = ["require_images"]


def require_images(model: str, input_shape: tuple[int, ...], side: int) -> None:
    """Refuse samples that are not images (channels, height, width) of sides that large.

    Raises:
        ConfigError: naming the network and the shape.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < side:
        raise ConfigError(
            "model.name",
            f"{model!r} on samples of shape {tuple(input_shape)}",
            f"it needs images of {side} x {side} pixels or more",
        )
