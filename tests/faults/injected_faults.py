"""Faults, each a real one: a process is killed, a disk is full, Ctrl-C is pressed twice.

A strike falls when a study has trained a share of its networks that the seed drew. Whatever a strike
ends, the next run goes on with; where the study should survive it, it has to.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import psutil

from studies.out_folder import WORK_FOLDER, out_folder
from studies.storage.status import study_status
from studies.storage.study_folder import StudyFolder
from tests.faults.study import Tally, check, members, written
from tests.machines import Machines, machines
from tests.s3_server import BUCKET, s3_variables, serving_s3, started_s3
from tests.services import SECONDS, free_port, start_mlflow, wait_for, wait_until
from tests.studies.commands import command

__all__ = ["KINDS", "strike_study", "undisturbed"]

Process = subprocess.Popen[str]


class Struck:
    """A study under strikes.

    Args:
        folder: to work in, with the study's file.
        options: of every `dynloss run`.
        store: MLflow's, to look into in the end.
        cluster: whose network the drivers are in; None for this machine's own.
    """

    def __init__(
        self,
        folder: Path,
        *options: object,
        store: str | None = None,
        cluster: Machines | None = None,
    ) -> None:
        self.file, self.out = folder / "struck.yaml", folder / "out"
        self.named: object = self.out  # by --out
        self.variables: dict[str, str] = {}
        self.options = options
        self._store = store
        self.cluster = cluster
        self.process: Process | None = None
        self.deaths = 0
        self.said = folder / "said.txt"  # by all drivers

    @property
    def store(self) -> str:
        """MLflow's."""
        return self._store or f"sqlite:///{self.out / 'mlflow.db'}"

    def command(self, *words: object) -> list[str]:
        """A command line that runs where drivers do."""
        typed = command(*words, "--out", self.named)
        return typed if self.cluster is None else self.cluster.inside(typed)

    def environment(self) -> dict[str, str]:
        """The variables of a driver."""
        of_cluster = {} if self.cluster is None else self.cluster.environment
        return {**os.environ, **of_cluster, **self.variables}

    def go_on(self) -> Process:
        """A driver at work: the one that is, or a new one."""
        if self.process is None or self.process.poll() is not None:
            self.deaths += self.process is not None and self.process.returncode != 0
            words = self.command("run", self.file, "--resume", *self.options)
            with self.said.open("a") as file:  # a pipe that nobody reads would fill up
                self.process = subprocess.Popen(
                    words,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,
                    env=self.environment(),
                )
        return self.process

    def reach(self, share: float) -> None:
        """Wait until a driver, which is still at work, has trained a share of the networks."""
        process, folder = self.go_on(), StudyFolder(self.out / "struck")

        def reached() -> bool:
            assert process.poll() is None, f"ended before {share:.0%}: {self.said.read_text()}"
            if not folder.progress.exists():
                return False
            status = study_status(folder)
            return status.trained >= share * status.networks

        wait_until(reached, every=0.05)

    def ends(self) -> tuple[int, str]:
        """Wait for the driver: its exit code and what it said."""
        code = self.go_on().wait(timeout=SECONDS)
        return code, self.said.read_text()

    def deliver(self) -> None:
        """Deliver what MLflow still lacks, as soon as it is there."""
        for _ in range(10):
            words = self.command("sync", "struck")
            delivered = subprocess.run(
                words, capture_output=True, text=True, env=self.environment(), timeout=SECONDS
            )
            if delivered.returncode == 0:
                return
        raise AssertionError(delivered.stderr)

    def finish(self) -> None:
        """Run it to its end."""
        for _ in range(3):
            code, said = self.ends()
            if code == 0:
                return
        raise AssertionError(said)


class StruckOnS3(Struck):
    """A study in an object store under strikes, on one machine after another."""

    def __init__(self, folder: Path, *options: object, cluster: Machines | None = None) -> None:
        super().__init__(folder, *options, cluster=cluster)
        self.named = f"{BUCKET}/out"
        self._folder, self._machines = folder, 0
        self.move()

    def move(self) -> None:
        """Go on where nothing of the study is."""
        self._machines += 1
        self.variables = {WORK_FOLDER: str(self._folder / f"machine-{self._machines}")}
        with patch.dict(os.environ, self.variables):
            self.out = out_folder(str(self.named))


@contextmanager
def driver(folder: Path) -> Iterator[tuple[Struck, Callable[[], None]]]:
    """SIGKILL to the driver, wherever it is; the next one goes on."""
    study = Struck(folder)

    def strike() -> None:
        study.go_on().kill()
        study.ends()

    yield study, strike


@contextmanager
def interrupt(folder: Path) -> Iterator[tuple[Struck, Callable[[], None]]]:
    """Ctrl-C twice, the second within two seconds of the first, to the whole group."""
    study, draw = Struck(folder), random.Random(folder.name)

    def strike() -> None:
        process = study.go_on()
        for pause in (draw.uniform(0, 2), 0.0):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(pause)
        study.ends()

    yield study, strike


@contextmanager
def worker(folder: Path) -> Iterator[tuple[Struck, Callable[[], None]]]:
    """SIGKILL to a process that trains a block; the study has to survive it."""
    study = Struck(folder)
    yield study, lambda: wait_until(lambda: killed_a_worker(study), every=0.05)


