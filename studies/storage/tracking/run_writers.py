"""How runs get into MLflow's store: through its client, or many at once into its database.

The file is long because the same rows are written in two ways, to be compared.

The client takes a run at a time, and 42 statements in 12 transactions for a trial: 19 to 24 ms of
the driver. Where the store is a database that we know, the same rows are inserted in one
transaction for all trials of a block. A test compares every table with what the client would have
filled. Servers, and databases with other columns, are left to the client.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from studies.definition.database_columns import has_columns
from studies.definition.sqlite import sqlite_path
from studies.storage.tracking.mlflow_store import (
    is_served,  # sets the environment of what comes next
)
from studies.storage.tracking.mlflow_tables import (
    DATASETS,
    EXPERIMENTS,
    INPUTS,
    LATEST,
    METADATA,
    METRICS,
    PARAMS,
    RUNS,
    TAGS,
)
from studies.storage.tracking.repeating_client import PARENT
from studies.storage.tracking.trial_content import TAG

# isort: split
from mlflow import MlflowClient
from mlflow.entities import (
    DatasetInput,
    LifecycleStage,
    Metric,
    Param,
    RunStatus,
    RunTag,
    SourceType,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import append_to_uri_path

__all__ = [
    "ChildRun", "ClientWriter", "DatabaseWriter", "NewRun", "RunRows", "RunWriter", "writer_for",
]  # fmt: skip

_METRICS_PER_BATCH = 1000
_RUNS_PER_PAGE = 1000
_RUNNING = RunStatus.to_string(RunStatus.RUNNING)
_NAME = "mlflow.runName"
_AT_ONCE = 500  # values in one statement: SQLite takes 999 at most where it is old


class NewRun(NamedTuple):
    """A run to create.

    Args:
        name: what MLflow shows.
        tags: texts that it is found by.
    """

    name: str
    tags: Mapping[str, str]


@dataclass
class RunRows:
    """What is to be written of a run that exists.

    Args:
        run: its identifier.
        metrics: finite values; one that the run holds already is left as it is.
        params: parameters, which never change.
        tags: texts; those of the same key are replaced.
        status: the status that ends it, such as `FINISHED`; None leaves it open.
        data: the data set that it uses; None leaves those that it has.
    """

    run: str
    metrics: list[Metric] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str | None = None
    data: DatasetInput | None = None


class ChildRun(NamedTuple):
    """The run of a trial that is in the store.

    Args:
        run: its identifier.
        tags: the suite's own, by their names in the store.
        is_deleted: whether it is in the trash.
        is_open: whether it has not ended.
        metrics: names of those that it holds, if it is open.
    """

    run: str
    tags: dict[str, str]
    is_deleted: bool
    is_open: bool
    metrics: set[str]


class RunWriter(Protocol):
    """Writes runs to MLflow's store, and finds those of a study's trials."""

    def create(self, experiment: str, runs: Sequence[NewRun]) -> list[str]:
        """Create runs in an experiment, and return their identifiers."""

    def write(self, runs: Iterable[RunRows]) -> None:
        """Write what is new of runs.

        Raises:
            MlflowException: if one of them is in the trash, or a parameter of it has another value.
        """

    def children(self, experiment: str, parent: str) -> list[ChildRun]:
        """The runs below a study's, those in the trash included, the earliest first."""


