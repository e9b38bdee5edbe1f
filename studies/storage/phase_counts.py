"""What each phase of a study has done, counted as its blocks end."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from dynloss_core import keys
from studies.definition.early_stopping import is_stopped
from studies.definition.phases import Phase
from studies.definition.study import Study
from studies.search.confirmation import Confirmation
from studies.storage.block_counts import ArmCounts, counts_of_rows
from studies.storage.status_file import PhaseStatus

__all__ = ["CountedRow", "PhaseCounts", "counted_rows", "counts_of_block"]


class CountedRow(NamedTuple):
    """What is counted of a row of a members table.

    Args:
        phase: its phase.
        arm: its arm.
        trial: its trial.
        value: the objective.
        diverged: whether the network diverged.
        stopped: whether its trial was stopped early.
    """

    phase: str
    arm: str
    trial: int
    value: float
    diverged: bool
    stopped: bool


@dataclass
class _Trial:
    """A trial of a search so far."""

    total: float = 0.0
    networks: int = 0
    diverged: bool = False
    stopped: bool = False

    @property
    def mean(self) -> float:
        """Mean objective; NaN if it does not count."""
        lost = self.diverged or self.stopped or not self.networks
        return math.nan if lost else self.total / self.networks


def counted_rows(members: pd.DataFrame, objective: str) -> list[CountedRow]:
    """What is counted of each row of a members table; none if its block failed."""
    if members.empty:
        return []
    columns = (keys.PHASE, keys.ARM, keys.TRIAL, objective, keys.DIVERGED)
    read = [members[column].tolist() for column in columns]
    return list(map(CountedRow, *read, is_stopped(members).tolist()))


def counts_of_block(rows: Iterable[CountedRow], objective: str) -> ArmCounts:
    """The counts of a block; empty if it failed."""
    return counts_of_rows((row[2:] for row in rows), objective)


class PhaseCounts:
    """Counts the networks of a study.

    Args:
        study: the study.
        rounds: rounds of confirmation that its definition does not ask for.
    """

    def __init__(self, study: Study, rounds: Sequence[Confirmation] = ()) -> None:
        self._study = study
        self._networks: Counter[tuple[str, str]] = Counter()  # by phase and arm
        self._trials: defaultdict[tuple[str, str], dict[int, _Trial]] = defaultdict(dict)
        self._rounds = {
            (confirmation.phase, arm): sum(
                len(block.seeds) for block in confirmation.blocks() if block.arm == arm
            )
            for confirmation in rounds
            for arm in dict.fromkeys(winner.arm for winner in confirmation.winners)
        }

    @property
    def networks(self) -> int:
        """How many were added."""
        return self._networks.total()

    def add(self, rows: Iterable[CountedRow]) -> None:
        """Add rows of the members table."""
        for row in rows:
            self._networks[row.phase, row.arm] += 1
            if not Phase.parse(row.phase).is_search:
                continue
            trial = self._trials[row.phase, row.arm].setdefault(row.trial, _Trial())
            trial.diverged |= row.diverged
            trial.stopped |= row.stopped
            if row.value == row.value:  # a mean leaves out what is not a number
                trial.total += row.value
                trial.networks += 1

    def phases(self) -> tuple[PhaseStatus, ...]:
        """One entry per phase and arm."""
        return tuple(self._phases())

    def _phases(self) -> Iterator[PhaseStatus]:
        study, done = self._study, self._networks
        for number in range(1, study.searches + 1):
            if study.mode != "confirm":
                phase = str(Phase(keys.SEARCH, search=number))
                for arm in study.arms:
                    yield self._search(phase, arm)
            if study.finalists > 1:
                phase = str(Phase(keys.FINALS, study.finals, number))
                wanted = study.finalists * len(study.seeds.finals)
                for arm in study.arms:
                    most = wanted * len(study.trials_of(arm).settings)
                    yield PhaseStatus(phase, arm, done[phase, arm], most, "networks")
            if study.has_own_round():
                phase = str(Phase(keys.CONFIRM, search=number))
                for arm in study.confirmed_arms:
                    wanted = study.confirm_seeds
                    yield PhaseStatus(phase, arm, done[phase, arm], wanted, "networks")
        for (phase, arm), wanted in self._rounds.items():
            yield PhaseStatus(phase, arm, done[phase, arm], wanted, "networks")

    def _search(self, phase: str, arm: str) -> PhaseStatus:
        trials = self._trials[phase, arm].values()
        means = [trial.mean for trial in trials if not math.isnan(trial.mean)]
        choose = max if keys.higher_is_better(self._study.objective) else min
        return PhaseStatus(
            phase=phase,
            arm=arm,
            done=len(trials),
            wanted=self._study.trials_of(arm).count,
            unit="trials",
            diverged=sum(trial.diverged for trial in trials),
            stopped=sum(trial.stopped for trial in trials),
            best=choose(means, default=None),
        )
