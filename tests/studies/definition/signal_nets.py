"""A plug-in: a network and a data set in one file."""

NETS = '''\
"""A network with batch normalisation and 1-D convolutions, and signals to tell apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from dynloss_core.data import Labelled, Splits


@dataclass(frozen=True)
class SignalNet:
    name: Literal["signal_net"] = "signal_net"
    channels: int = 4

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (1, -1)),
            nn.Conv1d(1, self.channels, 5),
            nn.BatchNorm1d(self.channels),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(self.channels * (input_shape[0] - 4), num_classes),
        )


@dataclass(frozen=True)
class Signals:
    """Noisy sines of three frequencies."""

    name: Literal["signals"] = "signals"
    samples: int = 30
    num_classes: int = 3

    @property
    def training_samples(self) -> int:
        return self.samples

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (16,)

    def load(self, seed: int) -> Splits:
        draws = torch.Generator().manual_seed(seed)
        parts = []
        for _ in range(3):
            y = torch.arange(self.samples) % 3
            t = torch.linspace(0, 6.28, 16)
            x = torch.sin((y[:, None] + 1) * t) + 0.3 * torch.randn(self.samples, 16, generator=draws)
            parts.append(Labelled(x, y))
        return Splits(*parts, num_classes=3)
'''
