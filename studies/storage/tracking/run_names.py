"""What the runs of trials are called where people read them: `d35 T=3934 A=22.9 lr=1.16`."""

from __future__ import annotations

from functools import cache

from dynloss_core import keys
from search_spaces import Point
from studies.blocks.block import Block
from studies.definition.study import Study

__all__ = ["RunNames"]

_SYMBOLS = {
    keys.PERIOD: "T",
    keys.AMPLITUDE: "A",
    keys.LEARNING_RATE: "lr",
    keys.MOMENTUM: "m",
    keys.WEIGHT_DECAY: "wd",
}
_MAX_CHARACTERS = 200  # MLflow keeps 250


class RunNames:
    """Names the runs of a study's trials.

    Args:
        study: the study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._searched = cache(lambda arm: tuple(study.arm_space(arm).searched()))

    def of(self, block: Block, number: int, point: Point) -> str:
        """The name of a trial's run: phase, if it is not the first search; arm and number; the
        values that the arm searches, or all of them if it searches none."""
        names = [name for name in self._searched(block.arm) if name in point] or point
        values = [f"{_symbol(name)}={_brief(point[name])}" for name in names]
        arm = self._initial(block.arm)
        trial = f"{arm}{number}" if len(arm) == 1 else f"{arm} {number}"
        phases = [] if block.phase == keys.SEARCH else [block.phase]
        return " ".join([*phases, trial, *values])[:_MAX_CHARACTERS]

    def _initial(self, arm: str) -> str:
        """The first letter of an arm of the study if no other begins with it, else the arm."""
        return arm[:1] if [a for a in self._study.arms if a[:1] == arm[:1]] == [arm] else arm


def _symbol(name: str) -> str:
    """The letter that papers give a parameter, or its name without its owner."""
    return _SYMBOLS.get(name, name.rpartition(".")[2])


def _brief(value: object) -> str:
    """A value with three digits; a whole number in full."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
