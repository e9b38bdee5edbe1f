"""What a block would cost: a few steps of the networks that it would train, timed and weighed.

Nothing here knows Ray: it runs wherever blocks do, before the first of them.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import torch

from dynloss_core import keys
from dynloss_core.training import Engine, Member, Problem, Setup, choose_engine
from search_spaces import Point
from studies.blocks.block_size import Measured, measure_sizes
from studies.definition.study import Study

__all__ = [
    "CPUMemory",
    "CUDAMemory",
    "Memory",
    "Probe",
    "ProbeResult",
    "largest_problem",
    "probed",
    "representatives",
    "seconds_per_step",
]

_SECONDS = 0.5  # that a size is timed for, its first step apart
_REPEATS = 5  # of a run that is over before
_MAX_PROBLEMS = 8  # to look at, if a study's points change the problem itself
_SHARE = 0.8  # of the memory that is there: evaluations take some, and so do other programs
_SHARE_OF_GPU = 0.9
_CONTEXT = 2**30  # bytes that CUDA takes of a GPU for each process, beside its tensors


class Memory(Protocol):
    """The memory of a device that networks are weighed on."""

    def begin(self) -> None:
        """Weigh from now on."""

    def peak(self) -> int:
        """Bytes taken at most since `begin`, beside what was taken before the first."""

    def available(self) -> float:
        """Bytes that blocks may take in all."""

    def of_process(self) -> int:
        """Bytes that a process takes before it trains anything."""


class CPUMemory:
    """The memory of this machine, as this process resides in it."""

    def __init__(self) -> None:
        self._base = self._resident()
        self._available = min(psutil.virtual_memory().available, _room_in_container())

    def begin(self) -> None:
        """Forget the peak, where the system lets a process do so."""
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """Resident bytes at most, beside those of the process."""
        peak = self._resident()
        with suppress(OSError, ValueError, IndexError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) * 1024)
        return max(0, peak - self._base)

    def available(self) -> float:
        """What was free beside this process."""
        return _SHARE * self._available

    def of_process(self) -> int:
        """What this process had taken before it trained anything."""
        return self._base

    def _resident(self) -> int:
        return int(psutil.Process().memory_info().rss)


class CUDAMemory:
    """The memory of a GPU, as torch allocates it."""

    def begin(self) -> None:
        """Forget the peak, and give back what is cached."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """Allocated bytes at most."""
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated())

    def available(self) -> float:
        """What is free of it, its context included."""
        free, total = torch.cuda.mem_get_info()
        return _SHARE_OF_GPU * min(total, free + _CONTEXT)

    def of_process(self) -> int:
        """The context of CUDA."""
        return _CONTEXT


@dataclass(frozen=True)
class Probe:
    """What to measure of one arm.

    Args:
        arm: the arm.
        seeds: the seeds of a point.
        most: the most points to train together.
        at_once: number of blocks that share the memory.
    """

    arm: str
    seeds: tuple[int, ...]
    most: int
    at_once: float


@dataclass(frozen=True)
class ProbeResult:
    """What was measured of one arm.

    Args:
        sizes: what ensembles of some sizes cost, ascending.
        memory: bytes that a block may take where it shares the memory.
        available: bytes that all blocks may take.
        of_process: bytes that each process takes beside its block.
    """

    sizes: tuple[Measured, ...]
    memory: float
    available: float
    of_process: int


def probed(study: Study, probes: Sequence[Probe], threads: int) -> list[ProbeResult]:
    """Measure on the study's device, in this process.

    Args:
        study: the study.
        probes: what to measure.
        threads: as many as a block has.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        memory: Memory = CUDAMemory() if study.device == "cuda" else CPUMemory()
        return [probed_on(study, probe, memory) for probe in probes]
    finally:
        torch.set_num_threads(before)


