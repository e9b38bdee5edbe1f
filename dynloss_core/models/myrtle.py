"""Myrtle5: four 3 x 3 convolutions and a linear layer, without batch normalisation.

    image -> conv ReLU, conv ReLU, pool -> conv ReLU, pool -> conv ReLU, pool -> mean -> linear

Source: V. Shankar et al., "Neural kernels without tangents", ICML 2020, arXiv:2003.02237, after
D. Page's Myrtle.ai networks; with 64 channels it is the overparametrized network of Ruiz-Garcia et
al. on CIFAR-10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F  # noqa: N812  torch's own convention
from torch import Tensor, nn

from dynloss_core.config import refuse_other_choices
from dynloss_core.models.initialisation import Initialisation
from dynloss_core.models.sizes import require_images, require_size

__all__ = ["Myrtle5", "Myrtle5Config"]

_MIN_SIDE = 8  # three poolings by two leave one pixel


@dataclass(frozen=True)
class Myrtle5Config:
    """A Myrtle5.

    Args:
        channels: channels of every convolution, >= 1.
        initialisation: the initialisation of the weights, see `initialisation.initialise`.
    """

    name: Literal["myrtle5"] = "myrtle5"
    channels: int = 64
    initialisation: Initialisation = "lecun_normal"

    def __post_init__(self) -> None:
        refuse_other_choices(self)
        require_size("channels", self.channels, 1, 100_000)

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> Myrtle5:
        """The network, with parameters not yet drawn.

        Raises:
            ConfigError: if samples are not images of at least 8 x 8 pixels.
        """
        require_images(self.name, input_shape, _MIN_SIDE)
        return Myrtle5(input_shape[0], self.channels, num_classes)


class Myrtle5(nn.Module):
    """The network.

    Args:
        inputs: channels of an image.
        channels: channels of every convolution.
        outputs: C.
    """

    samplewise: ClassVar[bool] = True
    convolutions_only: ClassVar[bool] = True

    def __init__(self, inputs: int, channels: int, outputs: int) -> None:
        super().__init__()
        widths = [inputs, channels, channels, channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, channels, kernel_size=3, padding=1) for before in widths
        )
        self.linear = nn.Linear(channels, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of images (N, inputs, H, W)."""
        first, *rest = self.convolutions
        hidden = first(images).relu_()  # in place: no gradient needs what it overwrites
        for convolution in rest:
            hidden = F.avg_pool2d(convolution(hidden).relu_(), 2)
        logits: Tensor = self.linear(hidden.mean((2, 3)))
        return logits
