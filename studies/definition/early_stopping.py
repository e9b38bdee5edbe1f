"""Early stopping that respects the period: trials are compared over whole periods only.

With an oscillating loss, two trials at one step are at different phases of their periods, so a
metric at a step says as much about the phase as about the trial. What is compared here is the mean
of the static objective over whole periods.

Symbols
    R      rungs: steps at which a trial is compared with earlier ones
    M      members of an ensemble
    n      evaluations so far
    C      classes
    T      period in steps; a full turn is C periods
    k      whole periods that ended at or before a rung

The window of a rung is the later half of the training so far, rounded to what is comparable: of the
k whole periods that have ended, the last k // 2, in whole turns if one fits, and at least one
period. A turn that quantiles back further would mostly show how training began, and punish long
periods for being long. A single period favours one class, but which one makes no difference to a
metric over balanced classes. The static arm has no period: its window is the later half.

The rule is successive halving over the trials told so far (Jamieson and Talwalkar 2016, AISTATS,
PMLR 51:240; with one quantile at each rung, Golovin et al. 2017, KDD): a trial is stopped at a rung
if it is worse than a quantile of the earlier trials that got that far. Trials stopped earlier are
not among them, so later rungs ask for more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ConfigError
from dynloss_core.oscillation import oscillation_stop
from dynloss_core.training import Member, Problem

__all__ = [
    "EarlyStopping",
    "RungMeans",
    "Rungs",
    "Thresholds",
    "check_rungs",
    "is_stopped",
    "rung_columns",
    "rung_steps",
    "trial_means",
    "trials_to_stop",
    "window",
]

_TIE = 1e-9  # relative difference of equal means whose terms were added in another order

Window = tuple[int, int]
"""(first, last): the evaluations with first < step <= last."""

Thresholds = tuple[float | None, ...]
"""One per rung, in the objective's unit; None where no trial is stopped."""


@dataclass(frozen=True)
class EarlyStopping:
    """When a trial of a search is stopped; the rule is the same for both arms.

    Args:
        rungs: number of times a trial is compared with earlier ones, evenly spaced between `after`
            and the static tail.
        after: position of the first rung, as a fraction of the run.
        quantile: quantile of the earlier trials, from the worst, that a trial must reach: 0.5 stops
            what is worse than their median, 0.25 what is among the worst quarter.
        min_trials: fewest earlier trials at a rung for anything to be stopped there.
    """

    rungs: int = 3
    after: float = 0.25
    quantile: float = 0.5
    min_trials: int = 5

    def __post_init__(self) -> None:
        for key in ("rungs", "min_trials"):
            if getattr(self, key) < 1:
                raise ConfigError(key, f"{getattr(self, key)} is below 1", "use >= 1")
        for key in ("after", "quantile"):
            if not 0 < getattr(self, key) < 1:
                problem = f"{getattr(self, key)} is not between 0 and 1"
                raise ConfigError(key, problem, "use 0.5, say")


def rung_steps(rule: EarlyStopping, problem: Problem) -> tuple[int, ...]:
    """The steps of the R rungs, each moved back to the last evaluation at or before it."""
    first, last = rule.after * problem.steps, problem.steps - problem.static_tail
    every = problem.evaluate_every
    places = [first + (last - first) * rung / rule.rungs for rung in range(rule.rungs)]
    return tuple(math.floor(place / every + 1e-9) * every for place in places)


def check_rungs(rule: EarlyStopping, problem: Problem) -> None:
    """Refuse rungs that are not distinct evaluations before the static tail.

    Raises:
        ConfigError: naming the key to change.
    """
    if rule.after * problem.steps >= problem.steps - problem.static_tail:
        problem_text = f"{rule.after} of the run lies in its static tail"
        raise ConfigError("early_stopping.after", problem_text, "lower it, or shorten the tail")
    steps = rung_steps(rule, problem)
    if steps[0] < 1:
        problem_text = f"{rule.after} of the run comes before the first evaluation"
        raise ConfigError("early_stopping.after", problem_text, "raise it, or evaluate more often")
    if len(set(steps)) < len(steps):
        problem_text = f"{rule.rungs} rungs, but fewer evaluations to put them on"
        raise ConfigError("early_stopping.rungs", problem_text, "lower it, or evaluate more often")


def window(rung: int, period: int | None, stop: int, classes: int) -> Window | None:
    """The steps over which a member is averaged at a rung; None if no whole period has ended.

    Args:
        rung: step of the rung.
        period: T in steps; None for the static arm.
        stop: step at which the oscillation ends; no period ends after it.
        classes: number of classes, C.
    """
    if period is None:
        return rung - rung // 2, rung
    ended = min(rung, stop) // period
    if ended == 0:
        return None
    periods = ended // 2
    if periods >= classes:
        periods -= periods % classes
    end = ended * period
    return end - max(periods, 1) * period, end


