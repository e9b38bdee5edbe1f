"""What to train next: Optuna proposes points by ask/tell, and the plan hands them out in blocks.

Nothing here knows Ray. Proposals are repeatable: each trial has its own sampler seed, and a block
is asked for only once the results of all blocks of its arm but the last `parallel_blocks` are in,
told in order. What is proposed, and what a trial must reach not to be stopped early, then depends
on the study file alone, never on which block happened to finish first, and a resumed search
continues exactly as an uninterrupted one would.

Proposals are made in memory, so that no sampler rereads the storage for every one of them. A trial
enters the storage when its block is told, complete and in its final state. So no trial is left
RUNNING there, and one that was in flight when a driver was killed is proposed again, the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from zlib import crc32

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from dynloss_core import keys
from dynloss_core.config import ConfigError
from search_spaces import Point
from studies.blocks.block import Block, Trial
from studies.definition.early_stopping import (
    is_stopped,
    rung_columns,
    rung_steps,
    thresholds,
    trial_means,
)
from studies.definition.samplers import SAMPLERS
from studies.definition.study import Study
from studies.search.confirmation import Confirmation, Winner

__all__ = ["ArmSearch", "Plan"]

_ARM_CODE = {keys.DYNAMICAL: 0, keys.STATIC: 1}  # part of every proposal: never renumber
_NAMED = 2  # code of every other arm, beside a number made from its name
_PROPOSALS = "proposals"

Recorded = Callable[[Block], pd.DataFrame | None]


class ArmSearch:
    """The search of one arm: an Optuna study, asked and told block by block, in order.

    Args:
        study: the definition.
        arm: the name of the arm.
        storage: Optuna's storage; the arm's study there is called `<name>/<arm>`.
    """

    def __init__(self, study: Study, arm: str, storage: optuna.storages.BaseStorage) -> None:
        self.study, self.arm = study, arm
        self.space = study.arm_space(arm)
        self._design = study.design(arm)
        self._waits = self._design is None or study.early_stopping is not None
        self._blocks = study.search_blocks(arm)
        ends = itertools.accumulate((study.trials_per_arm or 0, *study.extensions))
        self._extensions = set(ends)  # first trials of extensions
        self._asked = 0  # blocks handed out
        self._told = 0  # blocks told to Optuna
        self._results: dict[int, pd.DataFrame] = {}
        self._points: dict[int, Point] = {}
        self._asked_at: dict[int, datetime] = {}
        self._best: Winner | None = None
        up = keys.higher_is_better(study.objective)
        direction: Literal["maximize", "minimize"] = "maximize" if up else "minimize"
        self._memory = optuna.storages.InMemoryStorage()
        self._proposals = optuna.create_study(
            storage=self._memory, study_name=_PROPOSALS, direction=direction
        )
        self.optuna = optuna.create_study(
            study_name=f"{study.name}/{arm}",
            storage=storage,
            direction=direction,
            load_if_exists=True,
        )
        self._stored = self.optuna.get_trials(deepcopy=False)
        if not all(trial.state.is_finished() for trial in self._stored):
            problem = f"Optuna's storage holds trials of {study.name} that never ended"
            raise ConfigError("", problem, "it was begun by an older version: choose another --out")
        if not self._stored:
            for key, value in {
                "dynloss_study": study.hash,
                "space_hash": self.space.hash,
                "optuna_version": optuna.__version__,
                "sampler": study.sampler,
            }.items():
                self.optuna.set_user_attr(key, value)

    @property
    def blocks(self) -> int:
        """Number of blocks in the whole search."""
        return len(self._blocks)

    @property
    def asked(self) -> int:
        """Number of blocks handed out so far."""
        return self._asked

    @property
    def finished(self) -> bool:
        """Whether every block has been told."""
        return self._told == self.blocks

    def ask(self) -> Block | None:
        """The next block; None if all are handed out, or it depends on results to come."""
        if self._asked == self.blocks:
            return None
        numbers = self._blocks[self._asked]
        needed = max(self._asked + 1 - self.study.parallel_blocks, 0)
        if numbers.start in self._extensions:
            needed = self._asked
        if self._waits:
            if not all(index in self._results for index in range(self._told, needed)):
                return None
            self._tell_up_to(needed)
        trials = tuple(Trial(number, self._point(number)) for number in numbers)
        self._points.update((trial.number, trial.point) for trial in trials)
        seeds = tuple(self.study.search_seeds())
        limits = self._thresholds(needed)
        block = Block(keys.SEARCH, self.arm, self._asked, trials, seeds, limits)
        self._asked += 1
        return block

    def receive(self, block: Block, members: pd.DataFrame) -> None:
        """Take a block's members table; empty if it could not be trained."""
        self._results[block.index] = members
        if not self._waits or self._asked == self.blocks:
            ready = self._told
            while ready in self._results:
                ready += 1
            self._tell_up_to(ready)

    def best(self) -> Winner | None:
        """The best completed point so far, the earliest of equals; None before there is one."""
        return self._best

    def _thresholds(self, blocks: int) -> tuple[float | None, ...]:
        """What trials must reach, from the results of the first blocks; empty without the rule."""
        rule = self.study.early_stopping
        if rule is None:
            return ()
        earlier = [self._results[index] for index in range(blocks)]
        return thresholds(rule, earlier, self.study.objective)

    def _point(self, number: int) -> Point:
        self._asked_at[number] = datetime.now()
        return self._propose(number) if self._design is None else self._design[number]

    def _propose(self, number: int) -> Point:
        """The point of a trial, as an earlier session stored it, else newly proposed."""
        if number < len(self._stored):
            known = self._stored[number]
            self._proposals.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING, params=known.params, distributions=known.distributions
                )
            )
            return self.space.suggest(optuna.trial.FixedTrial(known.params, number))  # type: ignore[arg-type]
        sampler = SAMPLERS[self.study.sampler].proposes
        assert sampler is not None, "there is a design"
        if number < len(self.space.points):  # a start point
            start = self.space.points[number]
            searched = {n: v for n, v in start.items() if n in self.space.searched()}
            self._proposals.enqueue_trial(searched)
        self._proposals.sampler = sampler(self._seed_of(number))
        trial = self._proposals.ask()
        if trial.number != number:
            raise RuntimeError(f"Optuna gave trial {trial.number} for {number}")
        return self.space.suggest(trial)

    def _seed_of(self, number: int) -> int:
        code = (
            [_ARM_CODE[self.arm]] if self.arm in _ARM_CODE else [_NAMED, crc32(self.arm.encode())]
        )
        entropy = np.random.SeedSequence([self.study.seed, *code, number])
        return int(entropy.generate_state(1)[0])

    def _tell_up_to(self, end: int) -> None:
        while self._told < end:
            self._tell(self._told)

    def _tell(self, index: int) -> None:
        """Tell Optuna every trial of a block: COMPLETE with the mean over seeds, PRUNED if it was
        stopped early, or FAIL."""
        members = self._results[index]
        by_trial = {} if members.empty else dict(iter(members.groupby(keys.TRIAL)))
        for number in self._blocks[index]:
            if members.empty:
                error = {"error": "the block could not be trained"}
                self._tell_trial(number, TrialState.FAIL, error)
                continue
            rows = by_trial[number]
            values = [float(value) for value in rows[self.study.objective]]
            at_rungs = self._rung_means(number, rows)
            if bool(rows[keys.DIVERGED].any()):
                attributes = {"values": values, keys.DIVERGED: True}
                self._tell_trial(number, TrialState.FAIL, attributes, at_rungs=at_rungs)
            elif bool(is_stopped(rows).any()):
                attributes = {keys.STOPPED_STEP: int(rows[keys.STOPPED_STEP].max())}
                self._tell_trial(number, TrialState.PRUNED, attributes, at_rungs=at_rungs)
            else:
                mean = float(np.mean(values))
                self._tell_trial(number, TrialState.COMPLETE, {"values": values}, mean, at_rungs)
        if self.study.early_stopping is None:  # otherwise thresholds need them
            del self._results[index]
        self._told += 1

    def _rung_means(self, number: int, rows: pd.DataFrame) -> dict[int, float]:
        """The values of a trial at the rungs where it was compared, by step."""
        rule = self.study.early_stopping
        if rule is None:
            return {}
        means = trial_means(rows, rule)
        rungs = rung_steps(rule, self.study.problem(self.arm, self._points[number]))
        values = [float(means[name].iloc[0]) for name in rung_columns(rule)]
        return {step: v for step, v in zip(rungs, values, strict=True) if np.isfinite(v)}

    def _tell_trial(
        self,
        number: int,
        state: TrialState,
        attributes: dict[str, Any],
        value: float | None = None,
        at_rungs: Mapping[int, float] | None = None,
    ) -> None:
        """Tell Optuna how a trial ended, with its value if it is complete, and its values at the
        rungs, by step."""
        if state == TrialState.PRUNED and at_rungs:
            value = list(at_rungs.values())[-1]  # Optuna's convention for pruned trials
        if self._design is None:
            study = self._memory.get_study_id_from_name(_PROPOSALS)
            identifier = self._memory.get_trial_id_from_study_id_trial_number(study, number)
            for step, rung_value in (at_rungs or {}).items():
                self._memory.set_trial_intermediate_value(identifier, step, rung_value)
            self._proposals.tell(number, value if state == TrialState.COMPLETE else None, state)
        point, asked_at = self._points.pop(number), self._asked_at.pop(number)
        if state == TrialState.COMPLETE and value is not None:
            self._compare(number, point, value)
        if number < len(self._stored):  # an earlier session told it
            return
        searched = optuna.trial.FixedTrial(point, number)
        self.space.suggest(searched)  # type: ignore[arg-type]  # names the distributions
        ended = optuna.trial.create_trial(
            state=state,
            value=value,
            params=searched.params,
            distributions=searched.distributions,
            user_attrs=attributes,
            intermediate_values=dict(at_rungs or {}),
        )
        ended.datetime_start = asked_at
        self.optuna.add_trial(ended)

    def _compare(self, number: int, point: Point, value: float) -> None:
        """Keep the best point; of equals, the earliest."""
        best = self._best
        sign = 1 if keys.higher_is_better(self.study.objective) else -1
        if best is None or sign * value > sign * best.objective:
            self._best = Winner(self.arm, number, {**self.space.constants(), **point}, value)