class ClientWriter:
    """Writes runs one by one, as any store of MLflow takes them.

    Args:
        client: of the store.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def create(self, experiment: str, runs: Sequence[NewRun]) -> list[str]:
        """See `RunWriter.create`."""
        create = self._client.create_run
        made = [create(experiment, tags=dict(run.tags), run_name=run.name) for run in runs]
        return [str(run.info.run_id) for run in made]

    def write(self, runs: Iterable[RunRows]) -> None:
        """See `RunWriter.write`."""
        for run in runs:
            params, tags = run.params, [RunTag(key, value) for key, value in run.tags.items()]
            for start in range(0, max(len(run.metrics), 1), _METRICS_PER_BATCH):
                chunk = run.metrics[start : start + _METRICS_PER_BATCH]
                self._client.log_batch(run.run, metrics=chunk, params=params, tags=tags)
                params, tags = [], []
            if run.data is not None:
                self._client.log_inputs(run.run, [run.data])
            if run.status is not None:
                self._client.set_terminated(run.run, run.status)

    def children(self, experiment: str, parent: str) -> list[ChildRun]:
        """See `RunWriter.children`."""
        found: list[ChildRun] = []
        token = None
        while True:
            page = self._client.search_runs(
                [experiment],
                f"tags.`{PARENT}` = '{parent}'",
                run_view_type=ViewType.ALL,
                max_results=_RUNS_PER_PAGE,
                order_by=["attributes.start_time"],
                page_token=token,
            )
            for run in page:
                tags = {key: text for key, text in run.data.tags.items() if key.startswith(TAG)}
                is_open = run.info.status == _RUNNING
                deleted = run.info.lifecycle_stage == LifecycleStage.DELETED
                metrics = set(run.data.metrics) if is_open else set()
                found.append(ChildRun(run.info.run_id, tags, deleted, is_open, metrics))
            token = page.token
            if not token:
                return found


class DatabaseWriter:
    """Writes runs into the tables of MLflow's database, all of a call in one transaction.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(self, experiment: str, runs: Sequence[NewRun]) -> list[str]:
        """See `RunWriter.create`."""
        if not runs:
            return []
        made = [uuid4().hex for _ in runs]
        now = _milliseconds()
        with self._engine.begin() as database:
            place = self._place_of(database, experiment)
            database.execute(
                sa.insert(RUNS),
                [
                    {
                        "run_uuid": run_id,
                        "name": run.name,
                        "source_type": SourceType.to_string(SourceType.UNKNOWN),
                        "source_name": "",
                        "entry_point_name": "",
                        "user_id": "unknown",
                        "status": RunStatus.to_string(RunStatus.RUNNING),
                        "start_time": now,
                        "end_time": None,
                        "deleted_time": None,
                        "source_version": "",
                        "lifecycle_stage": LifecycleStage.ACTIVE,
                        "artifact_uri": _folder_in(place, run_id),
                        "experiment_id": int(experiment),
                    }
                    for run_id, run in zip(made, runs, strict=True)
                ],
            )
            named = ({**run.tags, _NAME: run.name} for run in runs)
            rows = [_text(i, *t) for i, tags in zip(made, named, strict=True) for t in tags.items()]
            database.execute(sa.insert(TAGS), rows)
        return made

    def write(self, runs: Iterable[RunRows]) -> None:
        """See `RunWriter.write`."""
        with self._engine.begin() as database:
            for part in _in_parts(list(runs), _AT_ONCE):
                self._write(database, part)

    def children(self, experiment: str, parent: str) -> list[ChildRun]:
        """See `RunWriter.children`; MLflow's search reads all that runs hold, 2 ms for each."""
        below = sa.and_(TAGS.c.key == PARENT, TAGS.c.value == parent)
        runs = sa.select(RUNS.c.run_uuid).join(TAGS, TAGS.c.run_uuid == RUNS.c.run_uuid)
        runs = runs.where(below, RUNS.c.experiment_id == int(experiment))
        asked = runs.add_columns(RUNS.c.lifecycle_stage, RUNS.c.status)
        own = sa.select(TAGS.c.run_uuid, TAGS.c.key, TAGS.c.value)
        own = own.where(TAGS.c.key.startswith(TAG, autoescape=True))
        still = runs.where(RUNS.c.status == _RUNNING)
        held = sa.select(LATEST.c.run_uuid, LATEST.c.key)
        with self._engine.connect() as database:
            found = {
                run: ChildRun(run, {}, stage == LifecycleStage.DELETED, status == _RUNNING, set())
                for run, stage, status in database.execute(
                    asked.order_by(RUNS.c.start_time, RUNS.c.run_uuid)
                )
            }
            for run, key, text in database.execute(own.where(TAGS.c.run_uuid.in_(runs))):
                found[run].tags[key] = text
            for run, name in database.execute(held.where(LATEST.c.run_uuid.in_(still))):
                found[run].metrics.add(name)
        return list(found.values())

    def _write(self, database: sa.Connection, runs: Sequence[RunRows]) -> None:
        names = [run.run for run in runs]
        experiments = self._experiments_of(database, names)
        self._insert_data(database, runs, experiments)
        self._insert_params(database, runs, names)
        metrics = [_number(run.run, metric) for run in runs for metric in run.metrics]
        _insert(database, METRICS, metrics, held="left")
        self._update_latest(database, metrics, names)
        tags = {(run.run, key): value for run in runs for key, value in run.tags.items()}
        self._replace(database, TAGS, {k: _text(*k, value) for k, value in tags.items()}, names)
        ended = [(run.run, run.status) for run in runs if run.status is not None]
        if ended:
            statement = sa.update(RUNS).where(RUNS.c.run_uuid == sa.bindparam("of_run"))
            now = _milliseconds()
            database.execute(
                statement.values(status=sa.bindparam("ends"), end_time=now),
                [{"of_run": name, "ends": status} for name, status in ended],
            )

    def _place_of(self, database: sa.Connection, experiment: str) -> str:
        """The folder of an experiment's artifacts."""
        query = sa.select(EXPERIMENTS.c.artifact_location, EXPERIMENTS.c.lifecycle_stage)
        row = database.execute(
            query.where(EXPERIMENTS.c.experiment_id == int(experiment))
        ).one_or_none()
        if row is None or row.lifecycle_stage != LifecycleStage.ACTIVE:
            raise MlflowException(f"the experiment {experiment} is not active")
        return str(row.artifact_location)

    def _experiments_of(self, database: sa.Connection, names: Sequence[str]) -> dict[str, int]:
        """The experiment of each run, none of which may be deleted."""
        query = sa.select(RUNS.c.run_uuid, RUNS.c.experiment_id).where(
            RUNS.c.run_uuid.in_(names), RUNS.c.lifecycle_stage == LifecycleStage.ACTIVE
        )
        active = {
            row.run_uuid: row.experiment_id for row in database.execute(query.with_for_update())
        }
        lost = next((name for name in names if name not in active), None)
        if lost is not None:
            raise MlflowException(f"the run {lost} is not active")
        return active

    def _insert_data(
        self, database: sa.Connection, runs: Sequence[RunRows], experiments: Mapping[str, int]
    ) -> None:
        """Insert the data sets that runs use, one per experiment, name and digest."""
        known: dict[tuple[int, str, str], str] = {}
        rows = []
        for run in runs:
            if run.data is None:
                continue
            data = run.data.dataset
            place = experiments[run.run], data.name, data.digest
            if place not in known:
                known[place] = self._identifier_of(database, *place, run.data)
            rows.append(
                {
                    "input_uuid": uuid4().hex,
                    "source_type": "DATASET",
                    "source_id": known[place],
                    "destination_type": "RUN",
                    "destination_id": run.run,
                    "step": 0,
                }
            )
        _insert(database, INPUTS, rows, held="left")

    def _identifier_of(
        self, database: sa.Connection, experiment: int, name: str, digest: str, used: DatasetInput
    ) -> str:
        """The identifier of a data set, inserted if the experiment has none of its name and
        digest."""
        row = {
            "dataset_uuid": uuid4().hex,
            "experiment_id": experiment,
            "name": name,
            "digest": digest,
            "dataset_source_type": used.dataset.source_type,
            "dataset_source": used.dataset.source,
            "dataset_schema": used.dataset.schema,
            "dataset_profile": used.dataset.profile,
        }
        _insert(database, DATASETS, [row], held="left")
        query = sa.select(DATASETS.c.dataset_uuid).where(
            DATASETS.c.experiment_id == experiment,
            DATASETS.c.name == name,
            DATASETS.c.digest == digest,
        )
        return str(database.execute(query).scalar_one())

    def _insert_params(
        self, database: sa.Connection, runs: Sequence[RunRows], names: Sequence[str]
    ) -> None:
        """Insert the parameters that a run does not have."""
        given = {(run.run, param.key): str(param.value) for run in runs for param in run.params}
        if not given:
            return
        query = sa.select(PARAMS).where(PARAMS.c.run_uuid.in_(names))
        known = {(row.run_uuid, row.key): row.value for row in database.execute(query)}
        for place, value in given.items():
            if known.get(place, value) != value:
                raise MlflowException(f"the parameter {place[1]} of {place[0]} has another value")
        rows = [_text(*place, value) for place, value in given.items() if place not in known]
        _insert(database, PARAMS, rows)

    def _update_latest(
        self, database: sa.Connection, metrics: Sequence[dict[str, Any]], names: Sequence[str]
    ) -> None:
        """Let the table of latest values have those of the last step."""
        latest: dict[tuple[str, str], dict[str, Any]] = {}
        query = sa.select(LATEST).where(LATEST.c.run_uuid.in_(names))
        held = [dict(row._mapping) for row in database.execute(query)]
        before = {(row["run_uuid"], row["key"]): row for row in held}
        for row in metrics:
            place = row["run_uuid"], row["key"]
            known = latest.get(place, before.get(place))
            if known is None or _recent(row) > _recent(known):
                latest[place] = row
        self._replace(database, LATEST, latest, names)

    def _replace(
        self,
        database: sa.Connection,
        table: sa.Table,
        rows: Mapping[tuple[str, str], dict[str, Any]],
        names: Sequence[str],
    ) -> None:
        """Insert rows, each in place of the one of its run and key, if there is one."""
        if not rows:
            return
        query = sa.select(table.c.run_uuid, table.c.key).where(table.c.run_uuid.in_(names))
        present = [tuple(row) for row in database.execute(query) if tuple(row) in rows]
        if present:
            statement = sa.delete(table).where(
                table.c.run_uuid == sa.bindparam("of_run"), table.c.key == sa.bindparam("of_key")
            )
            database.execute(statement, [{"of_run": run, "of_key": key} for run, key in present])
        _insert(database, table, list(rows.values()))


