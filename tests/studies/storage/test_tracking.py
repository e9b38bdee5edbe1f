"""MLflow's store: made whole or not at all, and one run per trial whatever it holds."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from dynloss_core import keys
from studies.blocks.block import Block
from studies.definition.sqlite import _on_connect, is_shared
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.runner.run_study import run_study, sync_study
from studies.storage.stored_study import StoredStudy
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.mlflow_store import probe
from studies.storage.tracking.mlflow_tracker import MLflowTracker
from studies.storage.tracking.no_tracker import NoTracker
from studies.storage.tracking.parent_run import find_parent
from tests.services import SECONDS, wait_until
from tests.studies.commands import dynloss_here
from tests.studies.mlflow_runs import TRAIN_LOSS
from tests.studies.sessions import (
    begun,
    finish,
    run_without_ray,
    session_of,
    tracker_of,
    train_next,
)
from tests.studies.tiny import tiny_study

CONNECT = """\
import sys
from pathlib import Path
from studies.definition.study_files import load_study
from studies.storage.tracking.mlflow_store import probe
from studies.storage.tracking.mlflow_tracker import MLflowTracker
file, store = map(Path, sys.argv[1:])
MLflowTracker(load_study(file), "id", f"sqlite:///{store}", store.parent)
"""


def connecting(file: Path, store: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CONNECT, str(file), str(store)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def tracker(study: Study, store: Path) -> MLflowTracker:
    return MLflowTracker(study, "id", f"sqlite:///{store}", store.parent)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_killed_while_the_store_is_made(
    end: signal.Signals, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # which keeps no store yet
    store = tmp_path / "mlflow.db"
    process = connecting(tiny, store)
    being_made = "mlflow.making-*"
    wait_until(
        lambda: any(path.stat().st_size for path in tmp_path.glob(being_made)), process, every=0.01
    )
    process.send_signal(end)
    process.communicate()
    if process.returncode == 0:
        assert end == signal.SIGINT, "which Python drops where it runs a finaliser"
    else:
        assert not store.stat().st_size, "nothing, rather than half of it"
        assert dynloss_here("ui", "--out", tmp_path).returncode == 2, "no empty store is served"
    assert tracker(load_study(tiny), store).runs().empty
    assert {path.name for path in tmp_path.glob("mlflow*")} <= {
        "mlflow.db", "mlflow.db-shm", "mlflow.db-wal", "mlflow.lock"
    }  # fmt: skip


def test_a_store_is_copied_from_one_that_was_made_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tables = [rows_in(made(tmp_path / f"{name}.db")) for name in ("migrated", "copied")]
    (kept,) = (tmp_path / "cache" / "dynloss").iterdir()
    assert tables[0] == tables[1]
    inode = kept.stat().st_ino
    kept.write_bytes(b"damaged" + kept.read_bytes()[7:])
    again = rows_in(made(tmp_path / "again.db"))  # MLflow writes constraints in any order
    assert {**again, "schema": 0} == {**tables[0], "schema": 0}
    assert kept.stat().st_ino != inode, "one that was damaged is made anew"
    monkeypatch.setattr("studies.storage.tracking.empty_store._migrate", None)
    assert rows_in(made(tmp_path / "last.db")) == again


def test_a_store_is_made_where_none_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert rows_in(made(tmp_path / "mlflow.db"))["experiments"] == 1


def made(store: Path) -> Path:
    """A store that the suite made and MLflow opened."""
    probe(f"sqlite:///{store}")
    MlflowClient(f"sqlite:///{store}").search_experiments()
    return store


def rows_in(store: Path) -> dict[str, int]:
    """How many rows each table and index of a store has; of its schema, the text."""
    with closing(sqlite3.connect(store)) as database:
        schema = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        rows = {
            name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in schema
        }
        rest = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return {**rows, "schema": hash(tuple(sorted(schema.items()))), "all": rest}


@pytest.mark.slow
def test_two_studies_make_one_store(tiny: Path, tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    both = [connecting(tiny, store) for _ in range(2)]
    said = [process.communicate(timeout=SECONDS)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said


def test_of_two_runs_of_a_trial_the_closed_one_stays(tmp_path: Path) -> None:
    """A server that answers too late may make a second run where a first was asked for again."""
    study = tiny_study()
    session = session_of(study, tmp_path)
    block = train_next(session)
    tracking = tracker_of(session)
    client = MlflowClient(tracking.uri)
    closed = tracking.runs()["mlflow_run"].tolist()
    for run_id in closed:
        run = client.get_run(run_id)
        client.create_run(
            tracking.experiment,
            start_time=run.info.start_time - 1000,
            tags=run.data.tags,
            run_name=run.info.run_name,
        )
    session.delivery.close()
    later = MLflowTracker(study, StoredStudy.read(session.folder).identity, tracking.uri, tmp_path)
    assert later.runs()["mlflow_run"].tolist() == closed
    assert later.is_finished(block)
    left = client.search_runs([tracking.experiment], f"tags.`dynloss.{keys.BLOCK}` = '{block.id}'")
    assert {run.info.run_id for run in left} == set(closed)


@pytest.mark.parametrize(
    ("kind", "shared"), [("ext4", False), ("nfs4", True), ("fuse.sshfs", True), ("overlay", False)]
)
def test_no_write_ahead_log_where_other_machines_write(
    kind: str, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = SimpleNamespace(mountpoint=str(tmp_path), fstype=kind)
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: [mount])
    is_shared.cache_clear()
    connection = sqlite3.connect(tmp_path / "deep.db")
    _on_connect(connection, None)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete" if shared else "wal",)
    connection.close()
    is_shared.cache_clear()


def test_a_study_without_a_tracker_leaves_its_tables_and_no_store(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_without_ray(monkeypatch)
    study = load_study(tiny, ["storage.tracker=none"])
    outcome = run_study(study, tmp_path / "out")
    assert outcome.finished
    assert not outcome.unreachable
    assert outcome.folder.report.exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny"]
    assert sync_study(outcome.folder) == (0, "no tracker")


def test_of_two_attempts_to_make_the_studys_run_one_is_kept(tmp_path: Path) -> None:
    """An attempt that took too long may end after the next one began."""
    study, store = tiny_study(), f"sqlite:///{tmp_path / 'mlflow.db'}"
    slow = MlflowClient(store)

    class Overtaken(MlflowClient):
        """Whose search was answered before another attempt made the run."""

        searches = 0

        def search_runs(self, *args: Any, **kwargs: Any) -> Any:
            self.searches += 1
            return [] if self.searches == 1 else super().search_runs(*args, **kwargs)

    first = find_parent(slow, study, "one", None, tmp_path)
    assert find_parent(Overtaken(store), study, "one", None, tmp_path) == first
    assert [run.info.run_id for run in slow.search_runs([first[0]])] == [first[1]]


def test_a_session_that_ended_and_the_next_one_make_one_run(tmp_path: Path) -> None:
    """The first may still wait for a slow store: each search of it is answered late."""
    study, store = tiny_study(), f"sqlite:///{tmp_path / 'mlflow.db'}"

    class Slow(MlflowClient):
        """Whose runs are stamped at once and stored late."""

        def create_run(self, *args: Any, **kwargs: Any) -> Any:
            stamp = int(1000 * time.time())
            time.sleep(0.5)
            return super().create_run(*args, start_time=stamp, **kwargs)

    MlflowClient(store).search_experiments()  # the store is there
    with ThreadPoolExecutor() as pool:
        clients = [Slow(store), MlflowClient(store), Slow(store), MlflowClient(store)]
        found = list(
            pool.map(lambda client: find_parent(client, study, "one", None, tmp_path), clients)
        )
    assert len(set(found)) == 1
    (experiment, run), *_ = found
    assert [each.info.run_id for each in clients[1].search_runs([experiment])] == [run]


def test_a_delivery_that_was_given_up_delivers_nothing_more(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its store answers too late: the next session may be at work by then."""
    monkeypatch.setattr("studies.storage.tracking.delivery._SECONDS_TO_END", 0.2)
    stored = begun(load_study(tiny), tmp_path)
    answers, connected = threading.Event(), threading.Event()
    asked: list[str] = []

    class Late(NoTracker):
        def __init__(self) -> None:
            connected.set()
            answers.wait(SECONDS)

        def start(self, block: Block) -> None:
            asked.append(block.id)

    delivery = Delivery(stored.folder, Late)
    block = session_of(stored.study, tmp_path).next_block()
    assert block is not None
    for _ in range(3):
        delivery.start(block)
    assert connected.wait(SECONDS)
    delivery.close()
    answers.set()
    delivery._thread.join(SECONDS)
    assert not delivery._thread.is_alive()
    assert len(asked) <= 2, "what was under way (the block, once connected, and once asked)"


@pytest.mark.parametrize(
    ("curves", "held"), [("all", {"search", "confirm"}), ("winners", {"confirm"}), ("none", set())]
)
def test_the_runs_that_a_study_wants_hold_their_curves(
    curves: str, held: set[str], tmp_path: Path
) -> None:
    study = tiny_study(trials_per_arm=2, storage={"curves": curves})
    assert study.hash == tiny_study(trials_per_arm=2).hash, "it changes no result"
    session = session_of(study, tmp_path)
    finish(session)
    session.delivery.ask(lambda tracker: None)
    tracking = tracker_of(session)
    client = MlflowClient(tracking.uri)
    runs = tracking.runs().set_index("mlflow_run")[keys.PHASE]
    found = {run: client.get_run(run).data.metrics for run in runs.index}
    assert all(f"final_{keys.TRAIN_LOSS}" in metrics for metrics in found.values())
    assert {runs[run] for run, metrics in found.items() if TRAIN_LOSS in metrics} == held
    session.delivery.close()
