"""The trials of an arm's search: their points, where those are fixed beforehand, and their blocks.

They are counted from 0. Those of the search itself come first, then those that refine it, then
those of each extension.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from search_spaces import FloatParameter, IntParameter, Point
from studies.definition.samplers import SAMPLERS

if TYPE_CHECKING:
    from studies.definition.study import Study

__all__ = ["ArmDesign"]


@dataclass(frozen=True)
class ArmDesign:
    """The trials of one arm, as the definition of a study lays them out.

    Args:
        study: the study.
        arm: which of its arms.
    """

    study: Study
    arm: str

    @cached_property
    def design(self) -> list[Point] | None:
        """All points, if they are fixed beforehand; None if they are proposed."""
        study = self.study
        lay_out = SAMPLERS[study.sampler].design
        if lay_out is None:
            return None
        return lay_out(study.arm_space(self.arm), study.grid or {}, study.proposed, study.seed)

    @cached_property
    def count(self) -> int:
        """Number of trials in all."""
        if self.study.mode == "confirm":
            return 0
        tried = len(self.design) if self.design is not None else self.study.proposed
        return tried + self._refining

    @cached_property
    def settings(self) -> list[tuple[Any, ...]]:
        """The scientific settings that it is searched at, ascending: values of
        `Study.scientific`."""
        names = self.study.scientific
        design = self.design if names else None
        if design is None:
            return [()]
        settings = {tuple(point[name] for name in names) for point in design}
        return sorted(settings, key=lambda values: [(str(type(v)), v) for v in values])

    @property
    def refined(self) -> list[str]:
        """The parameters that can be refined: those with a range, which the study does not ask
        about."""
        return [
            name
            for name, parameter in self.study.arm_space(self.arm).parameters.items()
            if isinstance(parameter, (FloatParameter, IntParameter))
            and name not in self.study.scientific
            and len(parameter.grid(2)) > 1
        ]

    @property
    def refining(self) -> range:
        """The trials that refine the search."""
        return range(self._searched, self._searched + self._refining)

    @property
    def refinements(self) -> list[list[range]]:
        """The trials of each round of the refinement: two at each setting."""
        trials, settings = self.refining, len(self.settings)
        return [
            [range(start, start + 2) for start in range(begin, begin + 2 * settings, 2)]
            for begin in range(trials.start, trials.stop, 2 * settings)
        ]

    @property
    def block_size(self) -> int:
        """Trials per block; 1 until `block_size: auto` was measured."""
        size = self.study.block_size
        return self.study.block_sizes.get(self.arm, 1) if size == "auto" else size

    @property
    def blocks(self) -> list[range]:
        """The trials of each block; refinement and every extension begin a new one."""
        size, extensions = self.block_size, self.study.extensions
        ends = [self.count - sum(extensions[k:]) for k in range(len(extensions) + 1)]
        parts = [(0, self._searched), *itertools.pairwise(ends)]
        searched, *extended = [
            [range(start, min(start + size, end)) for start in range(begin, end, size)]
            for begin, end in parts
        ]
        refining = itertools.chain(*self.refinements)
        return [*searched, *refining, *itertools.chain(*extended)]

    @cached_property
    def _refining(self) -> int:
        """Number of trials that refine the search."""
        return self.study.refine * len(self.settings) if self.refined else 0

    @property
    def _searched(self) -> int:
        """Number of trials of the search itself, without refinement and extensions."""
        return self.count - self._refining - sum(self.study.extensions)
