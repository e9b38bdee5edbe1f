"""What is written straight into MLflow's database is what its client would have written: row by
row, in every table."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.exceptions import MlflowException

from studies.storage.tracking.mlflow_store import probe
from studies.storage.tracking.run_writers import (
    ChildRun,
    ClientWriter,
    DatabaseWriter,
    NewRun,
    RunRows,
    RunWriter,
    writer_for,
)

NAMES = ("search/a/0", "search/a/1", "confirm/b/7")
DATA = [
    DatasetInput(Dataset(name, digest, "dynloss", "{}", profile=profile))
    for name, digest, profile in (
        ("spirals", "a1", None),
        ("digits", "a1", "p"),
        ("spirals", "b2", "p"),
    )
]
TIMES = {"start_time", "end_time", "creation_time", "last_update_time"}


class Store:
    """An empty store with an experiment and three runs in it."""

    def __init__(self, folder: Path, kind: str) -> None:
        folder.mkdir(parents=True)
        self.path = folder / "mlflow.db"
        self.uri = f"sqlite:///{self.path}"
        probe(self.uri)
        self.client = MlflowClient(self.uri)
        self.experiment = self.client.create_experiment("dynloss", artifact_location="file:///x y")
        direct = writer_for(self.client, self.uri)
        assert isinstance(direct, DatabaseWriter)
        self.writer: RunWriter = direct if kind == "database" else ClientWriter(self.client)
        new = [
            NewRun(name, {"dynloss.trial": name[-1], "mlflow.parentRunId": "p"}) for name in NAMES
        ]
        self.runs = self.writer.create(self.experiment, new)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, with names for identifiers of runs, and without times."""
        names = dict(zip(self.runs, NAMES, strict=True))
        with closing(sqlite3.connect(self.path)) as database:
            database.row_factory = sqlite3.Row
            for row in database.execute("SELECT dataset_uuid, name, digest FROM datasets"):
                names[row["dataset_uuid"]] = f"{row['name']} {row['digest']}"
            asked = "SELECT name FROM sqlite_master WHERE type = 'table'"
            tables = [row["name"] for row in database.execute(asked)]
            return {
                table: sorted(
                    tuple(plain(key, row[key], names) for key in row.keys())  # noqa: SIM118
                    for row in database.execute(f"SELECT * FROM {table}")
                )
                for table in tables
            }


def plain(key: str, value: Any, names: dict[str, str]) -> Any:
    if key in TIMES or key == "input_uuid":
        return value is not None
    text = repr(value)
    for run, name in names.items():
        text = text.replace(run, name)
    return text


