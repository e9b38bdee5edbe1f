"""A tracker in a process of its own: what it raises and logs arrives, and it may die at any time.

That it keeps the contract of every tracker is tested in `tests/contracts/test_trackers.py`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from dynloss_core.config import ConfigError
from studies.runner.run_study import run_study
from studies.storage.tracking import trackers
from studies.storage.tracking.base import Tracker, Unreachable
from studies.storage.tracking.tracker_process import TrackerProcess
from tests.services import SECONDS, wait_until
from tests.studies.mlflow_runs import runs_in, trial_of
from tests.studies.storage.odd_tracker import odd, refusing
from tests.studies.tiny import tiny_study


@pytest.fixture
def process() -> Iterator[TrackerProcess]:
    process = TrackerProcess(odd)
    yield process
    process.end()


def test_what_happens_in_the_process_arrives(
    process: TrackerProcess, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mlflow"), "propagate", True)  # else, once imported, not
    tracker = process.connect()
    assert tracker.uri == "no tracker"
    first, second = tracker.runs(), tracker.runs()
    assert first["pid"].item() != os.getpid()
    assert second["answers"].item() == 2, "one tracker, and what it prints is no reply"
    with pytest.raises(RuntimeError, match="OddError: in words"):
        tracker.discard()
    with pytest.raises(Unreachable, match="away"):
        tracker.kept()
    assert ("mlflow.here", logging.WARNING, f"this is {object}") in caplog.record_tuples
    assert process.connect().runs()["answers"].item() == 1, "connected again, in the same process"


def test_what_a_connection_is_refused_for_arrives() -> None:
    process = TrackerProcess(refusing)
    with pytest.raises(ConfigError, match="no store"):
        process.connect()
    process.end()


def test_a_process_that_is_gone_is_replaced(process: TrackerProcess) -> None:
    tracker = process.connect()
    gone = int(tracker.runs()["pid"].item())
    os.kill(gone, signal.SIGKILL)
    with pytest.raises(Unreachable, match="gone"):
        tracker.runs()
    assert process.connect().runs()["pid"].item() != gone


def test_a_process_that_is_busy_is_ended_at_once(process: TrackerProcess) -> None:
    tracker = process.connect()
    raised: list[Exception] = []

    def wait_long() -> None:
        try:
            tracker.is_finished(None)  # type: ignore[arg-type]
        except Unreachable as error:
            raised.append(error)

    busy = threading.Thread(target=wait_long)
    busy.start()
    time.sleep(0.2)
    before = time.monotonic()
    process.end()
    busy.join(SECONDS)
    assert raised
    assert time.monotonic() - before < 60


_DRIVER = """
import os, time
from tests.studies.storage.odd_tracker import odd
from studies.storage.tracking.tracker_process import TrackerProcess
process = TrackerProcess(odd)
print(process.connect().runs()["pid"].item(), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends with its next request")
def test_it_ends_with_a_driver_that_is_killed() -> None:
    driver = subprocess.Popen([sys.executable, "-c", _DRIVER], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    wait_until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not _is_alive(pid))


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _held(out: Path) -> dict[str, tuple[str, dict[str, str], set[str]]]:
    """Status, parameters and names of metrics of every run."""
    return {
        trial_of(run): (run.info.status, run.data.params, set(run.data.metrics))
        for run in runs_in(MlflowClient(f"sqlite:///{out / 'mlflow.db'}"))
    }


@pytest.mark.slow
def test_a_large_study_is_delivered_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same runs, also where the process is killed on the way."""
    study = tiny_study(trials_per_arm=3, block_size=1, confirm_seeds=2, backend="inline")
    run_study(study, tmp_path / "thread", quiet=True)
    monkeypatch.setattr(trackers, "_TRIALS_WORTH_A_PROCESS", 6)
    started: list[TrackerProcess] = []
    connect, call = TrackerProcess.connect, TrackerProcess.call
    finished: list[int] = []

    def noted(self: TrackerProcess) -> Tracker:
        started.append(self)
        return connect(self)

    def killed(self: TrackerProcess, what: Any, *arguments: Any, **named: Any) -> Any:
        answer = call(self, what, *arguments, **named)
        if what == "finish":
            finished.append(answer)
            if len(finished) == 2:
                assert self._process is not None
                self._process.kill()
        return answer

    monkeypatch.setattr(TrackerProcess, "connect", noted)
    monkeypatch.setattr(TrackerProcess, "call", killed)
    outcome = run_study(study, tmp_path / "process", quiet=True)
    assert outcome.finished
    assert not outcome.unreachable
    assert len(started) == 2, "at the start, and after the kill"
    assert started[-1]._process is None, "it has ended with the study"
    assert _held(tmp_path / "process") == _held(tmp_path / "thread")
    assert all(status == "FINISHED" for status, _, _ in _held(tmp_path / "process").values())
