"""A session over real folders, Optuna and MLflow, with blocks trained in this process."""

from __future__ import annotations

import fcntl
from dataclasses import replace
from io import StringIO
from pathlib import Path
from threading import Timer

import pandas as pd
import pytest
from mlflow import MlflowClient
from rich.console import Console

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.blocks.block_run import BlockRun
from studies.blocks.failure import Failure, FailureKind
from studies.definition.study_files import load_study
from studies.report.study_results import write_results
from studies.runner.progress import StudyProgress
from studies.runner.run_study import sync_study
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.mlflow_store import tracking_uri
from tests.studies.mlflow_runs import TRAIN_LOSS
from tests.studies.sessions import (
    begun,
    begun_folder,
    next_block,
    session_of,
    statuses,
    tracker_of,
    train,
    train_next,
)
from tests.studies.tiny import tiny_study
from tests.studies.trained_blocks import trained

pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_failed_block_is_recorded_and_not_tried_again(tmp_path: Path) -> None:
    study = tiny_study()
    first = session_of(study, tmp_path)
    lost = None
    while (block := first.next_block()) is not None:
        if lost is None:
            lost = block
            first.failed(block, "OSError: the machine is gone")
        else:
            train(first, block)
    assert lost is not None
    assert first.finished
    assert first.failures == {lost.id: "OSError: the machine is gone"}
    first.delivery.close()
    second = session_of(study, tmp_path)
    assert second.has_nothing_to_train(), "nothing is left to train"
    assert second.failures == first.failures
    states = statuses(tmp_path, tracker_of(second).parent)
    for trial in lost.trials:
        assert states[f"{lost.phase}/{lost.arm}/{trial.number}"] == "FAILED"
    assert sorted(set(states.values())) == ["FAILED", "FINISHED"]
    results = write_results(second.stored)
    assert len(results.analysis.verdicts) == 1
    assert results.analysis.trials[lost.arm] == (
        study.trials_of(lost.arm).count - len(lost.trials),
        0,
    )


def test_an_arm_without_a_winner_has_no_verdict(tmp_path: Path) -> None:
    study = tiny_study()
    session = session_of(study, tmp_path)
    while (block := session.next_block()) is not None:
        if block.arm == keys.STATIC:
            session.failed(block, "lost")
        else:
            train(session, block)
    results = write_results(session.stored)
    assert results.analysis.verdicts == ()
    assert results.without_winner(study) == [keys.STATIC]


