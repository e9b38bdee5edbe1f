"""A study driven from here on a cluster elsewhere, through Ray's client (`ray://HOST:10001`).

Tune has to run inside the cluster. So the driver does too: it is the command `dynloss` itself, in a
process that an actor on the head starts and reads. Its output is shown here, Ctrl-C here is Ctrl-C
there, and if this side goes away, Ray ends it within a minute. The code and the study's file are
sent along, as in `studies.cluster.job_submission`, which is for users who do not want to stay
connected.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
from typing import Any

from dynloss_core.config import ConfigError, reason_of
from studies.cluster.job_submission import check_out, shipped, variables
from studies.cluster.ray_cluster import joined_cluster
from studies.definition.study import Study
from studies.interrupts import noted_interrupts

__all__ = ["drive"]

_SECONDS_TO_WAIT = 1.0
_HEAD = {"node:__internal_head__": 0.001}


def drive(study: Study | None, address: str, out: str, *arguments: str) -> int:
    """Run a command on the cluster, show its output, and return its exit code.

    Args:
        study: the study to send as `study.yaml`; None for a command on one that is there.
        address: the address of the cluster, `ray://HOST:10001`.
        out: output folder there, absolute, shared by the machines of the cluster.
        arguments: the command and its options; the folder and the address are added.

    Raises:
        ConfigError: if no cluster answers at `address`, the connection is lost, the output folder
            would be lost with it, or a secret would have to be sent.
    """
    check_out(out)
    words = [*arguments, "--out", out, "--address", "auto"]
    with (
        shipped(study) as folder,
        joined_cluster(address, {"working_dir": str(folder), "env_vars": variables()}),
    ):
        import ray

        pressed = threading.Event()  # Ctrl-C, and it is not passed on yet

        def note() -> bool:
            again = pressed.is_set()  # nothing has come of the first: the connection hangs
            pressed.set()
            return again

        with noted_interrupts(note):
            try:
                actor = ray.remote(_Driver).options(num_cpus=0, max_concurrency=2, resources=_HEAD)
                driver: Any = actor.remote(words)
                while True:
                    output, code = ray.get(driver.read.remote())
                    sys.stdout.buffer.write(output)
                    sys.stdout.flush()
                    if code is not None:
                        return int(code)
                    if pressed.is_set():
                        ray.get(driver.interrupt.remote())
                        pressed.clear()
            except (ConnectionError, ray.exceptions.RayError) as error:
                problem = f"the connection to {address} was lost: {reason_of(error)[:200]}"
                raise ConfigError("--address", problem, "continue with --resume") from None


class _Driver:
    """The actor on the head, which runs the command in a process of its own."""

    def __init__(self, words: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "studies", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_listen_to_interrupts,
        )

    def read(self) -> tuple[bytes, int | None]:
        """New output, after a second at the latest, and the exit code once the command has ended
        and all output is read."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        if not select.select([pipe], [], [], _SECONDS_TO_WAIT)[0]:
            return b"", None
        output = os.read(pipe, 1 << 16)
        return output, None if output else self._process.wait()

    def interrupt(self) -> None:
        """Send the command Ctrl-C."""
        self._process.send_signal(signal.SIGINT)


def _listen_to_interrupts() -> None:
    """Let the child process receive Ctrl-C, which Ray's workers block; on Linux it also gets one
    when its parent is gone."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGINT)
