"""Servers that tests start and end: each a process of its own, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["free_port", "start_mlflow", "started_mlflow", "wait_for", "wait_until"]

SECONDS = 150  # that anything may take


def free_port() -> int:
    """One that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    """Look a few times a second."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)


def wait_for(port: int) -> None:
    """Until something listens."""

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers)


def start_mlflow(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """An MLflow server on a store and artifacts in a folder; it may not listen yet."""
    words = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}"]
    words += ["--workers=1", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    words += ["--artifacts-destination", str(folder / "served")]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, start_new_session=True, stdout=quiet, stderr=quiet)


@contextmanager
def started_mlflow(folder: Path) -> Iterator[str]:
    """The address of an MLflow server."""
    port = free_port()
    process = start_mlflow(port, folder)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