class Plan:
    """The blocks of a study, in the order they may be trained: the search, then the confirmation.

    Args:
        study: the definition.
        storage: Optuna's storage.
        recorded: the members table of a block that an earlier session finished, or None.
        rounds: rounds of confirmation beside the study's own; all rounds, for an extended study.
    """

    def __init__(
        self,
        study: Study,
        storage: optuna.storages.BaseStorage,
        recorded: Recorded,
        rounds: Sequence[Confirmation] = (),
    ) -> None:
        self.study = study
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.searches: dict[str, ArmSearch] = {
            arm: ArmSearch(study, arm, storage) for arm in study.arms
        }
        self._recorded, self._rounds = recorded, tuple(rounds)
        self._confirm: list[Block] | None = None
        self._confirming: set[str] = set()

    @property
    def finished(self) -> bool:
        """Whether every block has ended, trained or failed."""
        if not all(search.finished for search in self.searches.values()):
            return False
        return self._confirm is not None and not self._confirm and not self._confirming

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
        if block.phase == keys.SEARCH:
            self.searches[block.arm].receive(block, members)
        else:
            self._confirming.discard(block.id)

    def winners(self) -> dict[str, Winner]:
        """The point that represents each arm: the best of its search, or the one given."""
        if self.study.winners is not None:
            given = {
                arm: {**self.study.arm_space(arm).constants(), **point}
                for arm, point in self.study.winners.items()
            }
            return {arm: Winner(arm, 0, point, float("nan")) for arm, point in given.items()}
        best = {arm: search.best() for arm, search in self.searches.items()}
        return {arm: winner for arm, winner in best.items() if winner is not None}

    def _next(self) -> Block | None:
        for search in sorted(self.searches.values(), key=lambda search: search.asked):
            block = search.ask()
            if block is not None:
                return block
        if not all(search.finished for search in self.searches.values()):
            return None
        if self._confirm is None:
            self._confirm = self._confirmation()
        if not self._confirm:
            return None
        block = self._confirm.pop(0)
        self._confirming.add(block.id)
        return block

    def _confirmation(self) -> list[Block]:
        rounds = list(self._rounds)
        if self.study.has_own_round():
            seeds, winners = tuple(self.study.fresh_seeds()), tuple(self.winners().values())
            rounds.insert(0, Confirmation(1, seeds, winners))
        return [block for confirmation in rounds for block in confirmation.blocks()]
