"""Differences of pairs as our studies have them, with a mean that is known.

Of accuracies, or of the share of a run that a network has left when it reaches an accuracy (see
`speed`): there, one that never gets there has nothing left.

Symbols
    d      difference of a pair: the arm's accuracy less its reference's
    p, q   share of the arm's, and of the reference's, networks that die
    g      accuracy that a dead network falls short of a living one
    delta  mean difference of pairs that live

A pair of which only the arm dies has d = -g, of which only the reference dies d = g, and one that
dies whole has d = 0, all with the noise of the others. So

    E d = (1 - p) (1 - q) delta - p (1 - q) g + q (1 - p) g,

and delta is set so that E d is what is asked for. Pairs of a committed table are those of one comparison
at one setting, the arm's accuracies shifted by one number; whether they trained is as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.statistics.pairing import paired_by_seed
from studies.definition.phases import Phase

__all__ = ["Resampled", "Scenario", "Simulated", "from_tables", "simulated"]

Shape = Literal["normal", "skewed", "bimodal"]
NOISE = 0.02
TIME_NOISE = 0.08
LEVEL, GAP = 0.9, 0.5
CHANCE = 1 / 3
DEATHS = ((0.0, 0.0), (0.01, 0.0), (0.02, 0.0), (0.05, 0.0), (0.1, 0.0), (0.02, 0.02), (0.1, 0.1))


@dataclass(frozen=True)
class Simulated:
    """Differences of pairs, some of which die.

    Args:
        shape: of the noise, with a standard deviation of `NOISE`. `skewed`: exponential.
            `bimodal`: two narrow peaks, one of five pairs in the lower.
        arm_dies: p.
        reference_dies: q.
        of: what the pairs are.
    """

    shape: Shape
    arm_dies: float
    reference_dies: float
    of: Literal["accuracies", "times"] = "accuracies"

    @property
    def name(self) -> str:
        """`normal, 2% and 0% die`."""
        what = "times, " if self.of == "times" else ""
        return f"{what}{self.shape}, {self.arm_dies:.0%} and {self.reference_dies:.0%} die"

    @property
    def noise(self) -> float:
        """Standard deviation of the noise."""
        return TIME_NOISE if self.of == "times" else NOISE

    @property
    def level(self) -> float:
        """Mean of networks that live."""
        return GAP if self.of == "times" else LEVEL

    @property
    def margin(self) -> float:
        """Half of a standard deviation of the noise."""
        return self.noise / 2

    @property
    def failure(self) -> Mapping[str, float]:
        """What `failures` is told of networks that die."""
        return {"below": 1e-9} if self.of == "times" else {"chance": CHANCE}

    def draw(
        self, shape: tuple[int, int], mean: float, draws: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Accuracies (R, n) of arm and reference, whose differences have this mean."""
        p, q = self.arm_dies, self.reference_dies
        delta = (mean + (p * (1 - q) - q * (1 - p)) * GAP) / ((1 - p) * (1 - q))
        arm_dies, reference_dies = draws.random(shape) < p, draws.random(shape) < q
        arm = self.level + self._noise(shape, draws) + delta * ~(arm_dies | reference_dies)
        reference = np.full(shape, self.level) - GAP * reference_dies
        if self.of == "times":  # a network that never gets there has no noise
            return np.where(arm_dies, 0.0, arm), reference
        return arm - GAP * arm_dies, reference

    def _noise(self, shape: tuple[int, ...], draws: np.random.Generator) -> np.ndarray:
        if self.shape == "normal":
            return self.noise * draws.standard_normal(shape)
        if self.shape == "skewed":
            return self.noise * (draws.standard_exponential(shape) - 1)
        low = draws.random(shape) < 0.2
        peaks = np.where(low, -2.0, 0.5)  # mean 0, variance 1
        return self.noise * (0.995 * peaks + 0.1 * draws.standard_normal(shape))


@dataclass(frozen=True, eq=False)
class Resampled:
    """Pairs drawn from those of a committed table.

    Args:
        name: of the table.
        pairs: arrays (2, n), one a comparison at a setting: accuracies of arm and reference, the
            arm's shifted so that the mean difference is 0.
    """

    name: str
    pairs: tuple[np.ndarray, ...]

    @property
    def margin(self) -> float:
        """Half of the median standard deviation of the differences, over comparisons."""
        return 0.5 * float(np.median([(each[0] - each[1]).std() for each in self.pairs]))

    @property
    def failure(self) -> Mapping[str, float]:
        """What `failures` is told of networks that die."""
        return {"chance": CHANCE}

    def draw(
        self, shape: tuple[int, int], mean: float, draws: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Accuracies (R, n) of arm and reference, whose differences have this mean: each row from
        one comparison, with replacement."""
        rows = []
        for _ in range(shape[0]):
            pairs = self.pairs[draws.integers(len(self.pairs))]
            rows.append(pairs[:, draws.integers(pairs.shape[1], size=shape[1])])
        arm, reference = np.stack(rows, axis=1)
        return arm + mean, reference


Scenario = Simulated | Resampled


def simulated() -> list[Simulated]:
    """Accuracies of every shape with every pair of rates; then times."""
    shapes: tuple[Shape, ...] = ("normal", "skewed", "bimodal")
    kinds: tuple[Literal["accuracies", "times"], ...] = ("accuracies", "times")
    return [Simulated(s, *rates, of) for of in kinds for s in shapes for rates in DEATHS]


def from_tables(folder: Path) -> Iterator[Resampled]:
    """Those of all committed members tables in a folder: test accuracy on fresh seeds, or
    validation accuracy where there are none, of every arm less the first one."""
    for file in sorted(folder.glob("*/members.parquet")):
        members = pd.read_parquet(file)
        fresh = members[members[keys.PHASE].map(lambda name: Phase.parse(name).is_fresh)]
        rows = members if fresh.empty else fresh
        metric = keys.VALIDATION_ACCURACY if fresh.empty else keys.TEST_ACCURACY
        pairs = tuple(_pairs(rows, metric))
        if pairs:
            yield Resampled(file.parent.name, pairs)


def _pairs(rows: pd.DataFrame, metric: str) -> Iterator[np.ndarray]:
    sizes = [name for name in rows.columns if name == "model.width"]
    for _, group in rows.groupby(sizes) if sizes else [((), rows)]:
        first, *others = group[keys.ARM].unique()
        references = group[group[keys.ARM] == first]
        reference = references[references[keys.TRIAL] == references[keys.TRIAL].iloc[0]]
        for (arm, _), one in group[group[keys.ARM].isin(others)].groupby([keys.ARM, keys.TRIAL]):
            pairs = paired_by_seed(pd.concat([one, reference]), metric)
            if len(pairs) >= 10 and pairs.shape[1] == 2:
                found = pairs[[arm, first]].to_numpy(dtype=float).T
                difference = found[0] - found[1]
                if difference.std() > 0:
                    yield np.stack([found[0] - difference.mean(), found[1]])
