"""Training a block. Nothing here knows Ray, so that a block can be timed, tested and used without a
cluster."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from dynloss_core import keys
from dynloss_core.config import reason_of
from dynloss_core.training import Engine, Evaluation, Member, Problem, Setup, choose_engine
from studies.blocks import tables
from studies.blocks.block import Block, BlockProgress, BlockResult
from studies.blocks.code_origin import current_origin
from studies.blocks.recorder import Recorder
from studies.definition.early_stopping import Rungs, rung_columns, trials_to_stop
from studies.definition.phases import Phase
from studies.definition.study import Study

__all__ = ["BlockRun", "is_table_of", "use_threads"]

log = logging.getLogger(__name__)


class BlockRun:
    """A block in training: yields its progress, and can be saved between two reports.

    Members whose points share a problem are trained as one ensemble; a block whose points change
    the problem itself (`model.width`, say) trains one ensemble after another.

    Args:
        study: the study that the block belongs to.
        block: the block to train.
        device: the device to train on.
    """

    def __init__(self, study: Study, block: Block, device: str = "cpu") -> None:
        self.study, self.block, self._device = study, block, device
        self._origin = current_origin().digest
        self._ensembles = _ensembles(study, block)
        self._current = 0
        self._seconds = 0.0
        self._curves: list[pd.DataFrame] = []
        self._members: list[pd.DataFrame] = []
        self._recorder = self._new_recorder()
        self._engine = self._start()

    def progress(self) -> Iterator[BlockProgress]:
        """Train to the end, yielding after every evaluation.

        After a checkpoint is loaded, the first report repeats the curves from before it: the driver
        may never have seen them.
        """
        restored = list(self._curves)
        while self._current < len(self._ensembles):
            rows, _, problem = self._ensembles[self._current]
            started = time.perf_counter()
            for evaluation in self._engine.evaluations():
                curves = tables.curve_rows(rows, evaluation)
                if problem.learning_rate_schedule.curvature is not None:
                    curves[keys.LEARNING_RATE] = evaluation.learning_rate.numpy()
                self._curves.append(curves)
                self._recorder.take(rows, evaluation)
                self._stop_at_rung(evaluation.step)
                self._seconds += time.perf_counter() - started
                done = (self._current + evaluation.step / problem.steps) / len(self._ensembles)
                if self._engine.finished:
                    self._close_ensemble(evaluation)
                unseen = pd.concat([*restored, curves]) if restored else curves
                restored = []
                yield BlockProgress(done, tables.mean_curves(unseen))
                started = time.perf_counter()

    def result(self) -> BlockResult:
        """Tables of the finished block."""
        return BlockResult(
            members=pd.concat(self._members, ignore_index=True),
            curves=pd.concat(self._curves, ignore_index=True),
            recorded=self._recorder.tables(),
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "study": self.study.hash,
            "origin": self._origin,
            "block": repr(self.block),
            "current": self._current,
            "seconds": self._seconds,
            "curves": [tables.pack(frame) for frame in self._curves],
            "members": [tables.pack(frame) for frame in self._members],
            "recorder": self._recorder.state_dict(),
            "engine": self._engine.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Resume from a checkpoint. If it is of another block or other code, or incomplete, log
        that, change nothing, and return False."""
        wanted = {"study": self.study.hash, "origin": self._origin, "block": repr(self.block)}
        mismatches = [name for name, value in wanted.items() if state.get(name) != value]
        if mismatches:
            log.warning(
                "the checkpoint of %s belongs to another %s", self.block, " and ".join(mismatches)
            )
            return False
        restored = copy.copy(self)
        try:
            restored._take(state)
        except Exception as error:  # a state of another layout may fail in any way
            reason = f"{type(error).__name__}: {reason_of(error)}"
            log.warning("the checkpoint of block %s is incomplete: %s", self.block, reason)
            return False
        self.__dict__.update(restored.__dict__)
        return True

    def _take(self, state: dict[str, Any]) -> None:
        """Take over a state. Attributes are replaced, never changed in place, so that it can be
        tried on a copy of this object."""
        self._current = state["current"]
        self._seconds = state["seconds"]
        self._curves = [tables.unpack(frame) for frame in state["curves"]]
        self._members = [tables.unpack(frame) for frame in state["members"]]
        self._recorder = self._new_recorder()
        self._recorder.load_state_dict(state["recorder"])
        self._engine = self._start()
        self._engine.load_state_dict(state["engine"])

    def _new_recorder(self) -> Recorder:
        """What records the block; nothing of a third arm (see `Study.matched_arms`)."""
        record = self.study.record if self.block.arm in self.study.arms else None
        return Recorder(record, self.block.seeds)

    def _start(self) -> Engine:
        _, members, problem = self._ensembles[min(self._current, len(self._ensembles) - 1)]
        engine = choose_engine(problem, self.study.engine, self._device)
        traced, probes = self._recorder.asks(members)
        return engine(Setup.build(problem, members), self._device, traced=traced, probes=probes)

    def _rungs(self) -> Rungs | None:
        """The rungs of the present ensemble; None if its trials are not compared."""
        rule, setup = self.study.early_stopping, self._engine.setup
        if rule is None or not Phase.parse(self.block.phase).is_search:
            return None
        return Rungs.of(rule, setup.problem, setup.members, setup.num_classes)

    def _rung_values(self, rungs: Rungs) -> np.ndarray:
        """The present ensemble's values at the rungs, (R, M), from its curves so far."""
        curves, engine = self._ensemble_curves(), self._engine
        steps = np.array([int(rows[keys.STEP].iloc[0]) for rows in curves])
        metric = np.stack([rows[self.study.objective].to_numpy() for rows in curves])  # (n, M)
        diverged, stopped = engine.diverged_step.numpy(), engine.stopped_step.numpy()
        until = np.where(diverged >= 0, diverged - 1, np.where(stopped >= 0, stopped, engine.step))
        return rungs.values(steps, metric, until)

    def _ensemble_curves(self) -> list[pd.DataFrame]:
        """The present ensemble's evaluations; no trial belongs to two ensembles."""
        first = self._ensembles[self._current][0][keys.TRIAL].iloc[0]
        return [rows for rows in self._curves if rows[keys.TRIAL].iloc[0] == first]

    def _stop_at_rung(self, step: int) -> None:
        """If the step is a rung, stop the trials that are worse than its threshold."""
        rungs = self._rungs() if self.block.thresholds else None
        if rungs is None or step not in rungs.steps:
            return
        rung = rungs.steps.index(step)
        trials = self._ensembles[self._current][0][keys.TRIAL].to_numpy()
        values, threshold = self._rung_values(rungs)[rung], self.block.thresholds[rung]
        worse = trials_to_stop(values, trials, threshold, self.study.objective)
        self._engine.stop(np.flatnonzero(np.isin(trials, list(worse))).tolist())

    def _add_stops(self, frame: pd.DataFrame) -> None:
        """Add to the members table the values at the rungs, and where stopped members ended, with
        their metrics there; add nothing without early stopping."""
        rule, rungs = self.study.early_stopping, self._rungs()
        if rule is None:
            return
        stopped = self._engine.stopped_step.numpy()
        frame[keys.STOPPED_STEP] = stopped
        for curves in self._ensemble_curves():
            ended = stopped == int(curves[keys.STEP].iloc[0])
            for metric in keys.EVALUATION_METRICS:
                frame.loc[ended, metric] = curves[metric].to_numpy()[ended]
        if rungs is not None:
            values = self._rung_values(rungs)
            for name, row in zip(rung_columns(rule), values, strict=True):
                frame[name] = row

    def _close_ensemble(self, last: Evaluation) -> None:
        """Keep the ensemble's members table, and begin the next ensemble."""
        rows, members, _ = self._ensembles[self._current]
        started = time.perf_counter()
        is_fresh = Phase.parse(self.block.phase).is_fresh
        held_out = self._engine.held_out() if is_fresh else None
        recorded = self._recorder.close(rows, members, self._engine)
        self._seconds += time.perf_counter() - started
        frame = tables.member_rows(rows, members, self._engine.setup, last, held_out)
        for name, column in recorded.items():
            frame[name] = column
        self._add_stops(frame)
        frame[keys.ENGINE] = self._engine.name
        frame[keys.DEVICE] = self.study.device
        frame[keys.ORIGIN] = self._origin
        frame[keys.SECONDS] = self._seconds / len(members)
        self._members.append(frame)
        self._seconds = 0.0
        self._current += 1
        if self._current < len(self._ensembles):
            self._engine = self._start()


def _ensembles(study: Study, block: Block) -> list[tuple[pd.DataFrame, list[Member], Problem]]:
    """The block's members, grouped by problem: identifying rows, members, problem."""
    study = study.search(Phase.parse(block.phase).search)
    groups: dict[Problem, tuple[list[dict[str, Any]], list[Member]]] = {}
    for trial in block.trials:
        problem = study.problem(block.arm, trial.point)
        rows, members = groups.setdefault(problem, ([], []))
        for seed in block.seeds:
            members.append(study.member(trial.point, seed, problem))
            dotted = {name: value for name, value in trial.point.items() if "." in name}
            rows.append(
                {
                    keys.STUDY: study.name,
                    keys.PHASE: block.phase,
                    keys.ARM: block.arm,
                    keys.BLOCK: block.index,
                    keys.TRIAL: trial.number,
                    keys.SEED: seed,
                    **dotted,
                }
            )
    return [(pd.DataFrame(r), m, problem) for problem, (r, m) in groups.items()]


def is_table_of(block: Block, members: pd.DataFrame, study: Study) -> bool:
    """Whether a non-empty members table holds exactly a block's trials, seeds and points."""
    wanted = {(trial.number, seed) for trial in block.trials for seed in block.seeds}
    numbers = members[keys.TRIAL].tolist()
    if set(zip(numbers, members[keys.SEED].tolist(), strict=True)) != wanted:
        return False
    study = study.search(Phase.parse(block.phase).search)
    first = {number: place for place, number in reversed(list(enumerate(numbers)))}
    columns: dict[str, list[Any]] = {}
    problems: dict[tuple[Any, ...], Problem] = {}
    for trial in block.trials:
        dotted = tuple((name, value) for name, value in trial.point.items() if "." in name)
        if dotted not in problems:
            problems[dotted] = study.problem(block.arm, trial.point)
        member = study.member(trial.point, block.seeds[0], problems[dotted])
        values = {
            **dict(dotted),
            **{name: getattr(member, name) for name in keys.MEMBER_PARAMETERS},
        }
        for name, value in values.items():
            if name not in columns:
                absent = [None] * len(members)
                columns[name] = members[name].tolist() if name in members else absent
            if not _is_same(columns[name][first[trial.number]], value):
                return False
    return True


def _is_same(recorded: Any, value: Any) -> bool:
    if value is None or pd.isna(value):
        return recorded is None or bool(pd.isna(recorded))
    return bool(recorded == value)


def use_threads(cpus: float) -> None:
    """Give torch as many threads as a block has CPUs, but at least one."""
    torch.set_num_threads(max(1, int(cpus)))
