"""A study that is watched and stopped from elsewhere, and what is left of a block at work."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from studies.cluster.backends import BACKENDS
from studies.cluster.capacity import local_resources
from studies.definition.study_files import load_study
from studies.runner.progress import StudyProgress
from studies.runner.run_study import run_study
from studies.runner.session import Session
from studies.storage.status import study_status
from studies.storage.study_folder import StudyFolder
from tests.services import SECONDS, wait_until
from tests.studies.commands import dynloss_here, start
from tests.studies.sessions import begun_folder, next_block, run_without_ray, session_of, train
from tests.studies.tiny import tiny_study


def test_status_while_a_driver_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.runner.progress._SECONDS_BETWEEN_FILES", 0.0)
    study = tiny_study()
    session = session_of(study, tmp_path)
    first, second, third = (next_block(session) for _ in range(3))
    with session.folder.locked():
        session.progress = StudyProgress(study, file=session.folder.progress)
        session.progress.status = session.status
        train(session, first)
        session.failed(second, "OSError: the machine is gone")
        session.started(third)
        time.sleep(0.05)
        session.progress.advance(third, 0.5, "node-7")
        found = study_status(session.folder)
        shown = str(found)
        assert json.loads(found.json())["blocks"][third.id] == {
            "networks": third.members / 2, "node": "node-7"
        }  # fmt: skip
        assert found.trained == first.members + third.members / 2, "a failure is no progress"
        assert found.networks_per_minute is not None
        assert found.networks_per_minute > 0
        for expected in (
            "a driver is running on ",
            f"node     node-7: {third.id}",
            "networks per minute",
            f"failed   {second.id}: OSError: the machine is gone",
            f"  {first.phase:<8} {first.arm:<19} 2 of 6 trials",  # as wide as static_at_dynamical
            "best validation accuracy",
        ):
            assert expected in shown
    after = study_status(session.folder)
    assert not after.is_driven
    assert after.blocks == {}
    assert not session.folder.progress.exists()
    session.delivery.close()


def test_nobody_to_stop(tiny: Path, tmp_path: Path) -> None:
    study = load_study(tiny)
    folder = begun_folder(study, tmp_path)
    done = dynloss_here("stop", tiny, "--out", tmp_path)
    assert (done.returncode, done.stdout) == (0, "no driver is running it\n")
    folder.ask_to_stop()
    with folder.locked():
        assert not folder.is_asked_to_stop(), "it was meant for an earlier driver"
        folder.ask_to_stop()
        assert folder.is_asked_to_stop()
    assert not folder.is_asked_to_stop()


def test_go_on_where_the_study_lies(tmp_path: Path) -> None:
    """Given as a folder, it is stopped and gone on with there, whatever the default is."""
    folder = begun_folder(tiny_study(), tmp_path / "else where")
    with folder.locked():
        done = dynloss_here("stop", folder.path, "--no-wait")
    assert f"--out '{folder.path.parent}'" in done.stdout
    assert "--address" not in done.stdout


@pytest.mark.slow
def test_go_on_on_the_cluster_that_the_study_was_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def stopped(session: Session) -> None:
        session.folder.ask_to_stop()
        said.append(dynloss_here("stop", session.folder.path, "--no-wait").stdout)

    run_without_ray(monkeypatch, stopped)
    joined = replace(BACKENDS["ray"], joined=lambda _: nullcontext(local_resources()))
    monkeypatch.setitem(BACKENDS, "ray", joined)
    for address in ("10.0.0.1:6379", None):
        run_study(tiny_study(), tmp_path, address=address, resume=True)
        assert (" --address 10.0.0.1:6379\n" in said[-1]) == (address is not None)


@pytest.mark.slow
def test_a_study_is_stopped_from_elsewhere(tiny: Path, tmp_path: Path) -> None:
    """Its blocks take minutes, and end where they are, with a checkpoint."""
    slowly = ["--set", "budget.total=3000000", "--set", "budget.evaluate_every=1000"]
    slowly += ["--set", "engine=batched"]
    process = start("run", tiny, *slowly, "--out", tmp_path)
    try:
        folder = StudyFolder(tmp_path / "tiny")
        wait_until(lambda: folder.progress.exists() and study_status(folder).trained > 0, process)
        shown = dynloss_here("status", "tiny", "--out", tmp_path).stdout
        assert "a driver is running" in shown
        done = dynloss_here("stop", "tiny", "--out", tmp_path)
        assert "stopped" in done.stdout
        assert f"dynloss run {folder.definition} --resume --out {tmp_path}" in done.stdout
        _, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    kept = {path.name for path in (folder.path / "checkpoints").iterdir()}
    assert kept, "blocks at work are kept"
