"""The parts of a batch computed side by side, each on one thread.

torch would split every operation of a step among its threads, which would then wait for each other
a hundred times per step; here they wait once. That matters most where other programs use the cores
too. The result does not depend on which thread computed what.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["PartThreads"]

Part = TypeVar("Part")
Result = TypeVar("Result")


class PartThreads:
    """As many threads as torch has now, on the CPU; on another device only the caller's.

    Args:
        device: where the parts are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
        """Apply the function to each part, and return the results in order; gradients are on or off
        as in the caller."""
        parts = list(parts)
        if self.count == 1 or len(parts) == 1:
            return [function(part) for part in parts]
        wanted = torch.is_grad_enabled()

        def apart(part: Part) -> Result:
            with torch.set_grad_enabled(wanted):
                return function(part)

        return list(self._threads().map(apart, parts))

    def _threads(self) -> ThreadPoolExecutor:
        """The pool, made at first use. torch has a number of threads for each calling thread, but a
        new thread takes the number set last, so that is set back."""
        if self._pool is None:
            ready = threading.Barrier(self.count)

            def alone(_: int) -> None:
                torch.get_num_threads()  # a thread's first read would undo an earlier setting
                torch.set_num_threads(1)
                ready.wait()  # until every thread of the pool has been here once

            self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="parts")
            list(self._pool.map(alone, range(self.count)))
            torch.set_num_threads(self.count)
        return self._pool
