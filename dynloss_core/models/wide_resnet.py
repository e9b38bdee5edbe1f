r"""Wide residual networks, WRN-d-k: pre-activation blocks of two 3 x 3 convolutions.

    image -> conv 16 -> n blocks of 16 k -> n of 32 k, half size -> n of 64 k, half size again
          -> norm ReLU -> mean -> linear,        n = (d - 4) / 6

Symbols
    d      depth
    k      widening
    N      images
    x      input of a block; a = ReLU(norm(x)), f its two convolutions
    alpha  a block's scale, only in a network without normalisation

A block gives x + f(a), or shortcut(a) + f(a) where the number of channels or the size changes.

Source: S. Zagoruyko and N. Komodakis, "Wide residual networks", BMVC 2016, arXiv:1605.07146;
dropout is between the two convolutions, as there. Group normalisation has 16 channels per group
(Y. Wu and K. He, ECCV 2018, arXiv:1803.08494), which divides every layer of every width.

Without normalisation the variance would grow with each block. SkipInit then takes its place (S. De
and S. Smith, NeurIPS 2020, arXiv:2002.10444): a block gives x + alpha f(a), where alpha is trained
and starts at 0, so the network starts as its shortcuts alone. Convolutions then have biases, which
the normalisation would otherwise provide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, assert_never

import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from torch import Tensor, nn

from dynloss_core.config import ConfigError, refuse_other_choices
from dynloss_core.models.dropout import Dropout
from dynloss_core.models.initialisation import Initialisation
from dynloss_core.models.sizes import require_images, require_size

__all__ = ["Normalisation", "WideResNet", "WideResNetConfig"]

Normalisation = Literal["batch", "group", "none"]

_STEM = 16  # channels of the first convolution
_GROUP = 16  # channels per group
_MIN_SIDE = 4  # halving it twice leaves one pixel


@dataclass(frozen=True)
class WideResNetConfig:
    """A wide residual network.

    Args:
        depth: d, 6 n + 4 with n >= 1: 10, 16, 22, 28, 34, 40, ...
        widening: k, >= 1.
        normalisation: by batch statistics, by statistics of groups of an image's channels, or none,
            where each block starts as its shortcut instead.
        dropout: share of a block's inner activations that a training step drops, in [0, 1).
        initialisation: the initialisation of the weights, see `initialisation.initialise`.
            `he_normal` keeps the variance from layer to layer, which networks without normalisation
            need.
    """

    name: Literal["wide_resnet"] = "wide_resnet"
    depth: int = 16
    widening: int = 4
    normalisation: Normalisation = "batch"
    dropout: float = 0.0
    initialisation: Initialisation = "he_normal"

    def __post_init__(self) -> None:
        refuse_other_choices(self)
        if self.depth < 10 or (self.depth - 4) % 6:
            below = max(10, self.depth - (self.depth - 4) % 6)
            raise ConfigError(
                "depth", f"{self.depth} is not 6 n + 4", f"use {below} or {below + 6}"
            )
        require_size("depth", self.depth, 10, 6_004)
        require_size("widening", self.widening, 1, 10_000)
        if not 0 <= self.dropout < 1:
            raise ConfigError("dropout", f"{self.dropout} is not a fraction", "use [0, 1)")

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> WideResNet:
        """The network, with parameters not yet drawn.

        Raises:
            ConfigError: if samples are not images of at least 4 x 4 pixels.
        """
        require_images(self.name, input_shape, _MIN_SIDE)
        return WideResNet(self, input_shape[0], num_classes)


class WideResNet(nn.Module):
    """The network.

    Args:
        config: its architecture.
        inputs: channels of an image.
        outputs: C.
    """

    samplewise: ClassVar[bool] = True

    def __init__(self, config: WideResNetConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = _STEM
        for stage in range(3):
            wider = _STEM * config.widening * 2**stage
            for index in range((config.depth - 4) // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(_Block(config, channels, wider, stride))
                channels = wider
        self.stem = _convolution(config, inputs, _STEM)
        self.blocks = nn.ModuleList(blocks)
        self.norm = _norm(config, channels)
        self.linear = nn.Linear(channels, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C) of images (N, inputs, H, W)."""
        hidden = self.stem(images)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = F.relu(self.norm(hidden))  # (N, 64 k, H / 4, W / 4)
        logits: Tensor = self.linear(hidden.mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Two convolutions and a shortcut."""

    samplewise: ClassVar[bool] = True

    def __init__(self, config: WideResNetConfig, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first_norm = _norm(config, before)
        self.first = _convolution(config, before, after, stride)
        self.second_norm = _norm(config, after)
        self.dropout = Dropout(config.dropout)
        self.second = _convolution(config, after, after)
        changes = before != after or stride != 1
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if changes else None
        bare = config.normalisation == "none"
        self.scale = nn.Parameter(torch.zeros(1)) if bare else None  # alpha

    def forward(self, hidden: Tensor) -> Tensor:
        active = F.relu(self.first_norm(hidden))
        past: Tensor = hidden if self.shortcut is None else self.shortcut(active)
        inner = F.relu(self.second_norm(self.first(active)))
        residual: Tensor = self.second(self.dropout(inner))
        return past + residual if self.scale is None else past + self.scale * residual


def _convolution(config: WideResNetConfig, before: int, after: int, stride: int = 1) -> nn.Conv2d:
    bias = config.normalisation == "none"  # else the norm after it has one
    return nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=bias)


def _norm(config: WideResNetConfig, channels: int) -> nn.Module:
    if config.normalisation == "batch":
        return nn.BatchNorm2d(channels)
    if config.normalisation == "group":
        return nn.GroupNorm(channels // _GROUP, channels)
    if config.normalisation == "none":
        return nn.Identity()
    assert_never(config.normalisation)
