"""Servers that tests start and end: each a process of its own, on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "SECONDS", "free_port", "ray_head", "start_mlflow", "started_mlflow", "wait_for", "wait_until",
]  # fmt: skip

SECONDS = 600  # that anything may take: far more than it does on a machine that has other work


def free_port() -> int:
    """One that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], bool],
    process: subprocess.Popen[Any] | None = None,
    *,
    every: float = 0.2,
) -> None:
    """Look again and again, in seconds; a process that it depends on must not end meanwhile."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(every)


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


@contextmanager
def ray_head(*options: str, **variables: str) -> Iterator[int]:
    """A Ray head on loopback, with its own session folder; its port."""
    programs = str(Path(sys.executable).parent)
    ray = shutil.which("ray", path=programs)
    assert ray is not None
    port = free_port()
    # two heads on a machine share none of Ray's usual ports; the agents take jobs
    own = ("--dashboard-agent-listen-port=0", f"--ray-client-server-port={free_port()}")
    path = os.pathsep.join([programs, os.environ["PATH"]])  # whose `python` jobs run
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "PATH": path}
    environment |= {"PYTHONPATH": "", **variables}
    head = subprocess.Popen(
        [
            ray, "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2",
            "--disable-usage-stats", "--block", *own, *options,
        ],
        start_new_session=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(port)
        time.sleep(3)
        yield port
    finally:
        head.terminate()  # it ends its own processes
        head.wait(timeout=60)
