"""A Slurm cluster of two nodes on one machine, from Debian's packages.

Each node has a name, a network and processes of its own, so that jobs meet there what they would on
two machines: `ray stop` ends nothing of this one, and nothing outside reaches what listens.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.services import wait_until

__all__ = ["SlurmCluster", "needs_slurm", "slurm_cluster"]

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "unshare")
_MISSING = ", ".join(program for program in _PROGRAMS if shutil.which(program) is None)
_NODES = {"n1": "10.78.0.1", "n2": "10.78.0.2"}

# A requeued job waits until its credential has expired: seconds here, two minutes by default.
_CONFIGURATION = """\
ClusterName=dynloss
SlurmctldHost=n1(10.78.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
KillWait=20
NodeName=n1 NodeAddr=10.78.0.1 CPUs=2 RealMemory=1000
NodeName=n2 NodeAddr=10.78.0.2 CPUs=2 RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE
"""

_ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL")

# The shell is the first process of a node, and reaps what others leave.
_NODE = """
hostname "$0"
mount -t tmpfs tmpfs /tmp/ray
if [ "$0" = n1 ]; then slurmctld -D & fi
slurmd -D &
wait
"""

needs_slurm = pytest.mark.skipif(
    bool(_MISSING),
    reason=f"needs Debian's slurmctld, slurmd, slurm-client and munge: there is no {_MISSING}",
)


class SlurmCluster:
    """A running cluster, as its first node's users see it.

    Args:
        folder: of its configuration, its state and what its daemons say.
        namespace: the network of its first node.
    """

    def __init__(self, folder: Path, namespace: str) -> None:
        self._namespace = namespace
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = {**os.environ, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
        # jobs inherit it: how long a node waits for Ray's head once that is gone, else a minute
        self._environment["RAY_gcs_rpc_server_reconnect_timeout_s"] = "20"

    def command(self, *words: object, cwd: Path | None = None) -> str:
        """What a command of Slurm prints."""
        inside = ["ip", "netns", "exec", self._namespace, *map(str, words)]
        done = subprocess.run(
            inside, env=self._environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(
        self, folder: Path, script: Path, *studies: str, options: tuple[str, ...] = ()
    ) -> str:
        """Submit a script from a folder; the number of the job."""
        return self.command("sbatch", "--parsable", *options, script, *studies, cwd=folder).strip()

    def told(self, job: str) -> dict[str, str]:
        """What the controller knows of a job, or of one task of an array (`JOB_TASK`)."""
        words = self.command("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def signal_script(self, job: str) -> None:
        """SIGTERM as before a time limit: to the script of a job alone."""
        self.command("scancel", "--batch", "--signal=TERM", job)

    def wait_for(self, job: str, state: str, restarts: int = 0) -> dict[str, str]:
        """Until a job is in a state, after that many restarts; what the controller knows then."""

        def is_there() -> bool:
            told = self.told(job)
            now = told["JobState"]
            assert now == state or now not in _ENDED, told
            return now == state and told["Restarts"] == str(restarts)

        wait_until(is_there, every=1)
        return self.told(job)


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """A cluster of the nodes `n1` and `n2`, each with two CPUs."""
    for made in ("state", *_NODES):
        (folder / made).mkdir(parents=True)
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(folder=folder))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # looked for, and not used
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    Path("/tmp/ray").mkdir(exist_ok=True)  # over which each node has its own
    with ExitStack() as stack:
        namespaces = stack.enter_context(_networks())
        stack.enter_context(_munge(folder))
        for node, namespace in zip(_NODES, namespaces, strict=True):
            stack.enter_context(_node(folder, node, namespace))
        cluster = SlurmCluster(folder, namespaces[0])
        wait_until(lambda: _is_up(cluster), every=1)
        yield cluster


def _is_up(cluster: SlurmCluster) -> bool:
    try:
        states = cluster.command("sinfo", "--noheader", "--Node", "--format=%T").split()
    except AssertionError:  # its controller does not answer yet
        return False
    return states == ["idle"] * len(_NODES)


@contextmanager
def _networks() -> Iterator[list[str]]:
    """A network for each of the two nodes, and a line between them."""
    name = secrets.token_hex(3)
    namespaces = [f"dynloss-{name}-{node}" for node in _NODES]
    with ExitStack() as stack:
        for namespace in namespaces:
            _ip("netns", "add", namespace)
            stack.callback(_ip, "netns", "delete", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        ends = [f"dl{name}{node}" for node in _NODES]
        first, second = zip(ends, namespaces, strict=True)
        line = ["link", "add", first[0], "netns", first[1], "type", "veth"]
        _ip(*line, "peer", "name", second[0], "netns", second[1])
        for end, namespace, address in zip(ends, namespaces, _NODES.values(), strict=True):
            _ip("-n", namespace, "address", "add", f"{address}/24", "dev", end)
            _ip("-n", namespace, "link", "set", end, "up")
        yield namespaces


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def _munge(folder: Path) -> Iterator[None]:
    """The daemon by which the others know each other."""
    names = {name: folder / f"munge.{name}" for name in ("key", "socket", "pid", "seed")}
    options = [f"--{name}-file={path}" for name, path in names.items() if name != "socket"]
    words = ["munged", "--foreground", "--force", f"--socket={names['socket']}", *options]
    with (folder / "munge.log").open("wb") as log:
        daemon = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(names["socket"].exists, daemon)
        yield
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)


@contextmanager
def _node(folder: Path, name: str, namespace: str) -> Iterator[None]:
    """A node; all its processes end with its first."""
    spaces = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (folder / f"{name}.log").open("wb") as log:
        node = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *spaces, "bash", "-c", _NODE, name],
            env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        for first in psutil.Process(node.pid).children():
            first.kill()
        node.wait(timeout=30)
