"""Ray that starts and ends beside other work."""

from __future__ import annotations

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
def test_no_worker_starts_that_nothing_uses() -> None:
    """Each imports PyTorch, and would do so while those that train do."""
    assert said_by(_WORKERS_OF_ONE_ACTOR) == "ray::Trainable\n"


def said_by(code: str) -> str:
    """What Python prints that executes some code."""
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout
