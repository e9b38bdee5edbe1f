"""Engines against each other and against this machine's own matrix products: `make bench`.

All figures of a table come from one run, so that its ratios hold whatever the machine's mood. Each
row is measured in a process of its own, next to the matrix product it is compared with: that is how
its memory is known. That product is the faster of torch's and NumPy's, whose libraries know different
processors (OpenBLAS is left to find the kernel that fits this one). A member-step counts 2 N W (2 D + 3 C) floating-point operations: two products
forward, three backward, without the gradient with respect to the inputs.

Rivals: `torch.func.vmap`, and JAX where it is installed (`pip install dynloss[rivals]`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.func import functional_call, grad, stack_module_state, vmap

from dynloss_core.data import SpiralsConfig
from dynloss_core.losses import weighted_cross_entropy
from dynloss_core.models import MLPConfig
from dynloss_core.oscillation import GroupsName, Oscillation
from dynloss_core.training import Member, Problem, Setup, choose_engine
from tests.benchmarks.jax_scan import JAX, JaxScan, keep_to_cores

if TYPE_CHECKING:  # `tests/gpu` measures with this file where there is no rich
    from rich.console import Console

REPEATS = 5
SECONDS = 0.3
INPUTS, CLASSES, SAMPLES = 2, 3, 300
VMAP = "torch.func.vmap"

Steps = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """One row to measure."""

    engine: str
    width: int
    members: int
    dtype: str
    device: str
    threads: int
    groups: GroupsName = "classes"


@dataclass(frozen=True)
class Measurement:
    """One engine at one size: medians over repeats, and their spread.

    Args:
        microseconds: for one step of one member.
        fastest: of the repeats.
        slowest: of the repeats.
        gflops: by the count above.
        matmul_gflops: rate of the matrix product on the same threads, in the same process.
        of_matmul: share of it.
        traced: time with every step of every member traced over time without; None for a rival.
        megabytes: peak memory of the process above what it had before the engine was made; on CUDA
            the peak of torch's allocator.
    """

    job: Job
    microseconds: float
    fastest: float
    slowest: float
    gflops: float
    matmul_gflops: float
    of_matmul: float
    traced: float | None
    megabytes: float


def operations(width: int) -> float:
    return 2.0 * SAMPLES * width * (2 * INPUTS + 3 * CLASSES)


def matmul_rate(dtype: torch.dtype, device: str, threads: int) -> float:
    """GFLOP/s of a large matrix product on so many threads."""
    size = 1536 if device == "cpu" else 8192
    a = torch.randn(size, size, dtype=dtype, device=device)
    rate = product_rate(a, device)
    if device != "cpu":
        return rate
    with threadpool_limits(threads, user_api="blas"):
        return max(rate, product_rate(a.numpy(), device))


def product_rate(a: torch.Tensor | np.ndarray, device: str) -> float:
    """GFLOP/s of a square matrix times itself: the median of ten."""
    rates = []
    for _ in range(13):
        wait_for(device)
        started = time.perf_counter()
        a @ a
        wait_for(device)
        rates.append(2 * len(a) ** 3 / (time.perf_counter() - started) / 1e9)
    return statistics.median(rates[3:])


def wait_for(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def setup_of(job: Job) -> Setup:
    problem = Problem(
        data=SpiralsConfig(points_per_class=SAMPLES // CLASSES),
        model=MLPConfig(width=job.width),
        dtype=job.dtype,  # type: ignore[arg-type]
        steps=10**9,
        static_tail=0,
        evaluate_every=10**9,
        oscillation=Oscillation(groups=job.groups),
    )
    seeds = min(job.members, 64)
    members = [
        Member(1.0, seed=index % seeds, period=1000, amplitude=70.0) for index in range(job.members)
    ]
    return Setup.build(problem, members)


def engine_steps(job: Job, setup: Setup, traced: Sequence[int] = ()) -> Steps:
    engine = choose_engine(setup.problem, job.engine, job.device)  # type: ignore[arg-type]
    running = engine(setup, job.device, traced=traced)

    def steps(count: int) -> None:
        running._train(count)

    return steps


def vmap_steps(setup: Setup) -> Steps:
    """The rival: torch.func.vmap over stacked networks, as its tutorial does it."""
    kind = setup.problem.torch_dtype
    parameters, buffers = stack_module_state(list(setup.networks))
    inputs = torch.stack([splits.train.inputs.to(kind) for splits in setup.splits])
    targets = setup.splits[0].train.targets
    base = setup.networks[0]

    def loss(params: dict, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return weighted_cross_entropy(
            functional_call(base, (params, buffers), (x,)), targets, weights
        )

    gradient = vmap(grad(loss))
    parameters = {name: tensor.detach() for name, tensor in parameters.items()}

    def steps(count: int) -> None:
        for step in range(count):
            weights = setup.class_weights(torch.tensor([step]))[0].to(kind)
            for name, change in gradient(parameters, inputs, weights).items():
                parameters[name] = parameters[name] - change

    return steps


def rival_steps(job: Job, setup: Setup) -> Steps:
    """What trains the same networks without the suite's engines."""
    return JaxScan(setup) if job.engine == JAX else vmap_steps(setup)


