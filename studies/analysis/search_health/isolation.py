"""Isolation: the best objective at each value of one parameter, all others optimised away.

Symbols: V values of a parameter that a design lists, or bins of scattered ones; u in [0, 1] the
position of a value between the bounds along the parameter's scale.

After the isolation plots of Godbole, Dahl, Gilmer, Shallue and Nado (2023), Deep Learning Tuning
Playbook, "Understanding the impact of a particular hyperparameter", which also asks whether the
best point lies near the boundary of the space. The best of many trials looks better than it is, the
more so the more trials a bin holds: the intervals are those of single trials and ignore that the
trials were selected. Parameters of the problem (`model.width`) are optimised away like the others:
for a question about one width, pass the rows and the narrowed space of that width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from dynloss_core import keys
from dynloss_core.config import ConfigError
from search_spaces import ChoiceParameter, IntParameter, Parameter, Space
from studies.analysis.search_health.arm_trials import ArmTrials, Ordered, along, bounds_of, scale_of

__all__ = ["Isolation", "NearBound", "isolate", "near_bounds"]

LEVEL = 0.95  # of the intervals
NEAR = 0.05  # of the length of the scale
_MIN_TRIED = 3  # the best of two values is always at an end
_MAX_SHOWN_VALUES = 50  # shown one by one
_TRIALS_A_BIN = 5
_TIE = 1e-9  # relative


@dataclass(frozen=True, eq=False)
class Isolation:
    """The best trial of an arm at each value, or in each bin, of one parameter.

    Args:
        arm: `dynamical` or `static`.
        parameter: its name.
        unit: `steps` or `epochs` for a period, else None.
        scale: how the values are spaced; None for a choice without an order.
        binned: whether each entry is a bin of scattered values rather than a value.
        values: (V,) the value; for a bin, that of its best trial, NaN if it has none.
        edges: (V + 1,) edges of the bins, or around the values; around the indices if `scale` is
            None.
        trials: (V,) number of trials.
        infeasible: (V,) number of infeasible trials among them.
        best: (V,) number of the best trial, the first if tied; -1 if none is feasible.
        mean: (V,) its objective, mean over seeds; NaN without a best trial.
        low: (V,) lower end of the t interval of that mean over seeds; NaN with one seed.
        high: (V,) upper end.
        n: (V,) number of its seeds; 0 without a best trial.
    """

    arm: str
    parameter: str
    unit: str | None
    scale: Ordered | None
    binned: bool
    values: tuple[object, ...]
    edges: np.ndarray
    trials: np.ndarray
    infeasible: np.ndarray
    best: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray


@dataclass(frozen=True)
class NearBound:
    """The best trial of an arm has a value near a bound of the space.

    Args:
        arm: `dynamical` or `static`.
        parameter: its name.
        unit: `steps` or `epochs` for a period, else None.
        value: the value of the best trial.
        bound: the bound that it is near.
        side: the side of the bound.
        listed: whether the value is an end of a list rather than near a bound of a range.
    """

    arm: str
    parameter: str
    unit: str | None
    value: float
    bound: float
    side: Literal["lower", "upper"]
    listed: bool

    def sentence(self) -> str:
        """Which value is near which bound, and what to do."""
        unit = f" {self.unit}" if self.unit else ""
        best = f"{self.arm}: the best {self.parameter}, {_number(self.value)}{unit}, is"
        if self.listed:
            end, beyond = ("smallest", "smaller") if self.side == "lower" else ("largest", "larger")
            return f"{best} the {end} value listed: add {beyond} ones and search again"
        where = f"at the {self.side} bound"
        if not math.isclose(self.value, self.bound):
            where = (
                f"within {NEAR:.0%} of the range from its {self.side} bound, {_number(self.bound)}"
            )
        verb = "lower" if self.side == "lower" else "raise"
        return f"{best} {where}: widen the range ({verb} that bound) and search again"


def isolate(trials: ArmTrials, space: Space) -> list[Isolation]:
    """The isolation of every parameter of an arm that varies."""
    return [_isolate(trials, name, space.parameters[name]) for name in trials.settings]


def near_bounds(trials: ArmTrials, space: Space) -> list[NearBound]:
    """The parameters whose best value is near a bound that can be moved.

    Near means within 5% of the length of the scale, or at the end of a list of numbers. Not
    reported: the best of fewer than three values tried, which is at an end anyway; a best value
    with an equally good trial further inside; a bound that follows from the parameter's meaning
    (amplitude 1 is the static loss); and a scientific parameter of the problem (`model.width`),
    which is a condition of the study, not a setting to tune.
    """
    bounds = []
    best = trials.best()
    for name, values in trials.settings.items():
        parameter = space.parameters[name]
        scale = scale_of(parameter)
        scientific = "." in name and parameter.role == "scientific"
        if scientific or scale is None or not best.size or np.unique(values).size < _MIN_TRIED:
            continue
        low, high = bounds_of(parameter)
        listed = isinstance(parameter, ChoiceParameter)
        margin = 0.0 if listed else NEAR
        u = along(values[best], low, high, scale)
        if ((u > margin + _TIE) & (u < 1 - margin - _TIE)).any():
            continue
        side: Literal["lower", "upper"] = "lower" if u[0] < 0.5 else "upper"
        if _can_widen(space, name, side):
            bound = low if side == "lower" else high
            value = float(values[best[0]])
            bounds.append(NearBound(trials.arm, name, parameter.unit, value, bound, side, listed))
    return bounds


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _isolate(trials: ArmTrials, name: str, parameter: Parameter) -> Isolation:
    settings = trials.settings[name]
    values, edges, place = _places(parameter, settings)
    count = len(edges) - 1
    best = _best_of_each(trials.score, place, count)
    known = best >= 0
    n = np.where(known, trials.n[best], 0)
    mean = np.where(known, trials.mean[best], np.nan)
    half = np.where(known, trials.sem[best], np.nan)
    half = half * stats.t.isf((1 - LEVEL) / 2, np.maximum(n - 1, 1))
    return Isolation(
        arm=trials.arm,
        parameter=name,
        unit=parameter.unit,
        scale=scale_of(parameter),
        binned=values is None,
        values=tuple(np.where(known, settings[best], np.nan).tolist())
        if values is None
        else values,
        edges=edges,
        trials=np.bincount(place, minlength=count),
        infeasible=np.bincount(place, trials.infeasible, minlength=count).astype(int),
        best=np.where(known, trials.number[best], -1),
        mean=mean,
        low=mean - half,
        high=mean + half,
        n=n,
    )


def _places(
    parameter: Parameter, settings: np.ndarray
) -> tuple[tuple[object, ...] | None, np.ndarray, np.ndarray]:
    """The V values (None for bins), their edges (V + 1,), and the index of each trial's (K,)."""
    scale = scale_of(parameter)
    if scale is None:
        assert isinstance(parameter, ChoiceParameter)
        return parameter.values, np.arange(len(parameter.values) + 1) - 0.5, settings
    values = _listed(parameter, settings)
    if values is not None:
        return tuple(values.tolist()), _around(values, scale), np.searchsorted(values, settings)
    bins = int(np.clip(len(settings) // _TRIALS_A_BIN, 3, 12))
    edges = (np.geomspace if scale == "log" else np.linspace)(*bounds_of(parameter), bins + 1)
    return None, edges, np.clip(np.searchsorted(edges, settings, side="right") - 1, 0, bins - 1)


def _best_of_each(score: np.ndarray, place: np.ndarray, count: int) -> np.ndarray:
    """(count,) index of the best trial at each place, the first if tied; -1 if none is feasible."""
    order = np.lexsort((-score, place))  # stable
    places, first = np.unique(place[order], return_index=True)
    best = np.full(count, -1)
    best[places] = np.where(np.isneginf(score[order[first]]), -1, order[first])
    return best


def _listed(parameter: Parameter, settings: np.ndarray) -> np.ndarray | None:
    """The values that a design lists, ascending; None if the settings are scattered."""
    if isinstance(parameter, ChoiceParameter):
        return np.sort(np.array(parameter.values, dtype=float))
    values = np.unique(settings)
    if len(values) > _MAX_SHOWN_VALUES:
        return None
    grid = np.array(parameter.grid(len(values)), dtype=float)  # shorter where integers coincide
    on_grid = 1 < len(values) == len(grid) and np.allclose(values, grid)
    return values if on_grid or 2 * len(values) <= len(settings) else None


def _around(values: np.ndarray, scale: Ordered) -> np.ndarray:
    """(V + 1,) edges halfway between V values along the scale."""
    edges: np.ndarray
    at = np.log(values) if scale == "log" else values
    if len(at) == 1:
        edges = at[0] + np.array([-0.5, 0.5]) * (abs(at[0]) if scale == "linear" and at[0] else 1.0)
    else:
        middles = (at[1:] + at[:-1]) / 2
        edges = np.concatenate([[2 * at[0] - middles[0]], middles, [2 * at[-1] - middles[-1]]])
    if scale == "log":
        edges = np.exp(edges)
    return edges


def _can_widen(space: Space, name: str, side: Literal["lower", "upper"]) -> bool:
    """Whether the space accepts a value just beyond its bound."""
    parameter = space.parameters[name]
    low, high = bounds_of(parameter)
    in_steps = name == keys.PERIOD and parameter.unit != "epochs"
    whole = in_steps or isinstance(parameter, IntParameter)
    away = 1.0 if whole else 1e-6 * (min(high - low, low) if low > 0 else high - low)
    beyond = low - away if side == "lower" else high + away
    number = int(beyond) if whole and beyond == int(beyond) else beyond
    wider: Parameter
    try:
        if isinstance(parameter, ChoiceParameter):
            wider = replace(parameter, values=(*parameter.values, number))
        else:
            end = {"low" if side == "lower" else "high": number}
            wider = replace(parameter, **end)  # type: ignore[arg-type]  # a range
        replace(space, parameters={**space.parameters, name: wider})
    except ConfigError:
        return False
    return True
