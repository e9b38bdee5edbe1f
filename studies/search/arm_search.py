"""The search of one arm: its points, designed or proposed by Optuna, are handed out in blocks.

Nothing here knows Ray, and only proposals need Optuna. Proposals are repeatable: each trial has its
own sampler seed, and a block is asked for only once the results of all blocks of its arm but the
last `parallel_blocks` are in, told in order. What is proposed, and what a trial must reach not to
be stopped early, then depends on the study file alone, never on which block happened to finish
first, and a resumed search continues exactly as an uninterrupted one would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pandas as pd

from dynloss_core import keys
from search_spaces import Point
from studies.blocks.block import Block, Trial
from studies.definition.early_stopping import (
    RungMeans,
    is_stopped,
    rung_columns,
    rung_steps,
    trial_means,
)
from studies.definition.phases import Phase
from studies.definition.samplers import SAMPLERS
from studies.definition.study import Study
from studies.search.confirmation import Winner
from studies.search.refinement import refined
from studies.search.trial_outcome import EndedTrial, State

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from studies.search.optuna_search import KeptTrials, Proposals

__all__ = ["ArmSearch", "CurvesOf"]

_ARM_CODE = {keys.DYNAMICAL: 0, keys.STATIC: 1}  # part of every proposal: never renumber
_EVALUATIONS_KEPT = 20  # of a trial's curve
_NAMED = 2  # code of every other arm, beside a number made from its name


CurvesOf = Callable[[Block], pd.DataFrame]


class ArmSearch:
    """The search of one arm, asked and told block by block, in order.

    Args:
        study: the definition.
        arm: the name of the arm.
        storage: Optuna's storage, which keeps the trials (see `KeptTrials`); None keeps none.
        number: the number of the search, from 1.
        curves: the mean curves of a finished block (see `tables.mean_curves`), for the storage;
            None keeps none.
    """

    def __init__(
        self,
        study: Study,
        arm: str,
        storage: BaseStorage | None,
        number: int = 1,
        curves: CurvesOf | None = None,
    ) -> None:
        self.study, self.arm, self.number = study.search(number), arm, number
        study = self.study
        self.space = study.arm_space(arm)
        trials = study.trials_of(arm)
        self._design = trials.design
        self._waits = self._design is None or study.early_stopping is not None
        self._blocks = trials.blocks
        last = trials.count
        parts = [last - sum(study.extensions[k:]) for k in range(len(study.extensions))]
        self._extensions = set(parts)  # first trials of extensions
        rounds = trials.refinements
        self._rounds = {trial: k for k, blocks in enumerate(rounds) for b in blocks for trial in b}
        self._settings = trials.settings
        self._complete: list[tuple[int, Point, float]] = []  # trials, their points and objectives
        self.asked = 0  # blocks handed out
        self._told = 0  # blocks told to Optuna
        self._results: dict[int, pd.DataFrame] = {}
        self._curves = curves if study.early_stopping is None else None
        self._in_search: dict[int, Block] = {}  # asked and not told
        rule = study.early_stopping
        self._at_rungs = None if rule is None else RungMeans(rule, study.objective)
        self._points: dict[int, Point] = {}
        self._asked_at: dict[int, datetime] = {}
        self.best: Winner | None = None  # the best completed point so far, the earliest of equals
        self._best_score = -math.inf
        self.kept: KeptTrials | None = None
        self._proposals: Proposals | None = None
        if storage is not None:
            from studies.search.optuna_search import KeptTrials

            self.kept = KeptTrials(study, arm, number, storage)
        if self._design is None:
            from studies.search.optuna_search import Proposals

            self._proposals = Proposals(self.space, SAMPLERS[study.sampler], study.objective)

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
        seeds = tuple(self.study.seeds.search)
        limits = self._thresholds(needed)
        phase = str(Phase(keys.SEARCH, search=self.number))
        block = Block(phase, self.arm, self.asked, trials, seeds, limits)
        self.asked += 1
        self._in_search[block.index] = block
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
        finalists = []
        for setting in self._settings:
            ranked = [trial for trial in self._complete if self._setting_of(trial[1]) == setting]
            ranked.sort(key=lambda trial: (-trial[2], trial[0]))
            constants = self.space.constants()
            finalists.append(
                tuple(Trial(n, {**constants, **point}) for n, point, _ in ranked[:count])
            )
        return [trials for trials in finalists if trials]

    def _thresholds(self, blocks: int) -> tuple[float | None, ...]:
        """What trials must reach, from the results of the first blocks; empty without the rule."""
        if self._at_rungs is None:
            return ()
        return self._at_rungs.thresholds(blocks)

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
        names = self.study.trials_of(self.arm).refined
        point = refined(self.space, names, tried, searched, k)[(number - first) % 2]
        if self._proposals is not None:
            self._proposals.take(point)
        return point

    def _setting_of(self, point: Point) -> tuple[Any, ...]:
        return tuple(point[name] for name in self.study.scientific)

    def _propose(self, number: int) -> Point:
        """The point of a trial, as an earlier session kept it, else newly proposed."""
        assert self._proposals is not None, "there is a design"
        known = self.kept.point(number) if self.kept is not None else None
        if known is not None:
            return self._proposals.take(known)
        start = self.space.points[number] if number < len(self.space.points) else None
        return self._proposals.propose(number, self._seed_of(number), start)

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
        """Tell how every trial of a block ended: `complete` with the mean over seeds, `stopped`
        early, or `failed`."""
        members = self._results[index]
        by_trial = _by_trial(members)
        curves = self._curves_of(self._in_search.pop(index), members)
        for number in self._blocks[index]:
            ended = self._ended(number, by_trial.get(number), curves.get(number, {}))
            if self._proposals is not None:
                self._proposals.end(ended)
            if ended.value is not None:
                self._compare(number, ended.point, ended.value)
            if self.kept is not None:
                self.kept.add(ended)
        if self.kept is not None:
            self.kept.write()
        if self._at_rungs is not None:
            self._at_rungs.add(members)
        del self._results[index]
        self._told += 1

    def _curves_of(self, block: Block, members: pd.DataFrame) -> dict[int, dict[int, float]]:
        """The objective of each trial of a block by step, at no more than so many steps, if the
        storage lacks one of them."""
        last = block.trials[-1].number
        if self._curves is None or self.kept is None or members.empty or not self.kept.lacks(last):
            return {}
        curves: dict[int, dict[int, float]] = {}
        for number, rows in self._curves(block).groupby(keys.TRIAL):
            steps, values = rows[keys.STEP].tolist(), rows[self.study.objective].tolist()
            every = math.ceil(len(steps) / _EVALUATIONS_KEPT)
            shown = list(zip(steps, values, strict=True))[::-1][::every]
            curves[int(str(number))] = {int(s): v for s, v in shown[::-1] if math.isfinite(v)}
        return curves

    def _ended(self, number: int, rows: pd.DataFrame | None, curve: dict[int, float]) -> EndedTrial:
        """How a trial ended, from its rows of the members table; None if its block failed."""
        at_rungs = {} if rows is None else self._rung_means(number, rows)
        point, asked_at = self._points.pop(number), self._asked_at.pop(number)
        state: State = "complete"
        value: float | None = None
        attributes: dict[str, Any]
        if rows is None:
            state, attributes = "failed", {"error": "the block could not be trained"}
        elif bool(rows[keys.DIVERGED].any()):
            state, attributes = "failed", {"values": self._values(rows), keys.DIVERGED: True}
        elif bool(is_stopped(rows).any()):
            state, attributes = "stopped", {keys.STOPPED_STEP: int(rows[keys.STOPPED_STEP].max())}
        else:
            attributes = {"values": self._values(rows)}
            value = float(np.mean(attributes["values"]))
        return EndedTrial(number, point, state, value, attributes, at_rungs, curve, asked_at)

    def _values(self, rows: pd.DataFrame) -> list[float]:
        """The objective of each seed."""
        return [float(value) for value in rows[self.study.objective]]

    def _rung_means(self, number: int, rows: pd.DataFrame) -> dict[int, float]:
        """The values of a trial at the rungs where it was compared, by step."""
        rule = self.study.early_stopping
        if rule is None:
            return {}
        means = trial_means(rows, rule)
        rungs = rung_steps(rule, self.study.problem(self.arm, self._points[number]))
        values = [float(means[name].iloc[0]) for name in rung_columns(rule)]
        return {step: v for step, v in zip(rungs, values, strict=True) if np.isfinite(v)}

    def _compare(self, number: int, point: Point, value: float) -> None:
        """Keep the best point; of equals, the earliest."""
        sign = 1 if keys.higher_is_better(self.study.objective) else -1
        self._complete.append((number, point, sign * value))
        if sign * value > self._best_score:
            self._best_score = sign * value
            self.best = Winner(self.arm, number, {**self.space.constants(), **point}, value)


def _by_trial(members: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """The rows of each trial of a block."""
    if members.empty:
        return {}
    numbers = set(members[keys.TRIAL].tolist())
    if len(numbers) == 1:
        return {numbers.pop(): members}
    return {number: members[members[keys.TRIAL] == number] for number in numbers}