def writer_for(client: MlflowClient, uri: str) -> RunWriter:
    """The fastest writer that knows the store.

    Args:
        client: of the store, which it has opened.
        uri: where it is.
    """
    if is_served(uri) or (sqlite_path(uri) is None and not uri.startswith("postgresql")):
        return ClientWriter(client)
    is_file = sqlite_path(uri) is not None
    engine = sa.create_engine(uri, connect_args={"timeout": 30} if is_file else {})
    if has_columns(engine, METADATA):
        return DatabaseWriter(engine)
    engine.dispose()
    return ClientWriter(client)


def _folder_in(place: str, run: str) -> str:
    """The folder of a run's artifacts."""
    return str(append_to_uri_path(place, run, "artifacts"))  # type: ignore[no-untyped-call]


def _insert(
    database: sa.Connection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    *,
    held: Literal["refused", "left"] = "refused",
) -> None:
    """Insert rows; one whose primary key the table holds is refused, or left as it is."""
    if not rows:
        return
    if held == "refused":
        database.execute(sa.insert(table), list(rows))
    else:  # of the dialects that `writer_for` lets through
        insert = sqlite.insert if database.dialect.name == "sqlite" else postgresql.insert
        database.execute(insert(table).on_conflict_do_nothing(), list(rows))


def _in_parts(runs: Sequence[RunRows], size: int) -> Iterable[Sequence[RunRows]]:
    return (runs[start : start + size] for start in range(0, len(runs), size))


def _text(run: str, key: str, value: str) -> dict[str, Any]:
    return {"run_uuid": run, "key": key, "value": value}


def _number(run: str, metric: Metric) -> dict[str, Any]:
    return {
        "run_uuid": run,
        "key": metric.key,
        "value": metric.value,
        "timestamp": metric.timestamp,
        "step": metric.step,
        "is_nan": False,
    }


def _recent(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["step"], row["timestamp"], row["value"]


def _milliseconds() -> int:
    return int(time.time() * 1000)
