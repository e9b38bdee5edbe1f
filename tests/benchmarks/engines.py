"""Engines against each other and against this machine's own matrix products: `make bench`.

All figures of a table come from one run, so that its ratios hold whatever the machine's mood. A
member-step counts 2 N W (2 D + 3 C) floating-point operations: two products forward, three backward,
without the gradient with respect to the inputs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.func import functional_call, grad, stack_module_state, vmap

from dynloss_core.data import SpiralsConfig
from dynloss_core.losses import weighted_cross_entropy
from dynloss_core.models import MLPConfig
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    Engine,
    FusedCPUEngine,
    Member,
    Problem,
    Setup,
)
from studies.provenance import provenance

REPEATS = 3
SECONDS = 1.0
INPUTS, CLASSES, SAMPLES = 2, 3, 300


@dataclass(frozen=True)
class Measurement:
    """One engine at one size: medians over repeats, and their spread."""

    engine: str
    width: int
    members: int
    dtype: str
    threads: int
    microseconds: float
    fastest: float
    slowest: float
    gflops: float
    of_matmul: float
    times_autograd: float
    megabytes: float


def operations(width: int) -> float:
    return 2.0 * SAMPLES * width * (2 * INPUTS + 3 * CLASSES)


def matmul_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product on the present threads: the median of ten."""
    a = torch.randn(1536, 1536, dtype=dtype)
    for _ in range(3):
        a @ a
    rates = []
    for _ in range(10):
        started = time.perf_counter()
        a @ a
        rates.append(2 * 1536**3 / (time.perf_counter() - started) / 1e9)
    return statistics.median(rates)


def problem_of(width: int, dtype: str, steps: int) -> Problem:
    return Problem(
        data=SpiralsConfig(points_per_class=SAMPLES // CLASSES),
        model=MLPConfig(width=width),
        dtype=dtype,  # type: ignore[arg-type]
        steps=steps,
        static_tail=0,
        evaluate_every=steps,
    )


def members_of(count: int) -> list[Member]:
    return [Member(1.0, seed=seed, period=1000, amplitude=70.0) for seed in range(count)]


def engine_steps(
    engine: type[Engine], width: int, members: int, dtype: str
) -> Callable[[int], None]:
    running = engine(Setup.build(problem_of(width, dtype, 10**9), members_of(members)))

    def steps(count: int) -> None:
        running._advance(count)
        running.step += count

    return steps


def vmap_steps(width: int, members: int, dtype: str) -> Callable[[int], None]:
    """The rival: torch.func.vmap over stacked networks, as its tutorial does it."""
    setup = Setup.build(problem_of(width, dtype, 10**9), members_of(members))
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


def measure(steps: Callable[[int], None], members: int) -> tuple[float, float, float]:
    """Microseconds a member-step: median, fastest and slowest of the repeats."""
    steps(2)  # compiles and allocates
    started = time.perf_counter()
    steps(8)
    count = max(8, int(8 * SECONDS / (time.perf_counter() - started)))
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        steps(count)
        found.append((time.perf_counter() - started) / count / members * 1e6)
    return statistics.median(found), min(found), max(found)


def table_of(widths: list[int], members: int, dtypes: list[str], threads: int) -> list[Measurement]:
    torch.set_num_threads(threads)
    rows = []
    for dtype in dtypes:
        rate = matmul_rate(getattr(torch, dtype))
        for width in widths:
            rivals: list[tuple[str, int, Callable[[], Callable[[int], None]]]] = [
                ("autograd", 1, lambda w=width, d=dtype: engine_steps(AutogradEngine, w, 1, d)),
                ("torch.func.vmap", members, lambda w=width, d=dtype: vmap_steps(w, members, d)),
                (
                    "batched",
                    members,
                    lambda w=width, d=dtype: engine_steps(BatchedEngine, w, members, d),
                ),
                (
                    "fused",
                    members,
                    lambda w=width, d=dtype: engine_steps(FusedCPUEngine, w, members, d),
                ),
            ]
            reference = None
            for name, count, make in rivals:
                median, fastest, slowest = measure(make(), count)
                reference = reference or median
                gflops = operations(width) / median / 1e3
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                rows.append(
                    Measurement(
                        name,
                        width,
                        count,
                        dtype,
                        threads,
                        median,
                        fastest,
                        slowest,
                        gflops,
                        gflops / rate,
                        reference / median,
                        memory,
                    )
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[20, 50, 100, 300])
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("engines.json"))
    options = parser.parse_args()
    rows: list[Measurement] = []
    for threads in dict.fromkeys(options.threads):
        rows += table_of(options.widths, options.members, options.dtypes, threads)
    shown = Table(
        "engine", "width", "members", "dtype", "threads", "µs a member-step", "GFLOP/s",
        "of matmul", "x autograd", box=None,
    )  # fmt: skip
    for row in rows:
        shown.add_row(
            row.engine, str(row.width), str(row.members), row.dtype, str(row.threads),
            f"{row.microseconds:.2f} ({row.fastest:.2f}-{row.slowest:.2f})", f"{row.gflops:.1f}",
            f"{row.of_matmul:.0%}", f"{row.times_autograd:.1f}",
        )  # fmt: skip
    Console(width=110).print(shown)
    record = {"provenance": provenance(), "repeats": REPEATS, "rows": [asdict(row) for row in rows]}
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
