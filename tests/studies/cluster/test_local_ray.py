"""Ray that starts and ends beside other work."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.services import SECONDS

_GARBAGE_WHILE_RAY_ENDS = """
import gc
import threading
from studies.cluster.local_ray import end_local_ray, ended_local_ray, local_ray

gc.disable()  # else chance decides what is left
shut, collected = threading.Event(), threading.Event()

class Garbage:
    def __init__(self, reference):
        self.reference, self.itself = reference, self

class PausedWhereItIsShut:
    def __init__(self, core):
        self._core = core

    def __getattr__(self, name):
        return getattr(self._core, name)

    def shutdown_driver(self):
        self._core.shutdown_driver()
        shut.set()
        collected.wait()

def train():
    import ray
    Garbage(ray.put(0))
    worker = ray._private.worker.global_worker
    worker.core_worker = PausedWhereItIsShut(worker.core_worker)

with ended_local_ray():
    with local_ray():
        train()
    end_local_ray()
    shut.wait()
    gc.collect()
    collected.set()
print("went on")
"""


_ENDED_BY_A_SIGNAL = """
import os, signal, sys, time
from studies.cluster.local_ray import ended_local_ray, local_ray
from studies.interrupts import ends_as_interrupts

with ends_as_interrupts(), ended_local_ray():
    try:
        with local_ray():
            os.kill(os.getpid(), int(sys.argv[1]))
            time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(4)  # Ray's handler aborts the process after 3
        print("stopped in order")
"""

_WORKERS_OF_ONE_ACTOR = """
import psutil
from studies.cluster.local_ray import ended_local_ray, local_ray

class Trainable:
    def train(self):
        return None

with ended_local_ray(), local_ray():
    import ray
    with_environment = ray.remote(runtime_env={"env_vars": {"ITS": "OWN"}}, num_cpus=1)
    trains = with_environment(Trainable).remote()  # as Tune does
    ray.get(trains.train.remote())
    names = [p.cmdline()[0].strip() for p in psutil.Process().children(recursive=True)]
    print(*(name for name in names if name.startswith("ray::") and "Agent" not in name), sep="|")
"""


@pytest.mark.slow
def test_nothing_of_rays_is_freed_while_it_ends() -> None:
    """Ray ends a process in which that happens."""
    assert said_by(_GARBAGE_WHILE_RAY_ENDS) == "went on\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_means_the_same_once_ray_runs(number: signal.Signals) -> None:
    """Ray's own handler, which C++ sets, calls the one before it, and aborts what still works three
    seconds later: a study that saves its blocks."""
    assert said_by(_ENDED_BY_A_SIGNAL, str(int(number))) == "stopped in order\n"


@pytest.mark.slow
def test_no_worker_starts_that_nothing_uses() -> None:
    """Each imports PyTorch, and would do so while those that train do."""
    assert said_by(_WORKERS_OF_ONE_ACTOR) == "ray::Trainable\n"


def said_by(code: str, *arguments: str) -> str:
    """What Python prints that executes some code."""
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout
