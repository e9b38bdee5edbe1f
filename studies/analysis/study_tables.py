"""The tables of a study, cut into the rows that its analyses ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd
from pandas.api.types import is_numeric_dtype

from dynloss_core import keys
from studies.analysis.question import Question
from studies.definition.arms import Pair, against_reference
from studies.definition.early_stopping import is_stopped

__all__ = ["Tables"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Tables:
    """What an analysis is made from.

    Args:
        members: the members table, of at least one network.
        curves: the curves table; may be empty.
        question: what the tables alone do not tell.
        recorded: what was recorded beside them, by kind (see `studies.blocks.recorder.KINDS`).
    """

    members: pd.DataFrame
    curves: pd.DataFrame
    question: Question
    recorded: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    _known: dict[Callable[[Tables], Any], Any] = field(default_factory=dict, init=False)

    def once(self, result_of: Callable[[Tables], T]) -> T:
        """A result that several analyses rest on, computed for the first of them."""
        if result_of not in self._known:
            self._known[result_of] = result_of(self)
        known: T = self._known[result_of]
        return known

    @cached_property
    def of_pairs(self) -> list[Tables]:
        """The tables of each pair of arms alone; these themselves if there is no other arm, or if
        no arms are compared."""
        pairs = self.question.pairs
        if not pairs or set(self.question.spaces) <= set(pairs[0]):
            return [self]
        return [self._of(pair) for pair in pairs]

    @property
    def against_reference(self) -> list[Tables]:
        """Those of the pairs that share the first one's reference."""
        shared = against_reference(self.question.pairs) or [self.question.pair]
        return [each for each in self.of_pairs if each.question.pair in shared]

    def _of(self, pair: Pair) -> Tables:
        spaces = {arm: space for arm, space in self.question.spaces.items() if arm in pair}
        return Tables(
            _rows_of(pair, self.members),
            _rows_of(pair, self.curves),
            replace(self.question, pairs=(pair,), spaces=spaces),
            {kind: _rows_of(pair, table) for kind, table in self.recorded.items()},
        )

    @cached_property
    def tried(self) -> pd.DataFrame:
        """Rows of the search. Of trials that were stopped early only its health is told: everything
        else is about the end of training."""
        return self.members[self.members[keys.PHASE] == keys.SEARCH]

    @cached_property
    def trained(self) -> pd.DataFrame:
        """Rows of the networks that were not stopped early."""
        return self.members[~is_stopped(self.members)]

    @cached_property
    def search(self) -> pd.DataFrame:
        """Those of the search among them."""
        return self.trained[self.trained[keys.PHASE] == keys.SEARCH]

    @cached_property
    def rounds(self) -> dict[str, pd.DataFrame]:
        """Rounds of confirmation in their order, by phase; one that has no pair yet only if there
        is no other."""
        members = self.trained
        phases = [str(each) for each in members[keys.PHASE].unique() if each != keys.SEARCH]
        phases.sort(key=lambda each: int(each.partition("-")[2] or 1))
        rounds = {phase: members[members[keys.PHASE] == phase] for phase in phases}
        paired = {name: rows for name, rows in rounds.items() if rows[keys.ARM].nunique() > 1}
        return paired or rounds

    @property
    def phase(self) -> str | None:
        """The latest of those rounds; None if there is none."""
        return next(reversed(self.rounds), None)

    @property
    def confirm(self) -> pd.DataFrame:
        """Rows of the latest round, and of those before it that reran the same winners."""
        return self.trained.iloc[:0] if self.phase is None else self.up_to(self.phase)

    def up_to(self, phase: str) -> pd.DataFrame:
        """Rows of a round, and of those before it that reran the same winners: other fresh seeds of
        the same comparison."""
        phases = list(self.rounds)
        rounds = [self.rounds[each] for each in phases[: phases.index(phase) + 1]]
        winners = [set(zip(each[keys.ARM], each[keys.TRIAL], strict=True)) for each in rounds]
        same = [rows for rows, own in zip(rounds, winners, strict=True) if own == winners[-1]]
        return pd.concat(same) if len(same) > 1 else same[0]

    def look(self, phase: str) -> int:
        """The number of a round, from 1: how often was looked at fresh seeds by then."""
        return list(self.rounds).index(phase) + 1

    @property
    def sizes(self) -> list[str]:
        """Scientific parameters that set a size of the network."""
        return [name for name in self.question.scientific if is_numeric_dtype(self.trained[name])]

    @property
    def size(self) -> str | None:
        """The first of them; None if the study has one size."""
        return next(iter(self.sizes), None)


def _rows_of(pair: Pair, table: pd.DataFrame) -> pd.DataFrame:
    return table[table[keys.ARM].isin(pair)] if keys.ARM in table else table