def timed(steps: Steps, count: int, device: str) -> float:
    if isinstance(steps, JaxScan):
        steps.prepare(count)
    wait_for(device)
    started = time.perf_counter()
    steps(count)
    wait_for(device)
    return time.perf_counter() - started


def steps_for(steps: Steps, device: str) -> int:
    """How many steps take about `SECONDS`; compiles and allocates on the way."""
    timed(steps, 8, device)
    count = max(8, int(8 * SECONDS / timed(steps, 8, device)))
    timed(steps, count, device)  # JAX compiles for each number of steps
    return count


def measure(job: Job) -> Measurement:
    """One row; called in a process of its own."""
    if job.engine == JAX:
        keep_to_cores(job.threads)
    torch.set_num_threads(job.threads)
    rate = matmul_rate(getattr(torch, job.dtype), job.device, job.threads)
    setup = setup_of(job)
    before = resident_megabytes()
    is_rival = job.engine in (VMAP, JAX)
    plain = rival_steps(job, setup) if is_rival else engine_steps(job, setup)
    count = steps_for(plain, job.device)
    found = [timed(plain, count, job.device) for _ in range(REPEATS)]
    memory = peak_megabytes(job.device, before)
    traced = None
    if not is_rival:  # alternating, so that a machine that slows down slows both
        tracing = engine_steps(job, setup, traced=range(job.members))
        steps_for(tracing, job.device)
        pairs = [
            (timed(tracing, count, job.device), timed(plain, count, job.device))
            for _ in range(REPEATS)
        ]
        traced = statistics.median(one / other for one, other in pairs)
    scale = 1e6 / count / job.members
    microseconds = statistics.median(found) * scale
    gflops = operations(job.width) / microseconds / 1e3
    return Measurement(
        job=job,
        microseconds=microseconds,
        fastest=min(found) * scale,
        slowest=max(found) * scale,
        gflops=gflops,
        matmul_gflops=rate,
        of_matmul=gflops / rate,
        traced=traced,
        megabytes=memory,
    )


def resident_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_megabytes(device: str, before: float) -> float:
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    return resident_megabytes() - before


def jobs(options: argparse.Namespace) -> list[Job]:
    found = []
    for threads in dict.fromkeys(options.threads):
        for dtype in options.dtypes:
            for width in options.widths:
                for engine, members in (
                    ("autograd", 1),
                    (VMAP, options.members),
                    *([(JAX, options.members)] if find_spec("jax") else []),
                    ("batched", options.members),
                    ("fused", options.members),
                ):
                    found.append(Job(engine, width, members, dtype, "cpu", threads))
    if torch.cuda.is_available():
        for dtype in options.dtypes:
            for width in options.widths:
                for engine, members in (("autograd", 1), ("batched", 1024), ("fused", 4096)):
                    found.append(Job(engine, width, members, dtype, "cuda", 1))
    return found


def show(rows: list[Measurement], console: Console) -> None:
    from rich.table import Table

    table = Table(
        "engine", "width", "members", "dtype", "on", "µs per member-step", "GFLOP/s", "of matmul",
        "x autograd", "x vmap", "x JAX", "traced", "MB", box=None,
    )  # fmt: skip
    for row in rows:
        job = row.job
        same = [r for r in rows if matches(r.job, job)]
        against = {r.job.engine: r.microseconds / row.microseconds for r in same}
        table.add_row(
            job.engine, str(job.width), str(job.members), job.dtype,
            f"{job.threads} threads" if job.device == "cpu" else job.device,
            f"{row.microseconds:.2f} ({row.fastest:.2f}-{row.slowest:.2f})", f"{row.gflops:.1f}",
            f"{row.of_matmul:.0%}", ratio(against.get("autograd")), ratio(against.get(VMAP)),
            ratio(against.get(JAX)),
            "" if row.traced is None else f"{row.traced - 1:+.0%}", f"{row.megabytes:.0f}",
        )  # fmt: skip
    console.print(table)


def matches(one: Job, other: Job) -> bool:
    names = ("width", "dtype", "device", "threads")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def main() -> None:
    from rich.console import Console

    from studies.blocks.provenance import provenance

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[20, 50, 100, 300])
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("engines.json"))
    options = parser.parse_args()
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # a pinned kernel is no yardstick
        os.environ.pop(name, None)
    rows = []
    console = Console(width=140)
    processes = multiprocessing.get_context("spawn")
    for job in jobs(options):
        with processes.Pool(1) as alone:
            rows.append(alone.apply(measure, (job,)))
        console.print(
            f"{job.engine} {job.width} {job.dtype}: {rows[-1].microseconds:.2f} µs", style="dim"
        )
    show(rows, console)
    record = {"provenance": provenance(), "repeats": REPEATS, "rows": [asdict(row) for row in rows]}
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
