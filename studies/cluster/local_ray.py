"""Ray on this machine, started and ended beside other work.

Starting it takes about 4 s and ending it more than one, most of which goes by waiting for its own
processes. A study uses that time: its store is opened meanwhile, and its results are written.

Linux ends Ray's processes with the thread that started them: that thread lives as long as they do.

An object of Ray's that is freed while Ray ends in another thread ends the whole process, with a
line on "the language frontend". So nothing of Ray's may be left to the garbage collector by then.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from studies.cluster.ray_cluster import is_joined, joined_cluster, set_environment

__all__ = ["end_local_ray", "ended_local_ray", "local_ray", "start_local_ray"]


class _LocalRay:
    """Ray on this machine, in a thread of its own."""

    def __init__(self) -> None:
        self.ready, self.end = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._live, name="local-ray", daemon=True)
        self.thread.start()

    def _live(self) -> None:
        try:
            with joined_cluster(None):
                self.ready.set()
                self.end.wait()
        except BaseException as error:  # raised where Ray is waited for
            self.error = error
        finally:
            self.ready.set()


_started: list[_LocalRay] = []  # at most one


def start_local_ray() -> None:
    """Start Ray here, and do not wait for it; nothing if this process has joined a cluster."""
    if not _started and not is_joined():
        set_environment(None)  # before this thread imports Ray
        _started.append(_LocalRay())


def end_local_ray() -> None:
    """End the Ray that was started here, and do not wait for that.

    Nothing that this process still uses may hold an object of Ray's.
    """
    if _started:
        gc.collect()  # Tune's own objects refer to each other
    for ray in _started:
        ray.end.set()


@contextmanager
def local_ray() -> Iterator[None]:
    """Ray, as soon as it runs here; or the cluster that this process has joined.

    Raises:
        ConfigError: if Ray cannot start here.
    """
    start_local_ray()
    for ray in _started:
        ray.ready.wait()
        if ray.error is not None:
            raise ray.error
    yield


@contextmanager
def ended_local_ray() -> Iterator[None]:
    """Whatever Ray is started here meanwhile has ended afterwards."""
    try:
        yield
    finally:
        while _started:
            ray = _started.pop()
            ray.end.set()
            ray.thread.join()
