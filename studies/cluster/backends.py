"""The table of backends: what trains the blocks of a study, by the name that its file gives it.

The tables are the same whichever does, bit for bit on machines of one kind. To add one, write its
driver, a function that takes a `BlockSource`, and add a row here and its name to `BackendName`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from dynloss_core.config import ConfigError
from studies.blocks.block import BlockSource
from studies.cluster.capacity import Capacity, local_resources, parallel_blocks
from studies.cluster.local_ray import (
    end_local_ray,
    ended_local_ray,
    local_ray,
    start_local_ray,
)
from studies.cluster.ray_cluster import joined_cluster
from studies.definition.optional_packages import require
from studies.definition.options import BackendName
from studies.definition.study import Study

__all__ = ["BACKENDS", "Backend", "backend_of", "named"]


@contextmanager
def _this_machine(address: str | None) -> Iterator[Capacity]:
    """This machine, and no other."""
    if address is not None:
        problem = f"{address}: only the backend ray joins a cluster"
        raise ConfigError("--address", problem, "leave it out, or choose backend: ray")
    yield local_resources()


def _nothing() -> None:
    """What takes no time to start."""


@dataclass(frozen=True)
class Backend:
    """One way to train the blocks of a study.

    Args:
        train: trains the blocks of a source, where its machines were joined.
        call: calls a function where a study's blocks are trained, and gives what it returns.
        joined: joins the cluster at an address, or takes this machine without one, and tells what
            blocks have room in.
        start: begins to start what takes long to, once blocks are to be trained; does not wait.
        end: lets go of it, once none are; does not wait.
        one_by_one: whether blocks are trained one after another.
        catches_interrupts: whether it turns the exception of Ctrl-C into an orderly end; others end
            when the source is asked to stop, and are not interrupted in the middle of a step.
        seconds_to_start: until the first block trains, measured on two cores.
        needs: the package that it imports; empty if it needs none of its own.
    """

    train: Callable[[BlockSource], None]
    call: Callable[[Study, Callable[[], Any]], Any]
    joined: Callable[[str | None], AbstractContextManager[Capacity]] = _this_machine
    start: Callable[[], None] = _nothing
    end: Callable[[], None] = _nothing
    one_by_one: bool = False
    catches_interrupts: bool = False
    seconds_to_start: float = 4.0
    needs: str = ""

    def parallel_blocks(self, study: Study, capacity: Capacity) -> int:
        """Number of blocks that it trains at once."""
        return 1 if self.one_by_one else parallel_blocks(study, capacity)


@contextmanager
def _cluster(address: str | None) -> Iterator[Capacity]:
    """The cluster at an address. Without one, Ray starts once there is something to train."""
    if address is None:
        with ended_local_ray():
            yield local_resources()
    else:
        with joined_cluster(address) as capacity:
            yield capacity


def _on_ray(source: BlockSource) -> None:
    start_local_ray()  # unless a cluster is joined; what follows is imported meanwhile
    from studies.cluster.tune_driver import train

    with local_ray():
        train(source)


def _inline(source: BlockSource) -> None:
    from studies.cluster.inline_driver import train

    train(source)


def _in_processes(source: BlockSource) -> None:
    from studies.cluster.process_driver import train

    train(source)


def _call_on_ray(study: Study, task: Callable[[], Any]) -> Any:
    with local_ray():
        from studies.cluster.ray_call import call

        return call(study, task)


def _call_here(_study: Study, task: Callable[[], Any]) -> Any:
    return task()


def _call_in_a_process(_study: Study, task: Callable[[], Any]) -> Any:
    from studies.cluster.process_driver import call

    return call(task)


BACKENDS: dict[BackendName, Backend] = {
    "ray": Backend(
        train=_on_ray,
        call=_call_on_ray,
        joined=_cluster,
        start=start_local_ray,
        end=end_local_ray,
        catches_interrupts=True,
        seconds_to_start=8,
        needs="ray",
    ),
    "inline": Backend(_inline, _call_here, one_by_one=True),
    "processes": Backend(_in_processes, _call_in_a_process, seconds_to_start=8),
}


def named(name: str) -> BackendName:
    """The name of a backend, checked.

    Raises:
        ConfigError: if there is none of that name.
    """
    for known in BACKENDS:
        if known == name:
            return known
    raise ConfigError("--backend", f"{name!r} is not a backend", f"use {', '.join(BACKENDS)}")


def backend_of(study: Study) -> Backend:
    """The backend of a study.

    Raises:
        MissingPackageError: if the package that it needs is not installed.
    """
    backend = BACKENDS[study.backend]
    if backend.needs:
        require(backend.needs, "backend", study.backend, "use --backend inline or processes")
    return backend
