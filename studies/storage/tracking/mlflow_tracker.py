"""MLflow: one parent run per study, one child run per trial, written by the driver alone.

What a block's runs hold is written together (see `run_writers`). Child runs carry
tags for study, phase, arm, trial and configuration, so that the UI can filter them. By the tags, a
resumed study, or one whose server was unreachable, also finds its runs again, sees what they hold,
and sends only the rest: never a second run for a trial, never a step twice.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ConfigError, reason_of
from search_spaces import Point
from studies.blocks.block import Block
from studies.definition.phases import Phase
from studies.definition.redaction import hide_password
from studies.definition.study import Study
from studies.storage.tracking.base import Unreachable
from studies.storage.tracking.mlflow_store import (  # sets the environment of what comes next
    is_served,
    named_by,
    probe,
)
from studies.storage.tracking.parent_run import children_of, describe, find_parent
from studies.storage.tracking.repeating_client import PARENT, RepeatingClient
from studies.storage.tracking.run_names import RunNames
from studies.storage.tracking.run_writers import NewRun, RunRows, writer_for
from studies.storage.tracking.study_content import data_set_of
from studies.storage.tracking.study_note import NOTE, NOTED, digest, is_ours, note_of
from studies.storage.tracking.trial_content import (
    CURVES,
    TAG,
    TrialContent,
    cut,
    searched_values,
)

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus
from mlflow.exceptions import MlflowException
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

__all__ = ["MLflowTracker"]

_UNREACHABLE = (MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError)

_SECONDS_BETWEEN_BATCHES = 15.0
_CURVES = {
    f"{CURVES}{metric}": metric
    for metric in (*keys.EVALUATION_METRICS, *keys.OPTIONAL_CURVE_METRICS)
}

TrialKey = tuple[str, str, int]  # phase, arm, number
P = ParamSpec("P")
R = TypeVar("R")


def _raises_unreachable(method: Callable[P, R]) -> Callable[P, R]:
    """A method that calls MLflow, with MLflow's errors turned into `Unreachable`."""

    @wraps(method)
    def asking(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except _UNREACHABLE as error:
            raise Unreachable(str(error) or repr(error)) from error

    return asking


class MLflowTracker:
    """Writes a study to MLflow; a `Tracker`.

    Args:
        study: the study to write.
        study_id: the identity of the study's folder, by which the parent run is found again.
        uri: MLflow's tracking URI.
        artifacts: folder for the artifacts of a new experiment in a local store.
        run: identifier of the run that the study had there before, if it is known.

    Raises:
        ConfigError: if the store cannot be reached or written, or the study's experiment or run is
            in its trash; the command that restores it is named.
    """

    def __init__(
        self, study: Study, study_id: str, uri: str, artifacts: Path, run: str | None = None
    ) -> None:
        self._study, self.uri = study, uri
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        # logs a traceback of every error that it raises, and those are handled here
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        try:
            probe(uri)
            kind = RepeatingClient if is_served(uri) else MlflowClient
            self._client = kind(tracking_uri=uri)
            self._writer = writer_for(self._client, uri)
            self.experiment, self.parent = find_parent(
                self._client, study, study_id, run, artifacts
            )
            place = self.experiment, self.parent
            self._has_view = describe(self._client, self._writer, study, *place)
            self._runs: dict[TrialKey, str] = {}
            self._finished: set[TrialKey] = set()
            # metrics in unfinished runs of earlier sessions
            self._held: dict[TrialKey, set[str]] = {}
            self._find_children()
        except ConfigError:
            raise
        except Exception as error:  # MLflow raises whatever its store raises
            reason = reason_of(error)
            raise ConfigError(
                named_by(study, uri),
                f"{hide_password(uri)} cannot be used: {hide_password(reason)[:200]}",
                "give a store that can be written, or leave it out for a local one",
            ) from None
        self._names, self._data = RunNames(study), data_set_of(study)
        self._first: dict[TrialKey, RunRows] = {}  # sent with the first batch of a run
        self._logged: dict[TrialKey, dict[str, set[int]]] = {}  # steps of each metric
        self._pending: dict[str, list[pd.DataFrame]] = {}  # by block
        self._flushed: dict[str, float] = {}

    def kept(self) -> dict[str, Any]:
        """The study's run, its experiment, the view of its runs, and the store."""
        return {
            "mlflow_run": self.parent,
            "mlflow_view": self.parent if self._has_view else None,
            "mlflow_experiment": self.experiment,
            "tracking_uri": hide_password(self.uri),
        }

    @_raises_unreachable
    def discard(self) -> None:
        """Delete the run of a study that came to nothing."""
        self._client.delete_run(self.parent)

    def runs(self) -> pd.DataFrame:
        """The run of each trial: phase, arm, trial and `mlflow_run`."""
        rows = [(*key, run) for key, run in sorted(self._runs.items())]
        return pd.DataFrame(rows, columns=[keys.PHASE, keys.ARM, keys.TRIAL, "mlflow_run"])

    @_raises_unreachable
    def start(self, block: Block) -> None:
        """Create a run for each trial of a block that has none."""
        points = {(block.phase, block.arm, t.number): t.point for t in block.trials}
        new = [key for key in points if key not in self._runs]
        fresh = [self._new_run(key, block, points[key]) for key in new]
        created = self._writer.create(self.experiment, fresh)
        self._runs |= dict(zip(new, created, strict=True))
        again = [k for k in points if k in self._held and k not in self._logged and k not in new]
        for key in again:
            self._logged[key] = self._steps_held(key)
        self._first |= {key: self._first_of(key, block, points[key]) for key in (*new, *again)}

    @_raises_unreachable
    def log_means(self, block: Block, means: pd.DataFrame) -> None:
        """Take mean curves (see `tables.mean_curves`), which are sent every few seconds in batches,
        each step once; those that the study wants in its tables alone are left out."""
        curves = self._study.storage.curves
        if curves == "none" or (curves == "winners" and not Phase.parse(block.phase).is_fresh):
            return
        self._pending.setdefault(block.id, []).append(means)
        last = self._flushed.setdefault(block.id, time.monotonic())
        if time.monotonic() - last >= _SECONDS_BETWEEN_BATCHES:
            self._flush(block)

    def _flush(self, block: Block) -> None:
        """Send what is pending of a block."""
        self._writer.write(
            self._with_first(key, RunRows(self._runs[key], metrics))
            for key, metrics in self._take_pending(block).items()
        )

    def _with_first(self, key: TrialKey, rows: RunRows) -> RunRows:
        """What is to be written of a trial's run, with what is sent first if it was not."""
        first = self._first.pop(key, None)
        if first is not None:
            rows.metrics, rows.params = [*first.metrics, *rows.metrics], first.params
            rows.data = first.data
        return rows

    def _take_pending(self, block: Block) -> dict[TrialKey, list[Metric]]:
        """Remove and return what is pending of each trial of a block."""
        pending = self._pending.pop(block.id, [])
        self._flushed[block.id] = time.monotonic()
        if not pending:
            return {}
        taken = {}
        means, now = pd.concat(pending, ignore_index=True), int(time.time() * 1000)
        for number, rows in means.groupby(keys.TRIAL, sort=False):
            key = (block.phase, block.arm, int(str(number)))
            if key in self._finished:
                continue
            logged = self._logged.setdefault(key, {})
            taken[key] = [
                Metric(name, value, now, step)
                for name, metric in _CURVES.items()
                if metric in rows
                for step, value in zip(rows[keys.STEP].tolist(), rows[metric].tolist(), strict=True)
                if math.isfinite(value) and step not in logged.get(name, ())
            ]
            for entry in taken[key]:
                logged.setdefault(entry.key, set()).add(entry.step)
        return taken

    @_raises_unreachable
    def finish(self, block: Block, members: pd.DataFrame) -> int:
        """Close the runs of a block: FINISHED, KILLED where the trial was stopped early, or FAILED
        with the reason as a tag. Return how many were open.

        An empty table says that the block failed.
        """
        self.start(block)
        pending = self._take_pending(block)
        by_trial = {} if members.empty else dict(iter(members.groupby(keys.TRIAL)))
        numbers = {(block.phase, block.arm, trial.number): trial.number for trial in block.trials}
        open_runs = [key for key in numbers if key not in self._finished]
        rows, failed = [], RunStatus.to_string(RunStatus.FAILED)
        for key in open_runs:
            curve = pending.get(key, [])
            if members.empty:
                failure = {"failure": "the block could not be trained"}
                ended = RunRows(self._runs[key], curve, tags=failure, status=failed)
            else:
                ended = self._ended(key, by_trial[numbers[key]], curve)
            rows.append(self._with_first(key, ended))
        self._writer.write(rows)
        for key in open_runs:
            self._finished.add(key)
            self._logged.pop(key, None)
        return len(open_runs)

    def is_finished(self, block: Block) -> bool:
        """Whether every run of a block is closed."""
        keys_of_block = {(block.phase, block.arm, trial.number) for trial in block.trials}
        return keys_of_block <= self._finished

    @_raises_unreachable
    def close(
        self,
        *,
        finished: bool,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Iterable[tuple[Path, str]],
        findings: Sequence[str] = (),
        warnings: Sequence[str] = (),
        trained: str = "",
    ) -> None:
        """Close the parent run, with the study's result and its files (path, folder)."""
        now = int(time.time() * 1000)
        run = self._client.get_run(self.parent)
        held = run.data.metrics
        entries = [
            Metric(name, value, now, 0)
            for name, value in metrics.items()
            if math.isfinite(value) and held.get(name) != value
        ]
        texts = {key: cut(value) for key, value in tags.items()}
        if is_ours(run, self._study):
            note = note_of(
                self._study,
                (self.experiment, self.parent),
                sorted(self._runs.items()),
                finished=finished,
                findings=findings,
                warnings=warnings,
                trained=trained,
            )
            texts |= {NOTE: note, NOTED: digest(note)}
        self._writer.write([RunRows(self.parent, entries, tags=texts)])
        for path, folder in artifacts:
            self._client.log_artifact(self.parent, str(path), folder or None)
        status = RunStatus.FINISHED if finished else RunStatus.KILLED
        self._client.set_terminated(self.parent, RunStatus.to_string(status))

    def _find_children(self) -> None:
        """Find the runs created earlier, which of them are finished, and what the others hold. A
        run that somebody deleted counts as finished, so that its trial gets no second one."""
        for key, runs in children_of(self._writer, self.experiment, self.parent).items():
            active = sorted(
                (run for run in runs if not run.is_deleted), key=lambda run: run.is_open
            )
            for run in active[1:]:  # a closed one stays
                self._client.delete_run(run.run)
            self._runs[key] = (active or runs)[0].run
            if active and active[0].is_open:
                self._held[key] = active[0].metrics
            else:
                self._finished.add(key)

    def _new_run(self, key: TrialKey, block: Block, point: Point) -> NewRun:
        phase, arm, number = key
        tags = {
            PARENT: self.parent,
            f"{TAG}{keys.STUDY}": self._study.name,
            f"{TAG}{keys.PHASE}": phase,
            f"{TAG}{keys.ARM}": arm,
            f"{TAG}{keys.TRIAL}": str(number),
            f"{TAG}{keys.BLOCK}": block.id,
        }
        return NewRun(self._names.of(block, number, point), tags)

    def _first_of(self, key: TrialKey, block: Block, point: Point) -> RunRows:
        """The point of a trial: as parameters, which are texts to MLflow, and its numbers as
        metrics too, which it sorts and filters by value. And the data set, which it filters by."""
        now, held = int(time.time() * 1000), self._held.get(key, set())
        values = {**point, "seeds": len(block.seeds)}
        return RunRows(
            self._runs[key],
            [Metric(n, v, now, 0) for n, v in searched_values(point).items() if n not in held],
            [Param(name, str(value)) for name, value in values.items()],
            data=self._data,
        )

    def _ended(self, key: TrialKey, members: pd.DataFrame, curve: list[Metric]) -> RunRows:
        """The rest of a trial's curve, its final metrics, and the end of its run."""
        run, held = self._runs[key], self._held.get(key, set())
        now = int(time.time() * 1000)
        content = TrialContent.of(members)
        metrics = [
            Metric(name, value, now, 0)
            for name, value in content.metrics.items()
            if math.isfinite(value) and name not in held
        ]
        tags = {name: cut(value) for name, value in content.tags.items()}
        return RunRows(run, [*curve, *metrics], tags=tags, status=content.status)

    def _steps_held(self, key: TrialKey) -> dict[str, set[int]]:
        """The steps of each metric that an unfinished run holds."""
        run, held = self._runs[key], self._held[key]
        return {
            name: {entry.step for entry in self._client.get_metric_history(run, name)}
            for name in _CURVES
            if name in held
        }
