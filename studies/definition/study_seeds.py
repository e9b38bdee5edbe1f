"""The seeds of a study: its search, its finals and its rounds of confirmation share none, and
neither do two studies whose seeds differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studies.definition.study import Study

__all__ = ["SEEDS_PER_STUDY", "MAX_SEEDS_PER_PHASE", "StudySeeds"]

SEEDS_PER_STUDY = 100_000
"""Seeds that belong to a study of one search, from `seed` times as many on."""

_FIRST_OF_FINALS = 25_000
_FIRST_FRESH = 50_000

MAX_SEEDS_PER_PHASE = _FIRST_OF_FINALS
"""That a search, a final or a round of confirmation can have."""


@dataclass(frozen=True)
class StudySeeds:
    """The seeds that follow from the definition of a study.

    Args:
        study: the study.
    """

    study: Study

    @property
    def search(self) -> list[int]:
        """Seeds of the search; all arms and all points share them."""
        return self._from(0, self.study.seeds_per_point)

    @property
    def finals(self) -> list[int]:
        """Seeds of the finals, which no search has seen, and which confirm nothing."""
        return self._from(_FIRST_OF_FINALS, self.study.finalist_seeds or self.study.confirm_seeds)

    @property
    def fresh(self) -> list[int]:
        """The fresh seeds of the confirmation that the definition asks for."""
        return self._from(_FIRST_FRESH, self.study.confirm_seeds)

    @property
    def first_fresh(self) -> int:
        """The first seed that no search of this study has seen."""
        return self.study.seed * SEEDS_PER_STUDY + _FIRST_FRESH

    @property
    def fresh_seed_capacity(self) -> int:
        """Number of fresh seeds that a study may use."""
        return SEEDS_PER_STUDY - _FIRST_FRESH

    @property
    def of_searches(self) -> list[int]:
        """All of these, of every search."""
        searches = [self.study.search(k).seeds for k in range(1, self.study.searches + 1)]
        return [seed for seeds in searches for seed in (*seeds.search, *seeds.finals, *seeds.fresh)]

    def _from(self, first: int, count: int) -> list[int]:
        return [self.study.seed * SEEDS_PER_STUDY + first + index for index in range(count)]
