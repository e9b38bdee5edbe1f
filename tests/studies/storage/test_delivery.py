"""MLflow goes away at any request and comes back: its store ends up as if it never had.

The store is real, and so is every request; a fault raises instead of a request, or after it took
effect, when only its answer is lost. Requests are those of MLflow's client or, where a block's runs
are written straight into the database, each transaction and each statement in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import event

import studies.storage.tracking.delivery
import studies.storage.tracking.mlflow_tracker
from dynloss_core import keys
from studies.blocks.block import Block
from studies.blocks.block_run import BlockRun
from studies.definition.study import Study
from studies.runner.progress import StudyProgress
from studies.runner.session import Session
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.mlflow_tracker import MLflowTracker
from studies.storage.tracking.run_writers import (
    ClientWriter,
    DatabaseWriter,
    RunWriter,
    writer_for,
)
from tests.studies.mlflow_runs import TRAIN_LOSS, runs_in, trial_of
from tests.studies.sessions import begun
from tests.studies.tiny import tiny_study

REQUESTS = {
    name
    for name in vars(MlflowClient)
    if name.split("_")[0] in ("create", "delete", "get", "log", "search", "set", "update")
}


@dataclass
class Faults:
    """Which requests fail, counted from 1, and whether after their effect.

    Args:
        first: the first that fails; 0 for none.
        last: the last that fails.
        after: whether a request has its effect before it fails.
    """

    first: int = 0
    last: int = 0
    after: bool = False
    seen: int = 0
    raised: int = 0


class UnreliableClient(MlflowClient):  # type: ignore[misc]
    """A real client some of whose requests fail."""

    faults = Faults()

    def __getattribute__(self, name: str) -> Any:
        request = super().__getattribute__(name)
        return unreliable(request) if name in REQUESTS else request


class UnreliableWriter:
    """A real writer to the database some of whose transactions and statements fail."""

    def __init__(self, writer: RunWriter) -> None:
        assert isinstance(writer, DatabaseWriter)
        self.create, self.write = unreliable(writer.create), unreliable(writer.write)
        self.children = unreliable(writer.children)
        refuse = unreliable(lambda *_: None)

        @event.listens_for(writer._engine, "before_cursor_execute")
        def _(*_: Any) -> None:
            refuse()


def unreliable(request: Callable[..., Any]) -> Callable[..., Any]:
    """A request that fails if it is its turn."""

    def asked(*args: Any, **kwargs: Any) -> Any:
        faults = UnreliableClient.faults
        faults.seen += 1
        fails = faults.first <= faults.seen <= faults.last
        if fails and not faults.after:
            faults.raised += 1
            raise MlflowException("the server is away")
        answer = request(*args, **kwargs)
        if fails:
            faults.raised += 1
            raise MlflowException("the answer is lost")
        return answer

    return asked


@dataclass
class Recorded:
    """A study trained once: its folder, its blocks in their order, what each reported on its way,
    and an empty store, made once."""

    study: Study
    folder: StudyFolder
    store: Path
    blocks: list[tuple[Block, list[pd.DataFrame]]] = field(default_factory=list)

    def connect(self, store: Path) -> Callable[[], MLflowTracker]:
        def connected() -> MLflowTracker:
            return MLflowTracker(
                self.study, "study", f"sqlite:///{store}", store.parent / "artifacts"
            )

        return connected


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    out = tmp_path_factory.mktemp("recorded")
    study = tiny_study(trials_per_arm=2, sampler="random", arms=["dynamical"], block_size=1)
    stored = begun(study, out)
    folder = stored.folder
    found = Recorded(study, folder, out / "empty.db")
    MlflowClient(f"sqlite:///{found.store}").search_experiments()  # makes the tables
    delivery = Delivery(folder, found.connect(out / "unused.db"))
    session = Session(stored, delivery, StudyProgress(study))
    while (block := session.next_block()) is not None:
        if not found.blocks:
            session.failed(block, "lost")
            found.blocks.append((block, []))
            continue
        run = BlockRun(study, block)
        means = [progress.means for progress in run.progress()]
        session.reported(block, 1.0, None, run.result())
        found.blocks.append((block, means))
    delivery.close()
    return found


def deliver(recorded: Recorded, folder: Path, faults: Faults) -> Path:
    """Deliver the study as it was recorded, with faults; where to. What is left when it ends is
    delivered by a second session without faults."""
    folder.mkdir(exist_ok=True)
    store = folder / "mlflow.db"
    with closing(sqlite3.connect(recorded.store)) as empty, closing(sqlite3.connect(store)) as new:
        empty.backup(new)  # with what is in its log
    UnreliableClient.faults = faults
    delivery = Delivery(recorded.folder, recorded.connect(store))
    for block, means in recorded.blocks:
        delivery.start(block)
        for each in means:
            delivery.log_means(block, each)
        delivery.finish(block)
    delivery.ask(conclude)
    delivery.close()
    UnreliableClient.faults = Faults()
    later = Delivery(recorded.folder, recorded.connect(store))
    for block, _ in recorded.blocks:
        later.finish(block)
    assert later.ask(conclude)
    assert not later.problem
    later.close()
    return store


def conclude(tracker: MLflowTracker) -> bool:
    tracker.close(finished=True, metrics={"answer": 42.0}, tags={"done": "yes"}, artifacts=[])
    return True


def content(store: Path) -> dict[str, Any]:
    """All that a store holds, without identifiers and times."""
    client = MlflowClient(f"sqlite:///{store}")
    found = {}
    for run in runs_in(client):
        assert trial_of(run) not in found, "one run per trial"
        tags = {
            k: v
            for k, v in run.data.tags.items()
            if (k.startswith("dynloss.") or k == "failure")
            and k != "dynloss.note"  # of identifiers
        }
        found[trial_of(run)] = {
            "status": run.info.status,
            "params": run.data.params,
            "tags": tags,
            "data": [each.dataset.to_dictionary() for each in run.inputs.dataset_inputs],
            "metrics": {
                name: sorted(
                    (metric.step, metric.value)
                    for metric in client.get_metric_history(run.info.run_id, name)
                )
                for name in run.data.metrics
            },
        }
    return found


@pytest.fixture(params=["client", "database"])
def store_fails(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def client_alone(client: MlflowClient, uri: str) -> RunWriter:
        return ClientWriter(client)

    def database(client: MlflowClient, uri: str) -> RunWriter:
        return UnreliableWriter(writer_for(client, uri))

    writer = client_alone if request.param == "client" else database
    monkeypatch.setattr(studies.storage.tracking.mlflow_tracker, "writer_for", writer)
    monkeypatch.setattr(studies.storage.tracking.mlflow_tracker, "MlflowClient", UnreliableClient)
    monkeypatch.setattr(studies.storage.tracking.mlflow_tracker, "_SECONDS_BETWEEN_BATCHES", 0.0)
    monkeypatch.setattr(studies.storage.tracking.delivery, "_FIRST_PAUSE", 0.0)


def test_what_an_undisturbed_store_holds(
    recorded: Recorded, store_fails: None, tmp_path: Path
) -> None:
    held = content(deliver(recorded, tmp_path, Faults()))
    assert sorted(held) == [
        "confirm/dynamical/1",
        "search/dynamical/0",
        "search/dynamical/1",
        "tiny",
    ]
    assert held["search/dynamical/0"]["status"] == "FAILED"
    assert held["search/dynamical/1"]["status"] == held["tiny"]["status"] == "FINISHED"
    for run in ("search/dynamical/1", "confirm/dynamical/1"):
        steps = [step for step, _ in held[run]["metrics"][TRAIN_LOSS]]
        assert steps == [0, 20, 40, 60]
        assert len(held[run]["metrics"][f"final_{keys.TRAIN_LOSS}"]) == 1
    assert held["tiny"]["metrics"] == {"answer": [(0, 42.0)]}


FAULTS = [
    ("database", 1, True),
    ("database", 1, False),
    ("database", 1000, True),
    ("client", 1, False),
    ("client", 3, True),
    ("client", 1000, False),
]


@pytest.mark.parametrize(
    ("store_fails", "length", "after", "stride"),
    [
        ("database", 1, True, 5),
        *(pytest.param(*case, 1, marks=pytest.mark.slow) for case in FAULTS),
    ],
    indirect=["store_fails"],
)
def test_a_fault_at_any_request_leaves_no_trace(
    length: int, after: bool, stride: int, recorded: Recorded, store_fails: None, tmp_path: Path
) -> None:
    """Each request in turn is the first to fail, or each of some: it is refused, or its answer is
    lost."""
    undisturbed = Faults()
    expected = content(deliver(recorded, tmp_path / "undisturbed", undisturbed))
    requests = 0
    while True:
        faults = Faults(requests + 1, requests + length, after)
        found = content(deliver(recorded, tmp_path / "faulty", faults))
        if not faults.raised:
            break
        requests += stride
        assert found == expected, f"{length} requests failed from number {requests} on"
    assert requests > 25, "every request of a study was tried"