def probed_on(study: Study, probe: Probe, memory: Memory) -> ProbeResult:
    """Measure one arm.

    Args:
        study: the study.
        probe: what to measure.
        memory: of the study's device.
    """
    problem, point = largest_problem(study, probe.arm)
    rates = study.arm_space(probe.arm).parameters[keys.LEARNING_RATE]
    point = {**point, keys.LEARNING_RATE: rates.at(0.0)}  # networks that diverge cost nothing
    members = [study.member(point, seed, problem) for seed in probe.seeds]
    available, own = memory.available(), memory.of_process()
    others = max(0.0, probe.at_once - 1) * own  # this process has taken its own
    if study.device == "cuda":
        others += own
    share = max(0.0, available - others) / max(probe.at_once, 1.0)

    def cost_of(networks: int) -> Measured | None:
        count = -(-networks // len(members))
        return _cost(study, problem, (members * count)[:networks], memory)

    sizes = measure_sizes(cost_of, len(members), probe.most, share)
    return ProbeResult(tuple(sizes), share, available, own)


def representatives(study: Study, arm: str) -> list[Point]:
    """Points in the middle of an arm's space, one for each of its problems, up to a few.

    A point that changes the problem (`model.width`, say) changes the cost of a step.
    """
    parameters = study.arm_space(arm).parameters
    middle = {name: parameter.at(0.5) for name, parameter in parameters.items()}
    middle.update((study.winners or {}).get(arm, {}))
    changing = {name: parameters[name].grid(3) for name in parameters if "." in name}
    points = [
        {**middle, **dict(zip(changing, values, strict=True))}
        for values in itertools.product(*changing.values())
    ]
    if study.winners is not None:
        return [middle]
    return points[:: -(-len(points) // _MAX_PROBLEMS)]


def largest_problem(study: Study, arm: str) -> tuple[Problem, Point]:
    """The problem of an arm whose networks and data take the most memory, of its representatives
    and the last of its points, with a point that has it."""
    points = representatives(study, arm)
    if len(points) > 1:
        parameters = study.arm_space(arm).parameters
        last = {name: parameters[name].grid(3)[-1] for name in parameters if "." in name}
        points.append({**points[-1], **last})
    problems = [(study.problem(arm, point), point) for point in points]
    if len(problems) == 1:
        return problems[0]
    return max(problems, key=lambda known: _size_of(study, *known))


def seconds_per_step(engine: Engine, seconds: float) -> float:
    """Seconds that a step of an engine takes where nothing interrupts it: the least of several
    spans of steps, up to as many as lie between two evaluations, timed for about so long in all or
    to its end. The first step, which compiles, does not count unless it is the only one."""
    problem = engine.setup.problem
    fastest, spent, steps, warm = math.inf, 0.0, 1, False
    while spent < seconds and engine.step < problem.steps:
        first, started = engine.step, time.perf_counter()
        engine.train(min(steps, problem.steps - first))
        if engine.device.type != "cpu":
            torch.cuda.synchronize()  # kernels run asynchronously
        elapsed = time.perf_counter() - started
        per_step = elapsed / (engine.step - first)
        if not warm:
            warm = True
            if engine.step < problem.steps:
                continue
        fastest, spent = min(fastest, per_step), spent + elapsed
        steps = min(2 * steps, problem.evaluate_every)
    return fastest


def _cost(
    study: Study, problem: Problem, members: Sequence[Member], memory: Memory
) -> Measured | None:
    """What an ensemble costs; None if the memory does not suffice."""
    engine_class = choose_engine(problem, study.engine, study.device)
    memory.begin()
    try:
        seconds = math.inf
        for _ in range(_REPEATS):
            engine = engine_class(Setup.build(problem, members), study.device)
            next(engine.evaluations())  # which may take more memory than a step
            seconds = min(seconds, seconds_per_step(engine, _SECONDS))
            if not engine.finished:
                break
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as error:
        if "alloc" in str(error):  # torch's, on a CPU
            return None
        raise
    return Measured(len(members), seconds / len(members), memory.peak())


def _size_of(study: Study, problem: Problem, point: Point) -> int:
    setup = Setup.build(problem, [study.member(point, 0, problem)])
    parameters = sum(parameter.numel() for parameter in setup.networks[0].parameters())
    return parameters * len(setup.splits[0].train.targets)


def _room_in_container() -> float:
    """Bytes that the limit of this container leaves."""
    groups = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit = int((groups / "memory.max").read_text())
        return max(0, limit - int((groups / "memory.current").read_text()))
    return float("inf")
