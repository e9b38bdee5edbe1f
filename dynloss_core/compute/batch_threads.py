"""The parts of a batch side by side, each on one thread.

torch would share each operation of a step among its threads and let them wait for each other a
hundred times a step; here they meet once. Where other programs want the cores as well, the slowest
thread is then waited for once, too. What is computed does not depend on which thread did it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["PartThreads"]

Part = TypeVar("Part")
Found = TypeVar("Found")


class PartThreads:
    """As many threads as torch has on the CPU now; on another device none but the caller's.

    Args:
        device: where the parts are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[Part], Found], parts: Iterable[Part]) -> list[Found]:
        """The function of each part, in their order; gradients are on or off as in the caller."""
        parts = list(parts)
        if self.count == 1 or len(parts) == 1:
            return [function(part) for part in parts]
        wanted = torch.is_grad_enabled()

        def apart(part: Part) -> Found:
            with torch.set_grad_enabled(wanted):
                return function(part)

        return list(self._threads().map(apart, parts))

    def _threads(self) -> ThreadPoolExecutor:
        """Made at first use. torch keeps its number of threads for each thread that calls it, but
        new threads take the last number that anybody set: it is set back."""
        if self._pool is None:
            ready = threading.Barrier(self.count)

            def alone(_: int) -> None:
                torch.get_num_threads()  # a thread's first look would undo what was set before it
                torch.set_num_threads(1)
                ready.wait()  # until each thread of the pool has come here once

            self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="parts")
            list(self._pool.map(alone, range(self.count)))
            torch.set_num_threads(self.count)
        return self._pool
