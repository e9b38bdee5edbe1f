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

and delta is set so that E d is what is asked for, or is asked for itself. Pairs of a committed table
are those of one comparison at one setting, the arm's accuracies shifted by one number. Which of them
live depends on the limit that `failures` sets in each sample, and a claim is about those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.statistics.failures import failures
from studies.analysis.statistics.pairing import paired_by_seed
from studies.definition.arms import Pair
from studies.definition.phases import Phase

__all__ = ["Drawn", "Population", "Resampled", "Scenario", "Simulated", "from_tables", "simulated"]

Shape = Literal["normal", "skewed", "bimodal"]
Population = Literal["all", "trained"]
NOISE = 0.02
TIME_NOISE = 0.08
LEVEL, GAP = 0.9, 0.5
CHANCE = 1 / 3
_PAIR = Pair("arm", "reference")
DEATHS = ((0.0, 0.0), (0.01, 0.0), (0.02, 0.0), (0.05, 0.0), (0.1, 0.0), (0.02, 0.02), (0.1, 0.1))


class Drawn(NamedTuple):
    """Pairs whose true differences are known.

    Args:
        arm: (R, n) accuracies of the arm.
        reference: (R, n) accuracies of its reference.
        mean: (R,) true mean difference of all pairs.
        trained: of those that live, given (R,) accuracies below which a network is dead: (R,).
    """

    arm: np.ndarray
    reference: np.ndarray
    mean: np.ndarray
    trained: Callable[[np.ndarray], np.ndarray]


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
        self,
        shape: tuple[int, int],
        mean: float,
        draws: np.random.Generator,
        of: Population = "all",
    ) -> Drawn:
        """Pairs (R, n) whose differences have this mean, all of them or those that live."""
        p, q = self.arm_dies, self.reference_dies
        live, dead = (1 - p) * (1 - q), (q * (1 - p) - p * (1 - q)) * GAP
        delta = (mean - dead) / live if of == "all" else mean
        arm_dies, reference_dies = draws.random(shape) < p, draws.random(shape) < q
        arm = self.level + self._noise(shape, draws) + delta * ~(arm_dies | reference_dies)
        reference = np.full(shape, self.level) - GAP * reference_dies
        # a network that never gets there has no noise
        arm = np.where(arm_dies, 0.0, arm) if self.of == "times" else arm - GAP * arm_dies
        truth = np.full(shape[0], live * delta + dead)
        return Drawn(arm, reference, truth, lambda below: np.full(len(below), delta))

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
        self,
        shape: tuple[int, int],
        mean: float,
        draws: np.random.Generator,
        of: Population = "all",
    ) -> Drawn:
        """Pairs (R, n) whose differences have this mean, all of them or those that live: each row
        from one comparison, with replacement."""
        picked = draws.integers(len(self.pairs), size=shape[0])
        columns = draws.random(shape)
        rows = np.empty((2, *shape))
        for row, which in enumerate(picked):
            pairs = self.pairs[which]
            rows[:, row] = pairs[:, (columns[row] * pairs.shape[1]).astype(int)]
        shift = np.full(shape[0], mean) if of == "all" else mean - self._trained[picked]

        def trained(below: np.ndarray) -> np.ndarray:
            return np.array(
                [
                    _mean_above(self.pairs[which] + [[moved], [0.0]], limit)
                    for which, moved, limit in zip(picked, shift, below, strict=True)
                ]
            )

        return Drawn(rows[0] + shift[:, np.newaxis], rows[1], shift, trained)

    @cached_property
    def _trained(self) -> np.ndarray:
        """Mean difference of the pairs that live, of each comparison, by its own limit."""
        tables = (pd.DataFrame({"arm": arm, "reference": other}) for arm, other in self.pairs)
        limits = [failures(table, _PAIR, **self.failure)[0].below for table in tables]
        return np.array(
            [_mean_above(pairs, limit) for pairs, limit in zip(self.pairs, limits, strict=True)]
        )


def _mean_above(pairs: np.ndarray, below: float) -> float:
    """Mean difference of the pairs (2, n) that live; NaN without one."""
    live = (pairs >= below).all(axis=0)
    return float((pairs[0] - pairs[1])[live].mean()) if live.any() else np.nan


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
