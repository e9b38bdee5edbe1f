"""The spiral problem: interleaved arms, one per class, in two dimensions.

For class j, radius r = linspace(0, 1, N), angle theta = linspace(2 pi j / C, 2 pi j / C + 4 pi, N)
plus noise * standard normal, x = (r cos theta, r sin theta); no normalisation. Source: the
published notebook of Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from dynloss_core.config import ConfigError
from dynloss_core.data.splits import Labelled, Splits
from dynloss_core.seeding import Stream, generator

__all__ = ["SpiralsConfig", "spirals"]

_TURN = 4 * np.pi


@dataclass(frozen=True)
class SpiralsConfig:
    """Spirals; each seed draws its own noise, afresh for each of the three splits.

    Args:
        points_per_class: N, in each split.
        noise: standard deviation of the angle, in radians.
        num_classes: C, the number of arms of the spiral.
    """

    name: Literal["spirals"] = "spirals"
    points_per_class: int = 100
    noise: float = 0.2
    num_classes: int = 3

    def __post_init__(self) -> None:
        if self.points_per_class < 1:
            raise ConfigError("points_per_class", f"{self.points_per_class} is below 1", "use >= 1")
        if self.num_classes < 2:
            raise ConfigError("num_classes", f"{self.num_classes} is below 2", "use >= 2")
        if self.noise < 0:
            raise ConfigError("noise", f"{self.noise} is negative", "use >= 0")

    @property
    def training_samples(self) -> int:
        """Samples to train on."""
        return self.num_classes * self.points_per_class

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: a point of the plane."""
        return (2,)

    def load(self, seed: int) -> Splits:
        """The three draws that belong to a member's seed."""
        draws = generator(seed, Stream.DATA)
        train, validation, test = (spirals(self, draws) for _ in range(3))
        return Splits(train, validation, test, self.num_classes)


def spirals(config: SpiralsConfig, draws: np.random.Generator) -> Labelled:
    """One draw: inputs (C*N, 2) in float64, ordered by class, and targets (C*N,)."""
    classes, points = config.num_classes, config.points_per_class
    radius = np.linspace(0.0, 1.0, points)  # (N,)
    start = 2 * np.pi * np.arange(classes)[:, None] / classes  # (C, 1)
    angle = start + np.linspace(0.0, _TURN, points)  # (C, N)
    angle = angle + config.noise * draws.standard_normal((classes, points))
    inputs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)  # (C, N, 2)
    targets = np.repeat(np.arange(classes), points)
    return Labelled(torch.from_numpy(inputs.reshape(-1, 2)), torch.from_numpy(targets))
