"""How large a block should be, from what ensembles of a few sizes were measured to cost.

Nothing here measures, and nothing changes a result: networks do not depend on their block.

Symbols
    n    networks trained together
    t    seconds per step and network
    m    bytes that they take at most
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = [
    "Measured",
    "blocks_per_gpu",
    "evened",
    "largest_fast",
    "measure_sizes",
    "memory_of",
    "most_points",
    "seconds_beside_others",
]

_SLOWER = 1.1  # than the fastest size measured, at most
_BLOCKS_PER_WORKER = 4  # at least, so that none waits long for the last block
_ROUNDS = 10  # of blocks, at least, where later points depend on earlier results
_BLOCKS_PER_GPU = 8  # at most: each is a process, and the device switches between them


@dataclass(frozen=True)
class Measured:
    """What networks that train together cost.

    Args:
        networks: their number, n.
        seconds: per step and network, t.
        memory: bytes at most, m.
    """

    networks: int
    seconds: float
    memory: int


def most_points(
    trials: int, in_all: int, workers: int, waves: int | None = None, *, waits: bool = False
) -> int:
    """The most points that a block of an arm may have, so that there are blocks for all.

    Args:
        trials: number of trials of the arm.
        in_all: number of trials of all arms and searches, which are trained beside each other.
        workers: number of blocks trained at once.
        waves: blocks of an arm in flight, where later points depend on earlier results.
        waits: whether they do.
    """
    most = in_all // (workers * _BLOCKS_PER_WORKER)
    if waits:
        most = min(most, trials // ((waves or 1) * _ROUNDS))
    return max(1, min(most, trials))


def measure_sizes(
    cost_of: Callable[[int], Measured | None], networks: int, most: int, memory: float
) -> list[Measured]:
    """Measure at most three sizes, ascending: one point, the most there may be, and one between. A
    size that the smaller ones show not to fit is not tried, but the largest that does.

    Args:
        cost_of: measures an ensemble of n networks; None if the memory did not suffice.
        networks: number of networks of a point.
        most: the most points of a block.
        memory: bytes that a block may take.
    """
    measured: list[Measured] = []
    for points in sorted({1, math.isqrt(most), most}):
        if measured:
            points = min(points, _most_networks(measured, memory) // networks)
            if points * networks <= measured[-1].networks:
                break
        cost = cost_of(points * networks)
        if cost is None:
            break
        measured.append(cost)
    return measured


def largest_fast(measured: Sequence[Measured], memory: float) -> Measured | None:
    """The largest size that fits into the memory, and takes at most a tenth more time per network
    than the fastest of those that fit; None if none fits."""
    fitting = [size for size in measured if size.memory <= memory]
    fastest = min((size.seconds for size in fitting), default=0.0)
    fast = [size for size in fitting if size.seconds <= _SLOWER * fastest]
    return max(fast, key=lambda size: size.networks, default=None)


def evened(points: int, trials: int) -> int:
    """The size of blocks that are as many as those of so many points, but equally large."""
    return -(-trials // -(-trials // points)) if trials else points


def memory_of(measured: Sequence[Measured], networks: int) -> float:
    """Bytes that so many networks take: what was measured, a line through the sizes beside it, or
    in proportion where one size is known."""
    sizes = sorted(measured, key=lambda size: size.networks)
    if len(sizes) == 1:
        return sizes[0].memory * max(1.0, networks / sizes[0].networks)
    pairs = list(itertools.pairwise(sizes))
    low, high = next((pair for pair in pairs if networks <= pair[1].networks), pairs[-1])
    slope = max(0.0, (high.memory - low.memory) / (high.networks - low.networks))
    return max(0.0, high.memory + slope * (networks - high.networks))


def blocks_per_gpu(memory: float, available: float, most: int) -> int:
    """How many blocks share a GPU.

    Args:
        memory: bytes that one takes of it, its process included.
        available: bytes that it has.
        most: for how many there are CPUs, and blocks.
    """
    fitting = int(available // max(memory, 1.0))
    return max(1, min(fitting, most, _BLOCKS_PER_GPU))


def seconds_beside_others(alone: float, together: float, blocks: int) -> float:
    """Seconds per step and network in a block that shares its GPU, never less than measured.

    A GPU that trains the networks of all its blocks as one ensemble shows how many it can train in
    a time; beside others a block is no faster than alone.

    Args:
        alone: per step and network of one block.
        together: per step and network of as many networks as the blocks have.
        blocks: number of blocks on the GPU.
    """
    return min(max(alone, blocks * together), blocks * alone)


def _most_networks(measured: Sequence[Measured], memory: float) -> int:
    """The most networks that fit, by the largest sizes measured."""
    last = measured[-1]
    if len(measured) == 1:
        slope = last.memory / last.networks
    else:
        before = measured[-2]
        slope = (last.memory - before.memory) / (last.networks - before.networks)
    if slope <= 0:
        return 2**62 if last.memory <= memory else 0
    return max(0, last.networks + math.floor((memory - last.memory) / slope))
