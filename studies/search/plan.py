"""What to train next: the searches of a study, and the confirmation of their winners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from dynloss_core import keys
from studies.blocks.block import Block
from studies.definition.phases import Phase
from studies.definition.study import Study
from studies.search.arm_search import ArmSearch, CurvesOf
from studies.search.confirmation import Confirmation, Winner, best_of, with_matched

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["Plan", "RecordedRows"]

RecordedRows = Callable[[Block], pd.DataFrame | None]


class _OneSearch:
    """One search of a study: every arm's, then the confirmation of its winners.

    Args:
        study: the definition, of all searches.
        number: its number, from 1.
        storage: Optuna's storage; None keeps no trials there.
        rounds: its rounds of confirmation beside the study's own; all of them, for an extended
            study.
    """

    def __init__(
        self,
        study: Study,
        number: int,
        storage: BaseStorage | None,
        rounds: Sequence[Confirmation],
        curves: CurvesOf | None,
    ) -> None:
        self.study, self.number = study.search(number), number
        self.arms = {arm: ArmSearch(study, arm, storage, number, curves) for arm in study.arms}
        self._rounds = rounds
        self._finals: list[Block] | None = None if self.study.finalists > 1 else []
        self._in_finals: dict[str, tuple[Block, pd.DataFrame | None]] = {}
        self._confirm: list[Block] | None = None
        self._confirming: set[str] = set()

    @property
    def finished(self) -> bool:
        """Whether every block has ended, trained or failed."""
        return self._searched and self._confirm == [] and not self._confirming

    @property
    def _searched(self) -> bool:
        return all(arm.finished for arm in self.arms.values())

    def next_block(self) -> Block | None:
        """The next block; None if it depends on results to come, or none is left."""
        for arm in sorted(self.arms.values(), key=lambda arm: arm.asked):
            block = arm.ask()
            if block is not None:
                return block
        if not self._searched:
            return None
        if self._finals is None:
            self._finals = self._finals_blocks()
        if self._finals:
            block = self._finals.pop(0)
            self._in_finals[block.id] = block, None
            return block
        if any(members is None for _, members in self._in_finals.values()):
            return None
        if self._confirm is None:
            self._confirm = self._confirmation()
        if not self._confirm:
            return None
        block = self._confirm.pop(0)
        self._confirming.add(block.id)
        return block

    def receive(self, block: Block, members: pd.DataFrame) -> None:
        """Take a block's members table."""
        phase = Phase.parse(block.phase)
        if phase.is_search:
            self.arms[block.arm].receive(block, members)
        elif not phase.is_fresh:
            self._in_finals[block.id] = self._in_finals[block.id][0], members
        else:
            self._confirming.discard(block.id)

    def winners(self) -> dict[str, Winner]:
        """The best point of each arm so far, or the one given."""
        if self.study.winners is not None:
            given = {
                arm: {**self.study.arm_space(arm).constants(), **point}
                for arm, point in self.study.winners.items()
            }
            return {arm: Winner(arm, 0, point, None) for arm, point in given.items()}
        best = {name: arm.best for name, arm in self.arms.items()}
        best |= self._finals_winners()
        return {name: winner for name, winner in best.items() if winner is not None}

    def _finals_blocks(self) -> list[Block]:
        """One block per arm and setting."""
        phase = str(Phase(keys.FINALS, self.study.finals, self.number))
        seeds = tuple(self.study.seeds.finals)
        return [
            Block(phase, name, index, trials, seeds)
            for name, arm in self.arms.items()
            for index, trials in enumerate(arm.finalists(self.study.finalists))
        ]

    def _finals_winners(self) -> dict[str, Winner | None]:
        """The best finalist of each arm, on the seeds of the finals alone; None where they all
        diverged. Empty until the finals are over."""
        if not self._in_finals or any(rows is None for _, rows in self._in_finals.values()):
            return {}
        winners: dict[str, Winner | None] = {}
        for block, members in self._in_finals.values():
            winners.setdefault(block.arm, None)
            best = None
            if members is not None and not members.empty:
                best = best_of(self.study, block.arm, members)
            if best is not None and winners[block.arm] is None:
                points = {trial.number: trial.point for trial in block.trials}
                winners[block.arm] = replace(best, point=points[best.trial])
        return winners

    def _confirmation(self) -> list[Block]:
        rounds = list(self._rounds)
        if self.study.has_own_round():
            rounds.insert(0, self.own_round())
        return [block for confirmation in rounds for block in confirmation.blocks()]

    def own_round(self) -> Confirmation:
        """The round that the definition asks for."""
        winners = with_matched(self.study, list(self.winners().values()))
        return Confirmation(1, tuple(self.study.seeds.fresh), winners, search=self.number)


class Plan:
    """The blocks of a study, in the order they may be trained: of the first search that has one
    ready.

    Args:
        study: the definition.
        storage: Optuna's storage; None keeps no trials there.
        recorded: the members table of a block that an earlier session finished, or None.
        rounds: rounds of confirmation beside the study's own; all rounds, for an extended study.
        curves: as in `ArmSearch`.
    """

    def __init__(
        self,
        study: Study,
        storage: BaseStorage | None,
        recorded: RecordedRows,
        rounds: Sequence[Confirmation] = (),
        curves: CurvesOf | None = None,
    ) -> None:
        self.study = study
        self.searches = tuple(
            _OneSearch(study, n, storage, [known for known in rounds if known.search == n], curves)
            for n in range(1, study.searches + 1)
        )
        self._recorded = recorded

    @property
    def finished(self) -> bool:
        """Whether every block has ended, trained or failed."""
        return all(search.finished for search in self.searches)

    def next_block(self) -> Block | None:
        """The next block to train; None if it depends on results to come, or none is left.

        Blocks that an earlier session finished are skipped, and their results used.
        """
        while (block := self._next()) is not None:
            members = self._recorded(block)
            if members is None:
                return block
            self.receive(block, members)
        return None

    def receive(self, block: Block, members: pd.DataFrame) -> None:
        """Take a block's members table; empty if it could not be trained."""
        self.searches[Phase.parse(block.phase).search - 1].receive(block, members)

    def is_complete(self) -> bool:
        """Whether nothing is left to train."""
        return self.next_block() is None and self.finished

    def own_rounds(self) -> list[Confirmation]:
        """The rounds that the definition asks for, one of each search, once all are searched."""
        return [search.own_round() for search in self.searches]

    def winners(self) -> dict[str, Winner]:
        """The best point of each arm so far, of all searches, or the one given."""
        up = keys.higher_is_better(self.study.objective)
        winners: dict[str, Winner] = {}
        for search in self.searches:
            for arm, winner in search.winners().items():
                best = winners.get(arm)
                if best is None or _is_better(winner, best, up=up):
                    winners[arm] = winner
        return winners

    def _next(self) -> Block | None:
        blocks = (search.next_block() for search in self.searches)
        return next((block for block in blocks if block is not None), None)


def _is_better(winner: Winner, other: Winner, *, up: bool) -> bool:
    """Whether a winner has the better mean; of points that were given, neither has one."""
    if winner.objective is None or other.objective is None:
        return False
    return winner.objective > other.objective if up else winner.objective < other.objective