def killed_a_worker(study: Struck) -> bool:
    """Whether a process was there that trains a block; it was killed."""
    for child in psutil.Process(study.go_on().pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it may end meanwhile
            if "Trainable" in " ".join(child.cmdline()):
                child.kill()
                return True
    return False


@contextmanager
def raylet(folder: Path) -> Iterator[tuple[Struck, Callable[[], None]]]:
    """A machine is lost: SIGKILL to one of two raylets that train, and another joins; the study has
    to survive it."""
    with machines(folder / "machines") as cluster:
        there = [cluster.join(), cluster.join()]
        study = Struck(folder, "--address", cluster.address, cluster=cluster)

        def strike() -> None:
            cluster.lose(there.pop(0))
            there.append(cluster.join())

        yield study, strike


@contextmanager
def tracking(folder: Path) -> Iterator[tuple[Struck, Callable[[], None]]]:
    """SIGKILL to the MLflow server, which comes back seconds later; the study has to survive it."""
    port, store = free_port(), f"sqlite:///{folder / 'server.db'}"
    servers: list[subprocess.Popen[bytes]] = []
    draw = random.Random(folder.name)

    def strike() -> None:
        os.killpg(servers[-1].pid, signal.SIGKILL)
        servers[-1].wait()
        time.sleep(draw.uniform(0, 5))
        servers.append(start_mlflow(port, folder))

    servers.append(start_mlflow(port, folder))
    wait_for(port)
    uri = f"storage.tracking_uri=http://127.0.0.1:{port}"
    study = Struck(folder, "--set", uri, store=store)
    try:
        yield study, strike
    finally:
        os.killpg(servers[-1].pid, signal.SIGKILL)
        servers[-1].wait()


@contextmanager
def disk(folder: Path) -> Iterator[tuple[Struck, Callable[[], None]]]:
    """The disk of the output folder is full until the driver ends."""
    study = Struck(folder)
    study.out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(study.out)]
    subprocess.run(mount, check=True)
    ballast = study.out / "ballast"

    def strike() -> None:
        before = len(study.said.read_text())
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue
        code, said = study.ends()
        said = said[before:]
        assert "Traceback" not in said, said
        assert code == 0 or "continue with:" in said, said
        ballast.unlink()

    try:
        yield study, strike
    finally:
        subprocess.run(["umount", "--lazy", str(study.out)], check=True)  # still looked into


@contextmanager
def s3_driver(folder: Path) -> Iterator[tuple[Struck, Callable[[], None]]]:
    """SIGKILL to the driver of a study on S3; the next one is on another machine."""
    with started_s3():
        study = StruckOnS3(folder)

        def strike() -> None:
            study.go_on().kill()
            study.ends()
            study.move()
            wait_until(lambda: not StudyFolder(study.out / "struck").is_locked(), every=1)

        yield study, strike


@contextmanager
def s3_worker(folder: Path) -> Iterator[tuple[Struck, Callable[[], None]]]:
    """SIGKILL to a process that trains a block of a study on S3; the study has to survive it."""
    with started_s3():
        study = StruckOnS3(folder)
        yield study, lambda: wait_until(lambda: killed_a_worker(study), every=0.05)


@contextmanager
def s3_raylet(folder: Path) -> Iterator[tuple[Struck, Callable[[], None]]]:
    """A machine is lost that trains blocks of a study on S3; the study has to survive it."""
    host, port = "10.77.0.1", 5900
    with (
        s3_variables(host, port),
        machines(folder / "machines") as cluster,
        serving_s3(host, port, cluster.inside),
    ):
        there = [cluster.join(), cluster.join()]
        study = StruckOnS3(folder, "--address", cluster.address, cluster=cluster)

        def strike() -> None:
            cluster.lose(there.pop(0))
            there.append(cluster.join())

        yield study, strike


SURVIVED = {"worker", "raylet", "tracking", "s3_worker", "s3_raylet"}  # by the driver at work
LATEST_SHARES = {"worker": 0.9, "raylet": 0.7, "s3_worker": 0.9, "s3_raylet": 0.7}
"""Share of the training before which strikes begin, where they take something that is at work."""
ON_S3 = (s3_driver, s3_worker, s3_raylet)
KINDS = {
    each.__name__: each for each in (driver, worker, raylet, tracking, disk, interrupt, *ON_S3)
}


def undisturbed(folder: Path, text: str) -> Path:
    """Run a study without faults: the folder of its file and of its output folder `out`."""
    words = command("run", written(folder, text), "--out", folder / "out")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def strike_study(kind: str, strikes: int, seed: int, folder: Path, reference: Path) -> Tally:
    """Strike a study at shares of its training that a seed draws, then let it finish and count.

    Args:
        kind: of fault, of `KINDS`.
        strikes: how many.
        seed: of the shares.
        folder: to work in.
        reference: folder of the same study, `undisturbed`.
    """
    draw = random.Random(f"{kind} {seed}")
    shares = sorted(draw.uniform(0, LATEST_SHARES.get(kind, 1)) for _ in range(strikes))
    written(folder, (reference / "struck.yaml").read_text())
    with KINDS[kind](folder) as (study, strike):
        for share in shares:
            study.reach(share)
            strike()
        study.finish()
        assert kind not in SURVIVED or study.deaths == 0, study.said.read_text()
        study.deliver()
        return check(study.file, study.out, members(reference / "out"), study.store)
