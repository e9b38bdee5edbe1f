"""A head that goes away is told at once, and that it is back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from studies.cluster.head_watch import watched_head
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from tests.services import SECONDS, free_port, ray_head, wait_until
from tests.studies.commands import command


def test_a_head_that_goes_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.cluster.head_watch._SECONDS_BETWEEN_TRIES", 0.05)
    monkeypatch.setattr("studies.cluster.head_watch._SECONDS_OF_SILENCE", 0.2)
    monkeypatch.setattr("studies.cluster.head_watch._SECONDS_TO_RETURN", 0.6)
    said: list[str] = []
    ends: list[int] = []

    def cut_off() -> None:
        ends.append(len(said))

    place = ("127.0.0.1", free_port())
    address = f"127.0.0.1:{place[1]}"
    with socket.create_server(place), watched_head(address, said.append, cut_off):
        time.sleep(0.6)
        assert not said
    with watched_head(address, said.append, cut_off):
        wait_until(lambda: len(ends) == 1)
        with socket.create_server(place):
            wait_until(lambda: len(said) == 2)
        wait_until(lambda: len(ends) == 2)
    assert ends == [1, 3], "each time it is gone, once, after the user was told"
    assert f"the head at {address} is gone" in said[0]
    assert "--resume" in said[0]
    assert said[1] == f"the head at {address} is back"


@pytest.mark.slow
def test_a_dead_head_is_told_before_ray_ends_the_driver(tiny: Path, tmp_path: Path) -> None:
    endless = ("--set", "budget.total=40000000", "--set", "budget.evaluate_every=200000")
    with ray_head("--include-dashboard=false") as port:
        words = command("run", tiny, "--out", tmp_path, "--address", f"127.0.0.1:{port}", *endless)
        driver = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert driver.stderr is not None
        try:
            wait_until((tmp_path / "tiny" / "progress.json").exists, driver)
            os.kill(head_on(port), signal.SIGKILL)
            line = next(line for line in driver.stderr if "is gone" in line)
            assert f"the head at 127.0.0.1:{port} is gone" in line
            driver.wait(timeout=SECONDS)
            client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
            run = StoredStudy.read(StudyFolder(tmp_path / "tiny")).state["mlflow_run"]
            assert client.get_run(run).info.status == "KILLED"
        finally:
            driver.kill()
            driver.wait(timeout=SECONDS)


def head_on(port: int) -> int:
    """The process of the head's service."""
    option = f"--gcs_server_port={port}"
    return next(
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if option in (process.info["cmdline"] or [])
    )
