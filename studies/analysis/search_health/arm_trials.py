"""The trials of one arm, one row each, from the members table: the basis of search health.

Symbols: K trials of an arm in the order of their numbers, n seeds each.

A trial is infeasible if one of its networks diverged, or its objective is not finite; it never
wins. A trial that was stopped early cannot win either: its objective belongs to an earlier step, so
it has no mean here, but it counts towards the budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from dynloss_core import keys
from search_spaces import ChoiceParameter, FloatParameter, IntParameter, Parameter, Space
from studies.definition.early_stopping import is_stopped

__all__ = ["ArmTrials", "Ordered", "along", "arm_trials", "bounds_of", "scale_of"]

Ordered = Literal["linear", "log"]

_TIE = 1e-9  # relative: means of the same accuracies, added in a different order, are equal


@dataclass(frozen=True, eq=False)
class ArmTrials:
    """The K trials of an arm.

    Args:
        arm: `dynamical` or `static`.
        number: (K,) numbers of the trials, ascending.
        mean: (K,) objective, mean over seeds; NaN where infeasible or stopped.
        sem: (K,) standard error of the mean over seeds; NaN there too, or if n < 2.
        n: (K,) number of seeds.
        noise: roughly the standard error of the mean of a good trial, excluding seed effects common
            to all trials; NaN if unknown.
        score: (K,) the mean, oriented so that more is better; -inf where infeasible or stopped.
        stopped: (K,) whether the trial was stopped early.
        settings: (K,) values of each parameter that varies, in the unit of the space; for a choice
            without an order, indices of the values.
    """

    arm: str
    number: np.ndarray
    mean: np.ndarray
    sem: np.ndarray
    n: np.ndarray
    noise: float
    score: np.ndarray
    stopped: np.ndarray
    settings: dict[str, np.ndarray]

    @property
    def infeasible(self) -> np.ndarray:
        """(K,) whether a network diverged, or the objective is not finite."""
        infeasible: np.ndarray = np.isneginf(self.score) & ~self.stopped
        return infeasible

    def best(self) -> np.ndarray:
        """Indices of the best trials: several if tied, none if every trial is infeasible or
        stopped."""
        top = self.score.max(initial=-np.inf)
        if np.isneginf(top):
            return np.empty(0, dtype=int)
        return np.flatnonzero(self.score >= top - _TIE * abs(top))


def arm_trials(
    search: pd.DataFrame, arm: str, space: Space, objective: str, *, epochs: float | None = None
) -> ArmTrials:
    """The trials of one arm.

    Args:
        search: rows of the members table with phase `search`.
        arm: the arm.
        space: the space of the arm.
        objective: metric that was optimised.
        epochs: length of a run, needed if the space gives the period in epochs.

    Raises:
        ValueError: if a parameter has no column, or a period is in epochs and `epochs` is missing.
    """
    rows = search[search[keys.ARM] == arm]
    number, first, trial = np.unique(
        rows[keys.TRIAL].to_numpy(), return_index=True, return_inverse=True
    )
    values = rows[objective].to_numpy(dtype=float, na_value=np.nan)
    sound = np.isfinite(values) & ~rows[keys.DIVERGED].to_numpy(dtype=bool)
    n = np.bincount(trial)
    stopped = np.bincount(trial, is_stopped(rows).to_numpy(dtype=bool)) > 0
    feasible = (np.bincount(trial, sound) == n) & ~stopped
    mean = np.bincount(trial, np.where(sound, values, 0.0)) / n
    squares = np.bincount(trial, np.where(sound, values - mean[trial], 0.0) ** 2)
    sem = np.sqrt(squares / np.maximum(n - 1, 1) / n)
    sign = 1.0 if keys.higher_is_better(objective) else -1.0
    score = np.where(feasible, sign * mean, -np.inf)
    points = rows.iloc[first]
    return ArmTrials(
        arm=arm,
        number=number,
        mean=np.where(feasible, mean, np.nan),
        sem=np.where(feasible & (n > 1), sem, np.nan),
        n=n,
        noise=_noise(values, mean, trial, rows[keys.SEED].to_numpy(), score),
        score=score,
        stopped=stopped,
        settings={
            name: _settings(points, name, parameter, epochs)
            for name, parameter in space.parameters.items()
            if len(parameter.grid(2)) > 1
        },
    )


def along(values: np.ndarray, low: float, high: float, scale: Ordered) -> np.ndarray:
    """The position of each value between the bounds along the scale, in [0, 1]."""
    if scale == "log":
        return np.log(values / low) / math.log(high / low)
    return (values - low) / (high - low)


def _noise(
    values: np.ndarray, mean: np.ndarray, trial: np.ndarray, seed: np.ndarray, score: np.ndarray
) -> float:
    """Standard error of a trial's mean, from the residuals of a two-way model trial + seed, in the
    better half of the feasible trials: bad ones can scatter over decades of loss."""
    feasible = np.isfinite(score)
    if not feasible.any():
        return np.nan
    rows = (score >= np.median(score[feasible]))[trial]
    values, trial = values[rows], trial[rows]
    seeds, seed = np.unique(seed[rows], return_inverse=True)
    count = len(np.unique(trial))
    freedom = (count - 1) * (len(seeds) - 1)
    if freedom < 1:
        return np.nan
    offset = values - mean[trial]
    residual = offset - (np.bincount(seed, offset) / np.bincount(seed))[seed]
    return float(np.sqrt(np.square(residual).sum() / freedom / len(seeds)))


def scale_of(parameter: Parameter) -> Ordered | None:
    """How values are spaced; a list of numbers that spans a factor of 5 or more counts as `log`."""
    if isinstance(parameter, (FloatParameter, IntParameter)):
        return parameter.scale
    values = parameter.grid(2)
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return None
    low, high = bounds_of(parameter)
    return "log" if low > 0 and high / low >= 5 else "linear"


def bounds_of(parameter: Parameter) -> tuple[float, float]:
    """The smallest and the largest value, inclusive."""
    values = [float(value) for value in parameter.grid(2)]  # type: ignore[arg-type]  # numbers
    return min(values), max(values)


def _settings(
    points: pd.DataFrame, name: str, parameter: Parameter, epochs: float | None
) -> np.ndarray:
    """(K,) the values of a parameter, in the unit of the space and within its bounds."""
    if name not in points.columns:
        raise ValueError(f"the members table has no column {name}, which the space searches")
    if scale_of(parameter) is None:
        assert isinstance(parameter, ChoiceParameter)
        index = {value: i for i, value in enumerate(parameter.values)}
        indices = [index.get(None if pd.isna(v) else v, -1) for v in points[name]]
        if min(indices, default=0) < 0:
            raise ValueError(f"{name}: the members table has values that the space does not list")
        return np.array(indices)
    values = points[name].to_numpy(dtype=float, na_value=np.nan)
    if np.isnan(values).any():
        raise ValueError(f"{name}: the members table lacks values of what the space searches")
    if parameter.unit == "epochs":
        if epochs is None:
            raise ValueError(f"{name} is searched in epochs: pass epochs, the length of a run")
        values = values * epochs / points[keys.STEPS].to_numpy(dtype=float)
    if isinstance(parameter, ChoiceParameter):
        listed = np.array(parameter.values, dtype=float)
        nearest: np.ndarray = listed[np.abs(values[:, np.newaxis] - listed).argmin(axis=1)]
        return nearest
    inside: np.ndarray = np.clip(values, *bounds_of(parameter))
    return inside
