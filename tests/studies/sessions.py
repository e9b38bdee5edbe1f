"""Sessions over real folders, Optuna and MLflow, whose blocks are trained in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from mlflow import MlflowClient

from studies.blocks.block import Block
from studies.blocks.block_run import BlockRun
from studies.definition.study import Study
from studies.runner.progress import StudyProgress
from studies.runner.session import Session
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.mlflow_tracker import MLflowTracker


def session_of(study: Study, out: Path) -> Session:
    folder = StudyFolder.of(study, out)
    folder.begin(study, resume=True)
    identity = folder.identity()

    def connect() -> MLflowTracker:
        return MLflowTracker(study, identity, folder.default_tracking_uri, out / "artifacts")

    return Session(study, folder, Delivery(folder, connect), StudyProgress(study))


def tracker_of(session: Session) -> MLflowTracker:
    """The session's tracker, once all is delivered."""
    tracker = session.delivery.ask(lambda tracker: tracker)
    assert tracker is not None, session.delivery.problem
    return tracker


def train(session: Session, block: Block) -> None:
    run = BlockRun(session.study, block)
    session.started(block)
    for progress in run.progress():
        session.reported(block, progress.fraction, progress.means, None)
    session.reported(block, 1.0, None, run.result())


def train_next(session: Session) -> Block:
    """The block that comes next, trained."""
    block = session.next_block()
    assert block is not None
    train(session, block)
    return block


def statuses(out: Path, parent: str) -> dict[str, str]:
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("dynloss")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent}'")
    return {run.info.run_name: run.info.status for run in runs}


def finish(session: Session) -> None:
    while (block := session.next_block()) is not None:
        train(session, block)
    assert session.finished


def train_all(session: Session) -> None:
    """What Tune does, in this process."""
    while (block := session.next_block()) is not None:
        train(session, block)


def run_without_ray(
    patch: pytest.MonkeyPatch, trains: Callable[[Session], None] = train_all, *, draws: bool = False
) -> None:
    """Let `run_study` train in this process, and draw no figures unless they are asked for."""
    patch.setattr("studies.runner.run_study.joined_cluster", lambda _: nullcontext())
    patch.setattr("studies.cluster.tune_driver.train", trains)
    if not draws:
        patch.setattr("studies.report.study_results.draw_figures", lambda *_: [])
