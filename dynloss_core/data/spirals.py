"""The spiral problem: interleaved arms, one per class, in two dimensions.

For class j, radius r = linspace(0, 1, N), angle theta = linspace(2 pi j / C, 2 pi j / C + 4 pi, N)
plus noise * standard normal, x = (r cos theta, r sin theta); no normalisation. Source: the
published notebook of Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from dynloss_core.config import ADDED_LATER, ConfigError
from dynloss_core.data.splits import Labelled, Splits
from dynloss_core.data.training_shares import check_training_shares
from dynloss_core.seeding import Stream, generator

__all__ = ["SpiralsConfig", "spirals"]

_TURN = 4 * np.pi


@dataclass(frozen=True)
class SpiralsConfig:
    """Spirals; each seed draws its own noise, independently for each of the three splits.

    Args:
        points_per_class: N, in each split.
        noise: standard deviation of the angle, in radians.
        num_classes: C, the number of arms of the spiral.
        training_shares: for classes of unequal size, the share of its points that each class keeps
            in the training split, evenly along its arm; the validation and test splits stay
            balanced. Empty: every class keeps all its points.
    """

    name: Literal["spirals"] = "spirals"
    points_per_class: int = 100
    noise: float = 0.2
    num_classes: int = 3
    training_shares: tuple[float, ...] = field(default=(), metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        if self.points_per_class < 1:
            raise ConfigError("points_per_class", f"{self.points_per_class} is below 1", "use >= 1")
        if self.num_classes < 2:
            raise ConfigError("num_classes", f"{self.num_classes} is below 2", "use >= 2")
        if self.noise < 0:
            raise ConfigError("noise", f"{self.noise} is negative", "use >= 0")
        check_training_shares(self.training_shares, self.num_classes)

    @property
    def training_samples(self) -> int:
        """Samples to train on."""
        return sum(self._kept)

    @property
    def _kept(self) -> list[int]:
        """Training points of each class, at least one."""
        shares = self.training_shares or (1.0,) * self.num_classes
        return [max(1, round(share * self.points_per_class)) for share in shares]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: a point of the plane."""
        return (2,)

    def load(self, seed: int) -> Splits:
        """The three draws that belong to a member's seed."""
        draws = generator(seed, Stream.DATA)
        train, validation, test = (spirals(self, draws) for _ in range(3))
        if self.training_shares:
            train = _thinned(train, self._kept)
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


def _thinned(balanced: Labelled, kept: list[int]) -> Labelled:
    """The first, the last and evenly spaced points between them of each class."""
    points = len(balanced) // len(kept)
    rows = [
        c * points + np.round(np.linspace(0, points - 1, number)).astype(int)
        for c, number in enumerate(kept)
    ]
    chosen = torch.from_numpy(np.concatenate(rows))
    return Labelled(balanced.inputs[chosen], balanced.targets[chosen])
