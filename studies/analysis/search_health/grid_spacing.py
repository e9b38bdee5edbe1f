"""Whether the values tried around an arm's best are too far apart to find its optimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search_spaces import Space
from studies.analysis.search_health.arm_trials import ArmTrials, along, bounds_of, scale_of
from studies.analysis.search_health.isolation import NEAR

__all__ = ["CoarseGrid", "too_coarse"]

_MIN_TRIED = 3  # two values say nothing about what lies between them


@dataclass(frozen=True)
class CoarseGrid:
    """The objective changes by more than the margin from an arm's best value to the next one tried,
    so a value in between may be better by as much.

    Args:
        arm: the name of the arm.
        parameter: the only parameter that varies.
        value: its value in the best trial.
        next_value: the neighbouring value at which the objective changes most.
        change: how much worse the objective is there, in its own unit.
        margin: the margin of equivalence.
    """

    arm: str
    parameter: str
    value: float
    next_value: float
    change: float
    margin: float

    def sentence(self) -> str:
        """What was found, and what to do."""
        return (
            f"{self.arm}: from the best {self.parameter}, {self.value:.4g}, to the next one tried, "
            f"{self.next_value:.4g}, the objective changes by {self.change:.3g}, more than the "
            f"margin of {self.margin:g}: the optimum may lie in between; search more finely there"
        )


def too_coarse(trials: ArmTrials, space: Space, margin: float | None) -> list[CoarseGrid]:
    """At most one, for an arm that varies a single ordered parameter. With several parameters,
    neighbours seldom agree in all others, so nothing is said."""
    varied = [
        (name, values) for name, values in trials.settings.items() if np.unique(values).size > 1
    ]
    if margin is None or len(varied) != 1:
        return []
    ((name, values),) = varied
    parameter = space.parameters[name]
    scientific = "." in name and parameter.role == "scientific"
    known = np.isfinite(trials.score)
    if scientific or scale_of(parameter) is None or np.unique(values[known]).size < _MIN_TRIED:
        return []
    levels = np.unique(values[known])
    score = np.array([trials.score[known & (values == level)].max() for level in levels])
    best = int(score.argmax())
    scale = scale_of(parameter)
    assert scale is not None
    apart = np.abs(np.diff(along(levels, *bounds_of(parameter), scale))) > NEAR
    beside = [place for place in (best - 1, best + 1) if 0 <= place < len(levels)]
    beside = [place for place in beside if apart[min(place, best)]]
    if not beside:  # between values so close, changes are due to the seeds
        return []
    worst = min(beside, key=lambda place: float(score[place]))
    change = float(score[best] - score[worst])
    if change <= margin:
        return []
    return [CoarseGrid(trials.arm, name, float(levels[best]), float(levels[worst]), change, margin)]
