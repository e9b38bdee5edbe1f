"""MLflow: one parent run a study, one child run a trial, written by the driver alone.

Everything goes through `MlflowClient.log_batch`, a request for many metrics. Children carry tags
for study, phase, arm, trial and configuration, so that the UI can filter them; the tags are also
how a resumed study, or one whose server was away, finds its runs again, sees what they hold, and
sends only the rest: never a second run for a trial, never a step twice.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ConfigError, reason_of
from studies.blocks import Block
from studies.definition import Study, absolute_store
from studies.early_stopping import is_stopped
from studies.folder import StudyFolder
from studies.passwords import HIDDEN, hide_password

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # `studies.delivery` tries again
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # seconds

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from requests import RequestException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

__all__ = ["AWAY", "Tracker", "tracking_uri"]

AWAY = (MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError, ConfigError)
"""What is raised while MLflow cannot be reached or written."""

_METRICS_A_BATCH = 1000
_SECONDS_BETWEEN_BATCHES = 15.0
_RUNS_A_PAGE = 1000
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
_PARENT = "mlflow.parentRunId"
_TAG = "dynloss."

TrialKey = tuple[str, str, int]  # phase, arm, number


class Tracker:
    """Writes a study to MLflow.

    Args:
        study: what to write.
        study_id: of the study's folder; finds the parent run again.
        uri: MLflow's tracking URI.
        artifacts: folder for the artifacts of a new experiment in a local store.

    Raises:
        ConfigError: if the store cannot be reached or written.
    """

    def __init__(self, study: Study, study_id: str, uri: str, artifacts: Path) -> None:
        self._study, self.uri = study, uri
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        # it logs the whole traceback of what it raises, and what it raises is dealt with
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        try:
            _probe(uri)
            self._client = MlflowClient(tracking_uri=uri)
            self._experiment = self._find_experiment(artifacts)
            self._parent = self._find_parent(study_id)
            self._runs: dict[TrialKey, str] = {}
            self._finished: set[TrialKey] = set()
            self._held: dict[TrialKey, set[str]] = {}  # metrics of unfinished runs found
            self._find_children()
        except Exception as error:  # MLflow raises whatever its store raises
            reason = reason_of(error)
            raise ConfigError(
                "storage.tracking_uri",
                f"{hide_password(uri)} cannot be used: {hide_password(reason)[:200]}",
                "give a store that can be written, or leave it out for a local one",
            ) from None
        self._params: dict[TrialKey, list[Param]] = {}  # to go with the first batch of a run
        self._logged: dict[TrialKey, dict[str, set[int]]] = {}  # steps of each metric
        self._pending: dict[str, list[pd.DataFrame]] = {}  # by block
        self._flushed: dict[str, float] = {}

    @property
    def parent(self) -> str:
        """Identifier of the study's run."""
        return self._parent

    @property
    def experiment(self) -> str:
        """Identifier of the experiment."""
        return self._experiment

    def runs(self) -> pd.DataFrame:
        """The run of each trial: phase, arm, trial and `mlflow_run`."""
        rows = [(*key, run) for key, run in sorted(self._runs.items())]
        return pd.DataFrame(rows, columns=[keys.PHASE, keys.ARM, keys.TRIAL, "mlflow_run"])

    def start(self, block: Block) -> None:
        """Make a run for each trial of a block that has none."""
        for trial in block.trials:
            key = (block.phase, block.arm, trial.number)
            if key not in self._runs:
                self._runs[key] = self._create_run(key, block)
                self._params[key] = _params(block, trial.point)
            elif key in self._held and key not in self._logged:
                self._params[key] = _params(block, trial.point)
                self._logged[key] = self._steps_held(key)

    def log_means(self, block: Block, means: pd.DataFrame) -> None:
        """Take mean curves (see `tables.mean_curves`); they are sent every few seconds, in batches,
        and each step once."""
        self._pending.setdefault(block.id, []).append(means)
        last = self._flushed.setdefault(block.id, time.monotonic())
        if time.monotonic() - last >= _SECONDS_BETWEEN_BATCHES:
            self._flush(block)

    def _flush(self, block: Block) -> None:
        """Send what is pending of a block."""
        for key, metrics in self._take_pending(block).items():
            self._log(self._runs[key], metrics=metrics, params=self._params.pop(key, None))

    def _take_pending(self, block: Block) -> dict[TrialKey, list[Metric]]:
        """What is pending of each trial of a block, and pending no more."""
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
                Metric(metric, value, now, step)
                for metric in (*keys.EVALUATION_METRICS, *keys.OPTIONAL_CURVE_METRICS)
                if metric in rows
                for step, value in zip(rows[keys.STEP].tolist(), rows[metric].tolist(), strict=True)
                if math.isfinite(value) and step not in logged.get(metric, ())
            ]
            for each in taken[key]:
                logged.setdefault(each.key, set()).add(each.step)
        return taken

    def finish(self, block: Block, members: pd.DataFrame) -> int:
        """Close the runs of a block: FINISHED, KILLED where the trial was stopped early, or FAILED
        with the reason as a tag; how many were open.

        An empty table says that the block could not be trained.
        """
        self.start(block)
        pending = self._take_pending(block)
        by_trial = {} if members.empty else dict(iter(members.groupby(keys.TRIAL)))
        closed = 0
        for trial in block.trials:
            key = (block.phase, block.arm, trial.number)
            if key in self._finished:
                continue
            run = self._runs[key]
            if members.empty:
                failure = {"failure": "the block could not be trained"}
                params = self._params.pop(key, None)
                self._log(run, metrics=pending.get(key), params=params, tags=failure)
                self._client.set_terminated(run, RunStatus.to_string(RunStatus.FAILED))
            else:
                self._close(key, by_trial[trial.number], pending.get(key, []))
            self._finished.add(key)
            self._logged.pop(key, None)
            closed += 1
        return closed

    def is_finished(self, block: Block) -> bool:
        """Whether every run of a block is closed."""
        keys_of_block = {(block.phase, block.arm, trial.number) for trial in block.trials}
        return keys_of_block <= self._finished

    def close(
        self,
        *,
        finished: bool,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Iterable[tuple[Path, str]],
    ) -> None:
        """Close the parent run, with the study's result and its files (path, folder)."""
        now = int(time.time() * 1000)
        held = self._client.get_run(self._parent).data.metrics
        entries = [
            Metric(name, value, now, 0)
            for name, value in metrics.items()
            if math.isfinite(value) and held.get(name) != value
        ]
        self._log(self._parent, metrics=entries, tags=tags)
        for path, folder in artifacts:
            self._client.log_artifact(self._parent, str(path), folder or None)
        status = RunStatus.FINISHED if finished else RunStatus.KILLED
        self._client.set_terminated(self._parent, RunStatus.to_string(status))

    def _find_experiment(self, artifacts: Path) -> str:
        name = self._study.storage.experiment
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        served = self.uri.startswith(("http:", "https:", "databricks"))  # it has a place for them
        location = None if served else artifacts.absolute().as_uri()
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException:
            made = self._client.get_experiment_by_name(name)  # by another study meanwhile
            if made is None:
                raise
            return str(made.experiment_id)

    def _find_parent(self, study_id: str) -> str:
        wanted = f"tags.`{_TAG}study_id` = '{study_id}'"
        found = self._client.search_runs([self._experiment], wanted, max_results=1)
        if found:
            earlier = str(found[0].info.run_id)
            self._client.update_run(earlier, status="RUNNING")
            return earlier
        tags = {
            f"{_TAG}study_id": study_id,
            f"{_TAG}{keys.STUDY}": self._study.name,
            f"{_TAG}study_hash": self._study.hash,
            f"{_TAG}space_hash": self._study.space.hash,
            "mlflow.note.content": self._study.description,
        }
        run = self._client.create_run(self._experiment, tags=tags, run_name=self._study.name)
        return str(run.info.run_id)

    def _find_children(self) -> None:
        """The runs that were made before, which of them are finished, and what the others hold."""
        found: dict[TrialKey, list[Run]] = {}
        for run in self._children():
            tags = run.data.tags
            number = int(tags[f"{_TAG}{keys.TRIAL}"])
            key = (tags[f"{_TAG}{keys.PHASE}"], tags[f"{_TAG}{keys.ARM}"], number)
            found.setdefault(key, []).append(run)
        for key, runs in found.items():  # more than one where an answer was lost or too late
            runs.sort(key=lambda run: run.info.status == "RUNNING")  # a closed one stays
            for run in runs[1:]:
                self._client.delete_run(run.info.run_id)
            self._runs[key] = runs[0].info.run_id
            if runs[0].info.status == "RUNNING":
                self._held[key] = set(runs[0].data.metrics)
            else:
                self._finished.add(key)

    def _children(self) -> Iterator[Run]:
        """The study's runs of trials, the earliest first."""
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`{_PARENT}` = '{self._parent}'",
                max_results=_RUNS_A_PAGE,
                order_by=["attributes.start_time"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _create_run(self, key: TrialKey, block: Block) -> str:
        phase, arm, number = key
        tags = {
            _PARENT: self._parent,
            f"{_TAG}{keys.STUDY}": self._study.name,
            f"{_TAG}{keys.PHASE}": phase,
            f"{_TAG}{keys.ARM}": arm,
            f"{_TAG}{keys.TRIAL}": str(number),
            f"{_TAG}{keys.BLOCK}": block.id,
        }
        name = f"{phase}/{arm}/{number}"
        return str(self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id)

    def _close(self, key: TrialKey, members: pd.DataFrame, curve: list[Metric]) -> None:
        """Send the rest of a trial's curve and its final metrics, and end its run."""
        run, held = self._runs[key], self._held.get(key, set())
        now = int(time.time() * 1000)
        stopped = bool(is_stopped(members).any())
        when = "stopped_" if stopped else "final_"  # never to be compared as if it were the end
        finals = {}
        for metric in (*keys.EVALUATION_METRICS, *keys.TEST_METRICS, *keys.FINAL_CURVATURE_METRICS):
            if metric in members and len(values := members[metric].dropna()):
                name = when + metric.removeprefix("final_")
                finals[name] = float(values.mean())
                finals[f"{name}_sd"] = float(values.std(ddof=1))
        diverged = int(members[keys.DIVERGED].sum())
        finals["diverged_members"] = float(diverged)
        finals[keys.SECONDS] = float(members[keys.SECONDS].sum())
        finals |= {
            f"system/{name}": float(members[name].iloc[0])  # of the block's process
            for name in (keys.CPU_PERCENT, keys.MEMORY, keys.GPU_MEMORY)
            if name in members
        }
        tags = {
            f"{_TAG}{keys.CONFIG_HASH}": str(members[keys.CONFIG_HASH].iloc[0]),
            f"{_TAG}{keys.ENGINE}": str(members[keys.ENGINE].iloc[0]),
            f"{_TAG}{keys.DIVERGED}": str(diverged > 0).lower(),
        }
        if keys.NODE in members:
            tags[f"{_TAG}{keys.NODE}"] = str(members[keys.NODE].iloc[0])
        if keys.REUSED_FROM in members and pd.notna(origin := members[keys.REUSED_FROM].iloc[0]):
            tags[f"{_TAG}{keys.REUSED_FROM}"] = str(origin)
        if keys.STOPPED_STEP in members:
            tags[f"{_TAG}{keys.STOPPED}"] = str(stopped).lower()
        metrics = [
            Metric(name, value, now, 0)
            for name, value in finals.items()
            if math.isfinite(value) and name not in held
        ]
        self._log(run, metrics=[*curve, *metrics], params=self._params.pop(key, None), tags=tags)
        ended = RunStatus.KILLED if stopped else RunStatus.FINISHED
        status = RunStatus.FAILED if diverged else ended
        self._client.set_terminated(run, RunStatus.to_string(status))

    def _steps_held(self, key: TrialKey) -> dict[str, set[int]]:
        """The steps of each metric that an unfinished run holds."""
        run, held = self._runs[key], self._held[key]
        return {
            metric: {each.step for each in self._client.get_metric_history(run, metric)}
            for metric in (*keys.EVALUATION_METRICS, *keys.OPTIONAL_CURVE_METRICS)
            if metric in held
        }

    def _log(
        self,
        run: str,
        *,
        metrics: list[Metric] | None = None,
        params: list[Param] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        run_tags = [RunTag(key, str(value)[:5000]) for key, value in (tags or {}).items()]
        entries = metrics or []
        for start in range(0, max(len(entries), 1), _METRICS_A_BATCH):
            chunk = entries[start : start + _METRICS_A_BATCH]
            self._client.log_batch(run, metrics=chunk, params=params or [], tags=run_tags)
            params, run_tags = None, []


def _params(block: Block, point: Mapping[str, Any]) -> list[Param]:
    """What a trial's run has as parameters."""
    values = {**point, "seeds": len(block.seeds)}
    return [Param(name, str(value)) for name, value in values.items()]


def tracking_uri(study: Study, folder: StudyFolder) -> str:
    """Where a study is tracked: as its file says, else the environment, else where it was begun.

    Raises:
        ConfigError: if it was begun on a store whose password only the environment knew.
    """
    stored = folder.tracking_uri()
    given = absolute_store(os.environ.get("MLFLOW_TRACKING_URI", ""))
    uri = study.storage.tracking_uri or given or stored
    if uri == stored and HIDDEN in uri:
        raise ConfigError(
            "MLFLOW_TRACKING_URI", f"not set; the study is tracked at {uri}", "set it, to go on"
        )
    return uri


def _make(store: Path) -> None:
    """Make an SQLite store, whole or not at all: MLflow makes its tables in dozens of steps, and
    cannot go on where it was ended between two."""
    with store.with_suffix(".lock").open("w") as lock:  # by one process at a time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if store.stat().st_size:
            return
        whole = store.with_suffix(".part")
        making = store.with_suffix(f".making-{uuid4().hex}")  # MLflow never forgets a name
        try:
            MlflowClient(f"sqlite:///{making}").search_experiments(max_results=1)
            whole.unlink(missing_ok=True)
            with closing(sqlite3.connect(making)) as made, closing(sqlite3.connect(whole)) as copy:
                made.backup(copy)
            whole.replace(store)
        finally:
            for left in store.parent.glob(f"{store.stem}.making-*"):  # with write-ahead logs
                left.unlink()


def _probe(uri: str) -> None:
    """Fail at once where MLflow would retry for minutes: an SQLite file that cannot be written, a
    server that does not answer. Makes a new SQLite store."""
    if uri.startswith("sqlite:///"):
        store = Path(uri.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(store, timeout=30)) as database:
            database.execute("BEGIN IMMEDIATE")
        if not store.stat().st_size:
            _make(store)
    elif (scheme := urlsplit(uri).scheme.partition("+")[0]) in _PORTS:
        if scheme.startswith("http"):
            host, port = urlsplit(uri).hostname, urlsplit(uri).port
        else:  # a password may hold what it could not in a web address
            host, port = make_url(uri).host, make_url(uri).port
        socket.create_connection((host or "", port or _PORTS[scheme]), timeout=5).close()
