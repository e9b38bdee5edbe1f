"""Sessions over real folders, Optuna and MLflow, whose blocks are trained in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from studies.blocks.block import Block
from studies.blocks.block_run import BlockRun
from studies.cluster.backends import BACKENDS
from studies.definition.study import Study
from studies.runner.progress import StudyProgress
from studies.runner.session import Session
from studies.storage.reuse import KnownNetworks
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.mlflow_tracker import MLflowTracker
from tests.studies.mlflow_runs import runs_in, trial_of


def begun(study: Study, out: Path) -> StoredStudy:
    """A study of which nothing is trained."""
    return StoredStudy.begin(StudyFolder.of(study, out), study, resume=False)


def begun_folder(study: Study, out: Path) -> StudyFolder:
    """Its folder."""
    return begun(study, out).folder


def session_of(study: Study, out: Path, *, reuse: bool = False) -> Session:
    folder = StudyFolder.of(study, out)
    stored = StoredStudy.begin(folder, study, resume=True)

    def connect() -> MLflowTracker:
        return MLflowTracker(study, stored.identity, folder.default_tracking_uri, out / "artifacts")

    known = KnownNetworks(stored) if reuse else None
    return Session(stored, Delivery(folder, connect), StudyProgress(study), known)


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


def next_block(session: Session) -> Block:
    """The block that comes next, which there is."""
    block = session.next_block()
    assert block is not None
    return block


def train_next(session: Session) -> Block:
    """The block that comes next, trained."""
    block = next_block(session)
    train(session, block)
    return block


def statuses(out: Path, parent: str) -> dict[str, str]:
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    runs = runs_in(client, f"tags.mlflow.parentRunId = '{parent}'")
    return {trial_of(run): run.info.status for run in runs}


def train_all(session: Session) -> list[Block]:
    """What Tune does, in this process: the blocks that were trained."""
    blocks = []
    while (block := session.next_block()) is not None:
        train(session, block)
        blocks.append(block)
    return blocks


def finish(session: Session) -> list[Block]:
    """Train all that is left of a study."""
    blocks = train_all(session)
    assert session.finished
    return blocks


def run_without_ray(
    patch: pytest.MonkeyPatch,
    trains: Callable[[Session], object] = train_all,
    *,
    draws: bool = False,
) -> None:
    """Let `run_study` train in this process, and draw no figures unless they are asked for."""
    patch.setitem(BACKENDS, "ray", replace(BACKENDS["ray"], train=trains))
    if not draws:
        patch.setattr("studies.report.study_results.draw_figures", lambda *_: ([], {}))
