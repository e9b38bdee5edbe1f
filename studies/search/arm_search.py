"""The search of one arm: Optuna proposes points by ask/tell, and they are handed out in blocks.

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

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from zlib import crc32

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

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
from studies.definition.phases import Phase
from studies.definition.samplers import SAMPLERS
from studies.definition.study import Study
from studies.search.confirmation import Winner
from studies.search.refinement import refined

__all__ = ["ArmSearch"]

_ARM_CODE = {keys.DYNAMICAL: 0, keys.STATIC: 1}  # part of every proposal: never renumber
_NAMED = 2  # code of every other arm, beside a number made from its name
_PROPOSALS = "proposals"


class ArmSearch:
    """The search of one arm: an Optuna study, asked and told block by block, in order.

    Args:
        study: the definition.
        arm: the name of the arm.
        storage: Optuna's storage; the arm's study there is called `<name>/<arm>`, and that of a
            second search `<name>/<arm>.2`.
        number: the number of the search, from 1.
    """

    def __init__(
        self, study: Study, arm: str, storage: optuna.storages.BaseStorage, number: int = 1
    ) -> None:
        self.study, self.arm, self.number = study.search(number), arm, number
        study = self.study
        self.space = study.arm_space(arm)
        self._design = study.design(arm)
        self._waits = self._design is None or study.early_stopping is not None
        self._blocks = study.search_blocks(arm)
        last = study.trials(arm)
        parts = [last - sum(study.extensions[k:]) for k in range(len(study.extensions))]
        self._extensions = set(parts)  # first trials of extensions
        rounds = study.refinements(arm)
        self._rounds = {trial: k for k, blocks in enumerate(rounds) for b in blocks for trial in b}
        self._settings = study.settings(arm)
        self._complete: list[tuple[int, Point, float]] = []  # trials, their points and objectives
        self.asked = 0  # blocks handed out
        self._told = 0  # blocks told to Optuna
        self._results: dict[int, pd.DataFrame] = {}
        self._points: dict[int, Point] = {}
        self._asked_at: dict[int, datetime] = {}
        self.best: Winner | None = None  # the best completed point so far, the earliest of equals
        self._best_score = -math.inf
        up = keys.higher_is_better(study.objective)
        direction: Literal["maximize", "minimize"] = "maximize" if up else "minimize"
        self._memory = optuna.storages.InMemoryStorage()
        self._proposals = optuna.create_study(
            storage=self._memory, study_name=_PROPOSALS, direction=direction
        )
        self.optuna = optuna.create_study(
            study_name=f"{study.name}/{arm}" + (f".{number}" if number > 1 else ""),
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
    def finished(self) -> bool:
        """Whether every block has been told."""
        return self._told == len(self._blocks)

    def ask(self) -> Block | None:
        """The next block; None if all are handed out, or it depends on results to come."""
        if self.asked == len(self._blocks):
            return None
        numbers, needed = self._blocks[self.asked], self._needed()
        if not all(index in self._results for index in range(self._told, needed)):
            return None
        self._tell_up_to(needed)
        trials = tuple(Trial(number, self._point(number)) for number in numbers)
        self._points.update((trial.number, trial.point) for trial in trials)
        seeds = tuple(self.study.search_seeds())
        limits = self._thresholds(needed)
        phase = str(Phase(keys.SEARCH, search=self.number))
        block = Block(phase, self.arm, self.asked, trials, seeds, limits)
        self.asked += 1
        return block

    def _needed(self) -> int:
        """How many blocks, from the first, the next one depends on."""
        numbers = self._blocks[self.asked]
        if numbers.start in self._rounds:  # on all before its round
            return self.asked - self._setting_index(numbers.start)
        if numbers.start in self._extensions:
            return self.asked
        return max(self.asked + 1 - self.study.parallel_blocks, 0) if self._waits else 0

    def _setting_index(self, number: int) -> int:
        """The index of a refining trial's setting."""
        first = min(self._rounds)
        return (number - first) // 2 % len(self._settings)

    def receive(self, block: Block, members: pd.DataFrame) -> None:
        """Take a block's members table; empty if it could not be trained."""
        self._results[block.index] = members
        if not self._waits or self.asked == len(self._blocks):
            ready = self._told
            while ready in self._results:
                ready += 1
            self._tell_up_to(ready)

    def finalists(self, count: int) -> list[tuple[Trial, ...]]:
        """The best trials at each setting that has any, best first, the earliest of equals."""
        found = []
        for setting in self._settings:
            here = [each for each in self._complete if self._setting_of(each[1]) == setting]
            here.sort(key=lambda each: (-each[2], each[0]))
            constants = self.space.constants()
            found.append(tuple(Trial(n, {**constants, **point}) for n, point, _ in here[:count]))
        return [trials for trials in found if trials]

    def _thresholds(self, blocks: int) -> tuple[float | None, ...]:
        """What trials must reach, from the results of the first blocks; empty without the rule."""
        rule = self.study.early_stopping
        if rule is None:
            return ()
        earlier = [self._results[index] for index in range(blocks)]
        return thresholds(rule, earlier, self.study.objective)

    def _point(self, number: int) -> Point:
        self._asked_at[number] = datetime.now()
        if number in self._rounds:
            return self._refined(number)
        if self._design is not None:
            past = len(self._rounds) if self._rounds and number > max(self._rounds) else 0
            return self._design[number - past]
        return self._propose(number)

    def _refined(self, number: int) -> Point:
        """The point of a trial that refines, near the best of its setting."""
        setting = self._settings[self._setting_index(number)]
        first, k = min(self._rounds), self._rounds[number]
        begins = first + 2 * len(self._settings) * k
        tried = [
            (point, value)
            for trial, point, value in self._complete
            if trial < begins and self._setting_of(point) == setting
        ]
        searched = first
        if self._design is not None:
            searched = sum(self._setting_of(point) == setting for point in self._design[:first])
        if not tried:  # all diverged: the middle is as good as any
            middle = {name: p.at(0.5) for name, p in self.space.parameters.items()}
            tried = [({**middle, **dict(zip(self.study.scientific, setting, strict=True))}, 0.0)]
        names = self.study.refined(self.arm)
        point = refined(self.space, names, tried, searched, k)[(number - first) % 2]
        if self._design is None:
            self._proposals.add_trial(self._running(point))
        return point

    def _setting_of(self, point: Point) -> tuple[Any, ...]:
        return tuple(point[name] for name in self.study.scientific)

    def _running(self, point: Point) -> FrozenTrial:
        """A point that was not proposed, as a trial in training."""
        fixed = optuna.trial.FixedTrial(point)
        self.space.suggest(fixed)  # type: ignore[arg-type]  # names the distributions
        return optuna.trial.create_trial(
            state=TrialState.RUNNING, params=fixed.params, distributions=fixed.distributions
        )

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
        sign = 1 if keys.higher_is_better(self.study.objective) else -1
        self._complete.append((number, point, sign * value))
        if sign * value > self._best_score:
            self._best_score = sign * value
            self.best = Winner(self.arm, number, {**self.space.constants(), **point}, value)
