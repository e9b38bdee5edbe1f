"""What people do to a study in MLflow's pages: rename, delete, restore."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.cli import cli as mlflow
from mlflow.entities import Run, ViewType

from dynloss_core.config import ConfigError
from studies.blocks.block import Block
from studies.blocks.tables import mean_curves
from studies.definition.sqlite import sqlite_url
from studies.definition.study import Study
from studies.storage.tracking.mlflow_tracker import MLflowTracker
from tests.studies.sessions import next_block, session_of, tracker_of, train_next
from tests.studies.tiny import tiny_study
from tests.studies.trained_blocks import trained


@pytest.fixture(scope="module")
def block_and_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Block, Study]:
    study = tiny_study()
    block = next_block(session_of(study, tmp_path_factory.mktemp("study")))
    return block, study


class Store:
    """A store with a tracker of one study whose first block is at work.

    Args:
        folder: of the store.
        block: the block.
        study: the study.
    """

    def __init__(self, folder: Path, block: Block, study: Study) -> None:
        self.folder, self.block, self.study = folder, block, study
        self.uri = sqlite_url(folder / "mlflow.db")
        self.tracker = self.connect(known=False)
        self.client = MlflowClient(self.uri)
        self.tracker.start(block)

    def connect(self, identity: str = "id", *, known: bool) -> MLflowTracker:
        """A tracker as of a later session; `known`: the folder still knows the run."""
        run = self.tracker.parent if known else None
        return MLflowTracker(self.study, identity, self.uri, self.folder / "artifacts", run)

    def finish(self, tracker: MLflowTracker) -> int:
        """Train the block and deliver it; how many runs were open."""
        result = trained(self.study, self.block)
        tracker.start(self.block)
        tracker.log_means(self.block, mean_curves(result.curves))
        return tracker.finish(self.block, result.members)

    def runs(self) -> list[Run]:
        """All of the store, those in the trash too."""
        everywhere = [each.experiment_id for each in self.client.search_experiments(ViewType.ALL)]
        return list(self.client.search_runs(everywhere, run_view_type=ViewType.ALL))


@pytest.fixture
def store(tmp_path: Path, block_and_study: tuple[Block, Study]) -> Store:
    return Store(tmp_path, *block_and_study)


def restore(refusal: ConfigError, store: Store) -> None:
    """Type the command that a refusal names, as it stands there."""
    _, _, command = str(refusal).partition("restore it: ")
    variable, program, *words = shlex.split(command.partition("; ")[0])
    assert (variable, program) == (f"MLFLOW_TRACKING_URI={store.uri}", "mlflow")
    done = CliRunner().invoke(mlflow, words, env=dict([variable.split("=", 1)]))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("known", [True, False])
def test_a_renamed_experiment_stays_the_study_s(store: Store, known: bool) -> None:
    client, experiment = store.client, store.tracker.experiment
    client.rename_experiment(experiment, "thesis")
    other = client.create_experiment("dynloss")  # the name is free, and somebody takes it
    client.update_run(store.tracker.parent, name="the good one")
    for run in store.tracker.runs()["mlflow_run"]:
        client.update_run(run, name="x")
    before = len(store.runs())
    later = store.connect(known=known)
    assert (later.experiment, later.parent) == (experiment, store.tracker.parent)
    assert store.finish(later) == len(store.block.trials)
    assert len(store.runs()) == before
    assert not client.search_runs([other])
    assert client.get_run(later.parent).info.run_name == "the good one"
    assert store.connect("another study", known=False).experiment == other


@pytest.mark.parametrize("known", [True, False])
def test_a_deleted_experiment_is_named_with_what_restores_it(store: Store, known: bool) -> None:
    before = len(store.runs())
    store.client.delete_experiment(store.tracker.experiment)
    with pytest.raises(ConfigError, match="the experiment 'dynloss' is in MLflow's trash") as begun:
        store.connect(known=known)
    with pytest.raises(ConfigError, match=r"or give storage\.experiment another name"):
        store.connect("a new study", known=False)
    assert len(store.runs()) == before, "nothing is made in its place"
    assert "\n" not in str(begun.value)
    restore(begun.value, store)
    later = store.connect(known=known)
    assert later.parent == store.tracker.parent
    assert store.finish(later) == len(store.block.trials)
    assert len(store.runs()) == before


def test_a_deleted_run_is_named_with_what_restores_it(store: Store) -> None:
    parent, before = store.tracker.parent, len(store.runs())
    store.client.delete_run(parent)
    with pytest.raises(ConfigError, match=f"the run {parent} is in MLflow's trash") as refusal:
        store.connect(known=False)
    assert store.connect("another study", known=False).experiment == store.tracker.experiment
    restore(refusal.value, store)
    assert store.connect(known=True).parent == parent
    assert len(store.runs()) == before + 1, "that of the other study"


def test_training_goes_on_while_the_experiment_is_deleted(tmp_path: Path) -> None:
    session = session_of(tiny_study(), tmp_path)
    experiment = tracker_of(session).experiment
    client = MlflowClient(tracker_of(session).uri)
    client.delete_experiment(experiment)
    block = train_next(session)
    assert session.folder.parts.recorded(block) is not None
    assert session.delivery.ask(lambda tracker: tracker) is None
    assert f"restore --experiment-id {experiment}" in session.delivery.problem
    client.restore_experiment(experiment)
    later = tracker_of(session)
    assert later.experiment == experiment
    assert later.is_finished(block)


def test_a_deleted_trial_gets_no_second_run(store: Store) -> None:
    first, *others = store.tracker.runs()["mlflow_run"]
    store.client.delete_run(first)
    before = {run.info.run_id for run in store.runs()}
    later = store.connect(known=True)
    assert store.finish(later) == len(others), "the others are closed"
    assert {run.info.run_id for run in store.runs()} == before
    assert store.client.get_run(first).info.lifecycle_stage == "deleted"
    store.client.restore_run(first)
    assert store.finish(store.connect(known=True)) == 1, "restored, it gets the rest"
    assert store.client.get_run(first).info.status == "FINISHED"


def test_the_run_of_another_store_is_not_taken_for_the_study_s(
    store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = Store(tmp_path_factory.mktemp("elsewhere"), store.block, store.study)
    elsewhere.tracker = store.tracker
    assert elsewhere.connect("id", known=True).parent not in ("", store.tracker.parent)
