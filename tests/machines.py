"""A Ray cluster of several machines on one: addresses of their own in a network of their own.

Nothing outside a Linux network namespace reaches what listens in it, so raylets may listen as they
do on real machines, and a driver finds the one at its own address. Machines may have disks of their
own: folders that each of them has for itself, in a mount namespace, under a host name of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

__all__ = ["Machines", "machines", "needs_namespaces"]

PORT = 6399
# of several, whatever a Ray of this process alone has set before
_OF_A_MACHINE = {"PYTHONPATH": "", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
_ALONE = """
hostname "$1"; shift
while [ "$1" != -- ]; do mount -t tmpfs none "$1"; shift; done; shift
exec "$@"
"""
SECONDS_TO_START = 180.0


def _can_make_networks() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"dynloss-{uuid.uuid4().hex[:8]}"
    words = [["ip", "netns", change, name] for change in ("add", "delete")]
    return all(subprocess.run(each, capture_output=True).returncode == 0 for each in words)


needs_namespaces = pytest.mark.skipif(
    not _can_make_networks(), reason="a network of its own takes root and iproute2 to make"
)


class Machines:
    """Machines on which Ray runs: the head, which trains nothing, and others that come and go.

    Args:
        namespace: the network that they are in.
        folder: for what they say.
        disks: folders that each machine has for itself, empty at first.
        dashboard: whether the head has one, at `dashboard`.

    Attributes:
        environment: variables that a driver needs: the cluster asks for a token.
        head: the process that runs on the first machine.
        dashboard: its address.
    """

    dashboard = "http://10.77.0.1:8265"

    def __init__(
        self, namespace: str, folder: Path, disks: Sequence[Path] = (), *, dashboard: bool = False
    ) -> None:
        self._namespace, self._folder, self._disks = namespace, folder, tuple(disks)
        self._count = 0
        self._started: list[subprocess.Popen[bytes]] = []
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2}
        shows = f"--include-dashboard={str(dashboard).lower()}", "--dashboard-host=10.77.0.1"
        self.head = self._start("--head", f"--port={PORT}", *shows, cpus=0)

    @property
    def address(self) -> str:
        """Of the head."""
        return f"10.77.0.1:{PORT}"

    def inside(self, words: list[str]) -> list[str]:
        """A command line that runs in their network."""
        return ["ip", "netns", "exec", self._namespace, *words]

    def on(self, machine: subprocess.Popen[bytes], words: list[str]) -> list[str]:
        """A command line that runs on a machine, which has disks of its own."""
        return ["nsenter", f"--target={machine.pid}", "--net", "--mount", "--uts", "--", *words]

    def join(self, cpus: float = 1, gpus: float = 0) -> subprocess.Popen[bytes]:
        """One more machine; it counts from when its raylet has registered."""
        return self._start(f"--address={self.address}", f"--num-gpus={gpus:g}", cpus=cpus)

    def lose(self, machine: subprocess.Popen[bytes]) -> None:
        """SIGKILL to its raylet; what else ran there ends by itself or is ended."""
        everything = psutil.Process(machine.pid).children(recursive=True)
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                if process.name() == "raylet":
                    process.kill()
        time.sleep(1)
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        machine.wait(timeout=30)

    def close(self) -> None:
        """End all of them."""
        for machine in reversed(self._started):
            if machine.poll() is None:
                machine.terminate()  # it ends its own processes
                machine.wait(timeout=60)

    def _start(self, *options: str, cpus: float) -> subprocess.Popen[bytes]:
        self._count += 1
        ip = f"10.77.0.{self._count}"
        add = ["ip", "-n", self._namespace, "address", "add", f"{ip}/32", "dev", "lo"]
        subprocess.run(add, check=True)
        ray = shutil.which("ray", path=str(Path(sys.executable).parent))
        words = [str(ray), "start", f"--node-ip-address={ip}", f"--num-cpus={cpus:g}"]
        words += ["--disable-usage-stats", "--block", *options]
        name = f"machine-{self._count}"
        said = self._folder / f"{name}.txt"
        if self._disks:
            alone = ["unshare", "--mount", "--uts", "sh", "-ec", _ALONE, "sh", name]
            words = [*alone, *map(str, self._disks), "--", *words]
        with said.open("wb") as file:
            machine = subprocess.Popen(
                self.inside(words),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.environment, **_OF_A_MACHINE},
            )
        self._started.append(machine)
        deadline = time.monotonic() + SECONDS_TO_START
        while b"Ray runtime started" not in said.read_bytes():
            if machine.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(said.read_text())
            time.sleep(0.2)
        return machine


@contextmanager
def machines(
    folder: Path, disks: Sequence[Path] = (), *, dashboard: bool = False
) -> Iterator[Machines]:
    """A head, in a network of its own (for the arguments, see `Machines`)."""
    folder.mkdir(parents=True, exist_ok=True)
    namespace = f"dynloss-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
        there = Machines(namespace, folder, disks, dashboard=dashboard)
        try:
            yield there
        finally:
            there.close()
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)
