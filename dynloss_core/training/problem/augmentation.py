"""Augmentation: at each visit an image is shifted, and mirrored or not.

Symbols
    N      images of the training set
    B      images of a batch, each with its channels, height H and width W
    p      pixels that an image can shift each way, `crop`

The image is padded by p pixels on each side with its own reflection (without the pixel at the
edge), and a crop of H x W pixels is taken at random, as by Zagoruyko and Komodakis
(arXiv:1605.07146, section 3); a border of zeros would instead depend on how pixels are scaled. The
crop is then mirrored left to right with probability 1/2.

The draws are a pure function of seed and epoch: a resumed run sees the images that it would have
seen, and the arms of a pair see the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from torch import Tensor

from dynloss_core.config import ConfigError
from dynloss_core.data import DataConfig
from dynloss_core.seeding import Stream, generator

__all__ = ["Augmentation", "augment", "augmentation_draws", "gather_augmented"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image before the network sees it; by default none.

    Args:
        crop: p, pixels of padding, >= 0 and below the sides of an image.
        flip: whether to mirror an image left to right with probability 1/2 at each visit.
    """

    crop: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ConfigError("crop", f"{self.crop} is negative", "use >= 0")

    @property
    def active(self) -> bool:
        """Whether images are changed at all."""
        return self.crop > 0 or self.flip

    def check(self, data: DataConfig) -> None:
        """Refuse samples that cannot be augmented in this way.

        Raises:
            ConfigError: if they are not images, or too small for the crop.
        """
        if not self.active:
            return
        if len(data.input_shape) != 3:
            raise ConfigError("augmentation", f"{data.name} are not images", "leave it out")
        _, height, width = data.input_shape
        if self.crop >= min(height, width):
            problem = f"{self.crop} pixels for images of {height} x {width}"
            raise ConfigError("augmentation.crop", problem, "use fewer than their sides")


@lru_cache(maxsize=64)  # 270 KB each for 45,000 images; members of one seed share them
def augmentation_draws(seed: int, epoch: int, samples: int, crop: int, *, flip: bool) -> Tensor:
    """The draws for each image of an epoch, in the order of visits.

    Shift and mirror are both drawn whether used or not, so turning mirroring on does not change the
    shifts.

    Returns:
        (N, 3) int16: top and left edge of the crop in the padded image, in [0, 2 p], and 1 if
        mirrored, else 0.
    """
    draws = generator(seed, Stream.AUGMENTATION, epoch)
    values = np.empty((samples, 3), dtype=np.int16)
    values[:, 2] = draws.integers(0, 2, size=samples) * flip
    values[:, :2] = draws.integers(0, 2 * crop + 1, size=(samples, 2))
    return torch.from_numpy(values)


def augment(images: Tensor, draws: Tensor, crop: int) -> Tensor:
    """Apply the draws to the images of a batch, one after another: the reference.

    Args:
        images: (B, channels, H, W), floating point.
        draws: (B, 3), see `augmentation_draws`.
        crop: p.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (crop,) * 4, mode="reflect")
    augmented = []
    for image, (top, left, mirrored) in zip(padded, draws.tolist(), strict=True):
        shifted = image[:, top : top + height, left : left + width]
        augmented.append(shifted.flip(-1) if mirrored else shifted)
    return torch.stack(augmented)


def gather_augmented(images: Tensor, rows: Tensor, draws: Tensor, crop: int) -> Tensor:
    """Augment a whole batch at once, straight from the data set: each pixel is fetched from its
    source, and no padded image is ever made.

    Args:
        images: (N, H, W, channels) of any dtype, contiguous.
        rows: (B,) indices of the images.
        draws: (B, 3).
        crop: p.

    Returns:
        (B, H, W, channels), in new memory.
    """
    height, width, channels = images.shape[1:]
    down = torch.arange(height, device=images.device)  # (H,)
    across = torch.arange(width, device=images.device)  # (W,)
    top, left, mirrored = draws.long()[:, :, None].unbind(1)  # (B, 1) each
    across = across + mirrored * (width - 1 - 2 * across)  # (B, W): w, or W - 1 - w
    y = _reflected(down + top - crop, height)  # (B, H)
    x = _reflected(across + left - crop, width)  # (B, W)
    pixel = ((rows[:, None] * height + y) * width)[:, :, None] + x[:, None, :]  # (B, H, W)
    # one flat index takes a third of the time of three on a CPU
    augmented = images.view(-1, channels).index_select(0, pixel.flatten())
    return augmented.view(len(rows), height, width, channels)


def _reflected(place: Tensor, side: int) -> Tensor:
    """Indices in [-(side - 1), 2 (side - 1)], reflected into [0, side - 1]."""
    return side - 1 - (side - 1 - place.abs()).abs()
