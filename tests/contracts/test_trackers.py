"""What every tracker does: one run per trial, each step once, whoever connects and however often.

A tracker of another service passes these by a `Store` of its own in `STORES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from dynloss_core import keys
from studies.blocks.block import Block, BlockResult
from studies.blocks.block_run import BlockRun
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.search.arm_search import ArmSearch
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.base import Tracker
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.mlflow_tracker import MLflowTracker
from studies.storage.tracking.tracker_process import TrackerProcess
from studies.storage.tracking.trial_content import CURVES
from tests.studies.memory_tracker import MemoryTracker
from tests.studies.tiny import TINY

Held = dict[tuple[str, str, int], tuple[str, dict[str, list[int]]]]


@dataclass
class MemoryStore:
    content: dict[str, Any] = field(default_factory=dict)

    def connect(self) -> Tracker:
        return MemoryTracker(self.content)

    def held(self) -> Held:
        """Status, and the steps of each metric, of every trial's run."""
        return {
            key: (run.status, {name: sorted(steps) for name, steps in run.metrics.items()})
            for key, run in self.content["trials"].items()
        }


@dataclass
class MLflowStore:
    study: Study
    out: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.out / 'mlflow.db'}"

    def connect(self) -> Tracker:
        return MLflowTracker(self.study, "id", self.uri, self.out / "artifacts")

    def held(self) -> Held:
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name("dynloss")
        found: Held = {}
        for run in client.search_runs([experiment.experiment_id], "tags.`dynloss.trial` != ''"):
            tags = run.data.tags
            key = (tags["dynloss.phase"], tags["dynloss.arm"], int(tags["dynloss.trial"]))
            assert key not in found, "a second run for a trial"
            histories = {
                name: [
                    each.step
                    for each in client.get_metric_history(run.info.run_id, f"{CURVES}{name}")
                ]
                for name in keys.EVALUATION_METRICS
            }
            found[key] = (run.info.status, {n: sorted(s) for n, s in histories.items() if s})
        return found


@dataclass
class MLflowInAProcess(MLflowStore):
    """The same, written by a process of its own."""

    process: TrackerProcess | None = None

    def connect(self) -> Tracker:
        if self.process is None:
            self.process = TrackerProcess(_connection, self.study, self.uri, self.out / "artifacts")
        return self.process.connect()


def _connection(study: Study, uri: str, artifacts: Path) -> Callable[[], Tracker]:
    return lambda: MLflowTracker(study, "id", uri, artifacts)


STORES: dict[str, Callable[[Study, Path], Any]] = {
    "memory": lambda study, out: MemoryStore(),
    "mlflow": MLflowStore,
    "mlflow in a process": MLflowInAProcess,
}


@dataclass
class Trained:
    """A block that was trained once, with what it reported on its way."""

    study: Study
    block: Block
    means: list[pd.DataFrame]
    result: BlockResult


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import optuna

    file = tmp_path_factory.mktemp("trained") / "tiny.yaml"
    file.write_text(TINY)
    study = load_study(file)
    block = ArmSearch(study, "dynamical", optuna.storages.InMemoryStorage()).ask()
    assert block is not None
    run = BlockRun(study, block)
    means = [progress.means for progress in run.progress()]
    return Trained(study, block, means, run.result())


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, trained: Trained, tmp_path: Path) -> Iterator[Any]:
    store = STORES[request.param](trained.study, tmp_path)
    yield store
    if isinstance(store, MLflowInAProcess) and store.process is not None:
        store.process.end()


def numbers(block: Block) -> list[tuple[str, str, int]]:
    return [(block.phase, block.arm, trial.number) for trial in block.trials]


def test_a_block_is_started_reported_and_closed_once(store: Any, trained: Trained) -> None:
    tracker, block = store.connect(), trained.block
    assert not tracker.is_finished(block)
    tracker.start(block)
    tracker.start(block)
    for means in trained.means:
        tracker.log_means(block, means)
    assert tracker.finish(block, trained.result.members) == len(block.trials)
    assert tracker.is_finished(block)
    assert tracker.finish(block, trained.result.members) == 0
    held = store.held()
    assert sorted(held) == numbers(block)
    for status, steps in held.values():
        assert status == "FINISHED"
        assert all(each == [0, 20, 40, 60] for each in steps.values())
        assert set(steps) == set(keys.EVALUATION_METRICS)
    runs = tracker.runs()
    assert list(runs.columns) == [keys.PHASE, keys.ARM, keys.TRIAL, "mlflow_run"]
    assert runs["mlflow_run"].nunique() == len(runs) == len(block.trials)


def test_whoever_connects_finds_the_runs_and_sends_the_rest(store: Any, trained: Trained) -> None:
    first, block = store.connect(), trained.block
    first.start(block)
    first.log_means(block, trained.means[0])
    later = store.connect()
    assert later.kept() == first.kept()
    assert not later.is_finished(block)
    later.start(block)
    later.log_means(block, pd.concat(trained.means))
    assert later.finish(block, trained.result.members) == len(block.trials)
    last = store.connect()
    assert last.is_finished(block)
    pd.testing.assert_frame_equal(last.runs(), later.runs())
    assert all(
        steps == [0, 20, 40, 60] for _, held in store.held().values() for steps in held.values()
    )


def test_a_block_that_failed_is_closed_without_being_started(store: Any, trained: Trained) -> None:
    tracker = store.connect()
    assert tracker.finish(trained.block, pd.DataFrame()) == len(trained.block.trials)
    assert {status for status, _ in store.held().values()} == {"FAILED"}


def test_the_studys_run_is_closed_and_opened_again(
    store: Any, trained: Trained, tmp_path: Path
) -> None:
    file = tmp_path / "summary.json"
    file.write_text("{}")
    for finished in (False, True):
        tracker = store.connect()
        tracker.close(
            finished=finished,
            metrics={"gain": 0.1, "nothing": float("nan")},
            tags={"commit": "0"},
            artifacts=[(file, ""), (file, "tables")],
        )
    assert store.connect().kept() == tracker.kept()
    store.connect().discard()


def test_the_delivery_needs_no_more_than_a_tracker(
    store: Any, trained: Trained, tmp_path: Path
) -> None:
    folder = StudyFolder.of(trained.study, tmp_path)
    StoredStudy.begin(folder, trained.study, resume=False)
    folder.parts.record(trained.block, trained.result)
    delivery = Delivery(folder, store.connect)
    delivery.start(trained.block)
    delivery.finish(trained.block)
    runs = delivery.ask(lambda tracker: tracker.runs())
    delivery.close()
    assert runs is not None
    assert len(runs) == delivery.delivered == len(trained.block.trials)
    assert {status for status, _ in store.held().values()} == {"FINISHED"}
