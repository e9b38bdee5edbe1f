"""A narrower space from what past studies found: the ranges of each arm's best trials.

Each arm keeps a range of its own. If the static arm had to search where the dynamical one was best,
it would stand beside its optimum, and lose for that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ConfigError
from search_spaces import FloatParameter, IntParameter, Parameter, Space

__all__ = ["narrowed"]

_MIN_TRIALS = 3  # trials that a range is taken from


def narrowed(
    space: Space,
    trials: Mapping[str, pd.DataFrame],
    objective: keys.Objective,
    top: float,
    arms: tuple[str, str] = (keys.DYNAMICAL, keys.STATIC),
) -> Space:
    """A space narrowed to where the best trials lie.

    Parameters without a range, those that trials do not have, and a period in epochs, which trials
    have in steps, stay as they are.

    Args:
        space: the space.
        trials: one row per searched trial, by study: its arm, its point, the mean objective; trials
            that diverged are left out.
        objective: the objective, by which trials of one study are ranked.
        top: the share of each arm's trials to keep, of each study.
        arms: the arm that the space is for, and the one that its `baseline` makes.

    Raises:
        ConfigError: if an arm has fewer than three such trials.
    """
    best = {arm: _best(trials, arm, objective, top) for arm in arms}
    parameters = {
        name: _limited(parameter, best[arms[0]].get(name))
        for name, parameter in space.parameters.items()
    }
    kept = {
        name: _limited(parameter, best[arms[1]].get(name))
        for name, parameter in space.static().parameters.items()
        if isinstance(parameter, (FloatParameter, IntParameter))
    }
    counts = ", ".join(f"{len(rows)} {arm}" for arm, rows in best.items())
    origin = f"Narrowed from {space.name} to the best {top:.0%} of {', '.join(trials)} ({counts})."
    return replace(
        space,
        name=f"{space.name}-narrowed",
        description=f"{space.description} {origin}".strip(),
        parameters=parameters,
        baseline=replace(space.baseline, search={**space.baseline.search, **kept}),
        points=(),
    )


def _best(
    trials: Mapping[str, pd.DataFrame], arm: str, objective: keys.Objective, top: float
) -> pd.DataFrame:
    """The best trials of an arm, of each study."""
    ascending = not keys.higher_is_better(objective)
    kept = []
    for table in trials.values():
        rows = table[table[keys.ARM] == arm].sort_values(objective, ascending=ascending)
        kept.append(rows.head(max(1, math.ceil(top * len(rows)))))
    best = pd.concat(kept)
    if len(best) < _MIN_TRIALS:
        problem = f"the best {top:.0%} are {len(best)} trials of {arm} that did not diverge"
        remedy = f"a range needs {_MIN_TRIALS}: keep more, or give further studies with --from"
        raise ConfigError("--top", problem, remedy)
    return best


def _limited(parameter: Parameter, values: Sequence[Any] | pd.Series | None) -> Any:
    """A parameter with the range of some values, as far as it lies in its own."""
    if values is None or not isinstance(parameter, (FloatParameter, IntParameter)):
        return parameter
    known = pd.Series(values).dropna()  # a study may lack the parameter
    if known.empty or parameter.unit == "epochs":
        return parameter
    low, high = max(parameter.low, known.min()), min(parameter.high, known.max())
    if not low < high:
        return parameter
    if isinstance(parameter, IntParameter):
        return replace(parameter, low=int(low), high=int(high))
    return replace(parameter, low=float(low), high=float(high))
