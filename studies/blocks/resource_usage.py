"""What a block uses of its machine while it trains: processor, memory, GPU memory."""

from __future__ import annotations

import time

import psutil
import torch

from dynloss_core import keys

__all__ = ["Usage"]

_MIB = 2**20


class Usage:
    """Measures what this process uses from now on.

    Args:
        cpus: number of CPUs that the block asked for.
    """

    def __init__(self, cpus: float) -> None:
        self._cpus = max(cpus, 1e-9)
        self._process = psutil.Process()
        self._seconds, self._began = self._processor(), time.monotonic()
        self._peak = 0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def sample(self) -> None:
        """Read the memory in use; now and then is enough."""
        self._peak = max(self._peak, self._process.memory_info().rss)

    def so_far(self) -> dict[str, float]:
        """Processor time in percent of the CPUs asked for, and in MiB the largest resident memory
        seen and the largest memory allocated on the GPU."""
        self.sample()
        elapsed = max(time.monotonic() - self._began, 1e-9)
        used = 100 * (self._processor() - self._seconds) / (elapsed * self._cpus)
        on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        return {
            keys.CPU_PERCENT: used,
            keys.MEMORY: self._peak / _MIB,
            keys.GPU_MEMORY: on_gpu / _MIB,
        }

    def _processor(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)