metrics = st.builds(
    Metric,
    st.sampled_from(["train_loss", "final_test_accuracy", "system/cpu_percent"]),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.sampled_from([1_000, 2_000]),
    st.sampled_from([0, 20, 40]),
)
tags = st.dictionaries(
    st.sampled_from(["dynloss.engine", "dynloss.diverged", "failure"]), st.text(max_size=20)
)
params = st.lists(
    st.sampled_from([Param("period", "851.0"), Param("seeds", "4"), Param("rate", "1e-05")]),
    unique_by=lambda param: param.key,
)
writes = st.lists(
    st.builds(
        lambda which, *rest: (which, RunRows("", *rest)),
        st.sampled_from(range(3)),
        st.lists(metrics, max_size=6),
        params,
        tags,
        st.sampled_from([None, "FINISHED", "FAILED", "KILLED"]),
        st.sampled_from([None, *DATA]),
    ),
    max_size=5,
    unique_by=lambda write: write[0],
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(writes, min_size=1, max_size=3), again=st.booleans())
def test_every_row_is_the_clients(
    calls: list[list[tuple[int, RunRows]]], again: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    calls = [*calls, calls[0]] if again else calls
    folder = tmp_path_factory.mktemp("stores")
    stores = {kind: Store(folder / kind, kind) for kind in ("client", "database")}
    for store in stores.values():
        for call in calls:
            store.writer.write(
                replace(r, run=store.runs[which], metrics=list(r.metrics), params=list(r.params))
                for which, r in call
            )
    expected, found = (store.rows() for store in stores.values())
    assert found.keys() == expected.keys()
    for table, rows in expected.items():
        assert found[table] == rows, table


def test_what_is_delivered_twice_is_there_once(tmp_path: Path) -> None:
    curve = [Metric("train_loss", 1 / (step + 1), 5, step) for step in range(3)]
    more = [*curve, Metric("train_loss", 0.0, 5, 3), Metric("train_loss", 7.0, 5, 1)]
    stores = [Store(tmp_path / kind, kind) for kind in ("client", "database")]
    for store in stores:
        for metrics in (curve, curve, more, curve):
            store.writer.write([RunRows(run, list(metrics), tags={"a": "b"}) for run in store.runs])
    found = [store.rows() for store in stores]
    assert found[0] == found[1]
    assert len(found[1]["metrics"]) == 5 * len(NAMES)


def test_a_long_curve(tmp_path: Path) -> None:
    curve = [Metric("train_loss", 1 / (step + 1), 5, step) for step in range(2_500)]
    stores = [Store(tmp_path / kind, kind) for kind in ("client", "database")]
    for store in stores:
        store.writer.write([RunRows(run, list(curve), status="FINISHED") for run in store.runs])
    assert stores[0].rows() == stores[1].rows()


@pytest.mark.parametrize("kind", ["client", "database"])
def test_nothing_is_written_of_a_call_that_is_refused(kind: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store", kind)
    store.writer.write([RunRows(store.runs[0], params=[Param("period", "1")])])
    store.client.delete_run(store.runs[2])
    before = store.rows()
    with pytest.raises(MlflowException):
        store.writer.write([RunRows(store.runs[2], tags={"done": "yes"})])
    with pytest.raises(MlflowException):
        store.writer.write([RunRows(store.runs[0], params=[Param("period", "2")])])
    if kind == "database":
        with pytest.raises(MlflowException):
            store.writer.write([RunRows(run, tags={"done": "yes"}) for run in store.runs])
    store.client.delete_experiment(store.experiment)
    with pytest.raises(MlflowException):
        store.writer.create(store.experiment, [NewRun("search/a/9", {})])
    store.client.restore_experiment(store.experiment)
    store.client.delete_run(store.runs[2])
    found = store.rows()
    for table in ("metrics", "latest_metrics", "params", "tags"):
        assert found[table] == before[table]


def test_a_store_with_another_schema_is_left_to_the_client(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", "database")
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("ALTER TABLE runs ADD COLUMN colour TEXT")
    assert isinstance(writer_for(store.client, store.uri), ClientWriter)
    assert isinstance(writer_for(store.client, "http://127.0.0.1:1"), ClientWriter)


def test_runs_below_a_study_are_found_as_the_client_finds_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", "database")
    ended, running, deleted = store.runs
    store.writer.write(
        [
            RunRows(ended, [Metric("m", 1.0, 1, 0)], tags={"dynloss.arm": "a"}, status="FINISHED"),
            RunRows(running, [Metric("m", 1.0, 1, 0), Metric("n", 2.0, 1, 5)]),
            RunRows(deleted, status="FAILED"),
        ]
    )
    store.client.delete_run(deleted)
    store.writer.create(store.experiment, [NewRun("another's", {"mlflow.parentRunId": "q"})])
    elsewhere = store.client.create_experiment("another")
    store.writer.create(elsewhere, [NewRun("elsewhere", {"mlflow.parentRunId": "p"})])
    found = store.writer.children(store.experiment, "p")
    expected = ClientWriter(store.client).children(store.experiment, "p")
    key = attrgetter("run")  # they may have started in one millisecond
    assert sorted(found, key=key) == sorted(expected, key=key)
    by_run = {run.run: run for run in found}
    assert by_run[ended] == ChildRun(
        ended, {"dynloss.trial": "0", "dynloss.arm": "a"}, False, False, set()
    )
    assert by_run[running].metrics == {"m", "n"}
    assert by_run[deleted].is_deleted