def test_mlflow_catches_up_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the tables were written, when MLflow had heard of the first step only."""
    monkeypatch.setattr("studies.storage.tracking.mlflow_tracker._SECONDS_BETWEEN_BATCHES", 0.0)
    study = tiny_study()
    first = session_of(study, tmp_path)
    block = next_block(first)
    run = BlockRun(study, block)
    first.started(block)
    progress = run.progress()
    first.delivery.log_means(block, next(progress).means)
    tracker_of(first)
    list(progress)
    first.folder.parts.record(block, run.result())
    second = session_of(study, tmp_path)
    assert not second.has_nothing_to_train()
    tracker = tracker_of(second)
    assert tracker.is_finished(block)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    identifier = tracker._runs[block.phase, block.arm, 0]
    history = client.get_metric_history(identifier, TRAIN_LOSS)
    assert [metric.step for metric in history] == [0, 20, 40, 60], "each step once, none missing"


def test_tables_survive_the_loss_of_their_parts(tmp_path: Path) -> None:
    session = session_of(tiny_study(), tmp_path)
    train_next(session)
    before = session.folder.parts.gather_all()
    before.write(session.folder.tables)
    for part in (session.folder.path / "parts").iterdir():
        part.unlink()
    after = session.folder.parts.gather_all()
    for kind in ("members", "curves"):
        pd.testing.assert_frame_equal(after.of_kind[kind], before.of_kind[kind])


def test_sync_delivers_past_a_block_in_flight(tmp_path: Path) -> None:
    study = tiny_study()
    first = session_of(study, tmp_path)
    in_flight, second = next_block(first), next_block(first)
    # MLflow is unreachable, and the driver is killed
    first.folder.parts.record(second, trained(study, second))
    first.delivery.close()
    delivered, _ = sync_study(first.folder)
    assert delivered == len(second.trials)
    assert first.folder.parts.recorded(in_flight) is None
    assert sync_study(first.folder)[0] == 0


def test_a_look_keeps_no_driver_out(tmp_path: Path) -> None:
    folder = begun_folder(tiny_study(), tmp_path)
    looking = (folder.path / ".lock").open("w")
    fcntl.flock(looking, fcntl.LOCK_SH)
    Timer(0.1, looking.close).start()
    with folder.locked():
        assert folder.is_locked()


def test_two_drivers_do_not_share_a_study(tmp_path: Path) -> None:
    study = tiny_study()
    folder = StudyFolder.of(study, tmp_path)
    assert StoredStudy.begin(folder, study, resume=False).is_new
    with folder.locked():
        assert folder.is_locked()
        with pytest.raises(ConfigError, match="another process"), folder.locked():
            pass
    assert not folder.is_locked()


def test_a_begin_that_was_killed_can_begin_again(tmp_path: Path) -> None:
    study = tiny_study()
    folder = begun_folder(study, tmp_path)
    folder.definition.unlink()
    assert StoredStudy.begin(folder, study, resume=True).is_new


def test_where_a_study_is_tracked(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = load_study(tiny)
    stored = begun(study, tmp_path)
    assert tracking_uri(stored) == stored.folder.default_tracking_uri
    stored = stored.with_state(tracking_uri="http://u:***@h")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI: not set"):
        tracking_uri(stored)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://u:p@h")
    assert tracking_uri(stored) == "http://u:p@h"
    named = load_study(tiny, ["storage.tracking_uri=http://other"])
    assert tracking_uri(replace(stored, study=named)) == "http://other"


def test_a_block_is_tried_again_longer_if_its_machine_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.runner.session._FIRST_PAUSE", 0.0)
    session = session_of(tiny_study(), tmp_path)
    block = next_block(session)
    for kind, times in ((FailureKind.RAISED, 2), (FailureKind.LOST, 8)):
        for attempt in range(times):
            assert session.try_again(block, Failure(kind, f"attempt {attempt}"))
            assert session.next_block() == block, "before any other"
        assert not session.try_again(block, Failure(kind, "once more"))
    after = next_block(session)
    assert after.id != block.id


def test_after_a_loss_the_next_blocks_wait(tmp_path: Path) -> None:
    session = session_of(tiny_study(), tmp_path)
    block = next_block(session)
    assert session.try_again(block, Failure(FailureKind.LOST, "gone"))
    assert session.next_block() is None
    assert not session.finished
    session._pause_until = 0.0
    assert session.next_block() == block


def test_what_cannot_change_is_not_tried_again(tmp_path: Path) -> None:
    """An error that comes back as it was, but for a machine that is lost twice; and a refusal."""
    session = session_of(tiny_study(), tmp_path)
    first, second, third = (next_block(session) for _ in range(3))
    same = Failure(FailureKind.RAISED, "ValueError: bad")
    assert session.try_again(first, same)
    assert session.try_again(second, same), "another block"
    assert not session.try_again(first, same)
    assert not session.try_again(third, Failure(FailureKind.REFUSED, "ConfigError: no"))
    gone = Failure(FailureKind.LOST, "gone")
    assert session.try_again(third, gone)
    assert session.try_again(third, gone)


def test_an_error_is_said_at_once_and_once(tmp_path: Path) -> None:
    session = session_of(tiny_study(), tmp_path)
    said = StringIO()
    session.progress = StudyProgress(session.study, Console(file=said, width=1000))
    first, second = next_block(session), next_block(session)
    failure = Failure(FailureKind.RAISED, "ValueError: [bold] is not a shape")
    for block in (first, second):
        session.try_again(block, failure)
    tried = f"block {first}: ValueError: [bold] is not a shape; trying again\n"
    assert said.getvalue() == tried
    session.failed(first, failure.reason)
    assert f"block {first} failed: ValueError: [bold] is not a shape" in said.getvalue()