@dataclass(frozen=True)
class Rungs:
    """The rungs of an ensemble.

    Args:
        steps: (R,) steps, ascending.
        windows: (R, M) windows; None where no whole period has ended.
    """

    steps: tuple[int, ...]
    windows: tuple[tuple[Window | None, ...], ...]

    @classmethod
    def of(
        cls, rule: EarlyStopping, problem: Problem, members: Sequence[Member], classes: int
    ) -> Rungs:
        """The rungs of an ensemble's members."""
        steps = rung_steps(rule, problem)
        stops = [
            oscillation_stop(problem.steps, problem.static_tail, member.period or 1)
            for member in members
        ]
        pairs = list(zip(members, stops, strict=True))
        return cls(
            steps, tuple(tuple(window(s, m.period, e, classes) for m, e in pairs) for s in steps)
        )

    def values(self, steps: np.ndarray, metric: np.ndarray, until: np.ndarray) -> np.ndarray:
        """The value of each member at each rung, (R, M): NaN at a rung that is not reached, or
        whose window has no evaluation.

        Args:
            steps: (n,) steps of the evaluations.
            metric: (n, M) objective at those steps.
            until: (M,) last step of each member that counts; later rungs are not reached.
        """
        values = np.full((len(self.steps), metric.shape[1]), np.nan)
        for r, (rung, windows) in enumerate(zip(self.steps, self.windows, strict=True)):
            for member, span in enumerate(windows):
                if span is None or rung > until[member]:
                    continue
                inside = (steps > span[0]) & (steps <= span[1])
                if inside.any():
                    values[r, member] = metric[inside, member].mean()
        return values


def rung_columns(rule: EarlyStopping) -> list[str]:
    """Columns of the members table that hold the values at the rungs: `rung_1`, `rung_2`, ..."""
    return [f"{keys.RUNG}_{number}" for number in range(1, rule.rungs + 1)]


def trial_means(members: pd.DataFrame, rule: EarlyStopping) -> pd.DataFrame:
    """The value of each trial at each rung: the mean over its seeds, NaN if one has none."""
    return members.groupby(keys.TRIAL)[rung_columns(rule)].mean(skipna=False)


class RungMeans:
    """The values of trials at the rungs, block by block, and what they ask of later ones.

    Args:
        rule: the study's rule.
        objective: static validation metric.
    """

    def __init__(self, rule: EarlyStopping, objective: str) -> None:
        self._rule = rule
        self._sign = 1.0 if keys.higher_is_better(objective) else -1.0
        self._values = np.empty((0, rule.rungs))  # (trials and room for more, R)
        self._ends = [0]  # number of trials after each block

    def add(self, members: pd.DataFrame) -> None:
        """Add the members table of the next block; a failed block's is empty. A trial that
        diverged counts for nothing."""
        means = np.empty((0, self._rule.rungs))
        if not members.empty:
            diverged = members.groupby(keys.TRIAL)[keys.DIVERGED].any().to_numpy(dtype=bool)
            means = trial_means(members, self._rule).to_numpy(dtype=float)[~diverged]
        start, end = self._ends[-1], self._ends[-1] + len(means)
        if end > len(self._values):
            room = np.empty((end, self._rule.rungs))
            self._values = np.concatenate([self._values, room])
        self._values[start:end] = means
        self._ends.append(end)

    def thresholds(self, blocks: int) -> Thresholds:
        """What a trial must reach at each rung.

        Args:
            blocks: how many blocks, from the first, count.

        Returns:
            The quantile of the trials that have a value at the rung, itself the value of one of
            them; None where there are fewer than `min_trials`.
        """
        quantiles: list[float | None] = []
        for column in self._sign * self._values[: self._ends[blocks]].T:
            known = column[~np.isnan(column)]
            enough = len(known) >= self._rule.min_trials
            score = np.quantile(known, self._rule.quantile, method="lower") if enough else None
            quantiles.append(None if score is None else self._sign * float(score))
        return tuple(quantiles)


def trials_to_stop(
    values: np.ndarray, trials: np.ndarray, threshold: float | None, objective: str
) -> set[int]:
    """The trials that are worse than a threshold; a trial with a missing value is not judged.

    Args:
        values: (M,) values of the members at a rung.
        trials: (M,) trial of each member.
        threshold: what a trial must reach; None stops nothing.
        objective: static validation metric.
    """
    if threshold is None:
        return set()
    sign = 1.0 if keys.higher_is_better(objective) else -1.0
    means = pd.Series(values).groupby(trials).mean(skipna=False)
    worse = sign * means < sign * threshold - _TIE * abs(threshold)
    return {int(str(number)) for number in means.index[worse]}


def is_stopped(members: pd.DataFrame) -> pd.Series:
    """Which rows of the members table belong to stopped trials; none in a study without early
    stopping, whose table lacks the column."""
    if keys.STOPPED_STEP not in members:
        return pd.Series(data=False, index=members.index)
    return members[keys.STOPPED_STEP] >= 0
