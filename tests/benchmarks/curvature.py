"""What the curvature costs along a run: `make bench`.

Real runs from their initialisation on, at the published learning rate 1, A = 70 and T = 5000, so
that the sharp phases at the ends of a period, where an eigenvalue takes more products, have their
share: once without probes and once with the largest eigenvalues of Hessian and tangent kernel every
25 steps, evaluations included in both. The goal is that the probes cost no more than the training
itself: (probed - plain) / plain <= 1. The authors' notebook pays 4.4 times the training.

The two runs of a repetition follow each other and a ratio is taken within it, so that a machine that
slows down slows both. Rows of as many threads share a process, where each kernel is compiled once.
Where two periods would take minutes, fewer steps are trained and the period is shortened with them,
as the row says: the sharp phases keep their share, but the class weights move faster from one
measurement to the next than in the published run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from dynloss_core.data import SpiralsConfig
from dynloss_core.models import MLPConfig
from dynloss_core.training import Member, Probes, Problem, Setup, choose_engine
from studies.blocks.provenance import provenance

REPEATS = 3
EVERY = 25  # steps between two measurements
PERIOD, AMPLITUDE, LEARNING_RATE = 5000, 70.0, 1.0
EVALUATE_EVERY = 500  # as studies do
WARM_UP = 100  # steps; the kernels are compiled in them
MAX_STEPS = 10_000  # two periods
MIN_STEPS = 500
WORK = 3.0e6  # steps x members x (width + 60) of a row and thread: about a second, see `steps_of`
GOAL = 1.0
SIZES = ["20x1", "100x1", "800x1", "20x256", "100x256", "800x64"]  # width x members


@dataclass(frozen=True)
class Job:
    """One row to measure."""

    width: int
    members: int
    dtype: str
    threads: int


@dataclass(frozen=True)
class Measurement:
    """Probes at one size: medians over repetitions, and the spread of the ratio.

    Args:
        steps: of a run.
        period: T, steps.
        plain: seconds of a run without probes.
        probed: seconds of the same run with them.
        ratio: (probed - plain) / plain, the median over repetitions.
        lowest: of the ratios.
        highest: of the ratios.
        repeats: n.
        met: whether the median meets the goal.
    """

    job: Job
    steps: int
    period: int
    plain: float
    probed: float
    ratio: float
    lowest: float
    highest: float
    repeats: int
    met: bool


def steps_of(job: Job) -> int:
    """Steps of a run: as many as the budget of work allows, whole evaluations, at most two periods.

    A step costs about as much as `width + 60` units: what does not grow with the width is the
    softmax and the loops around it.
    """
    threads = min(job.threads, job.members)
    affordable = WORK * threads / (job.members * (job.width + 60))
    return max(MIN_STEPS, min(MAX_STEPS, int(affordable) // 500 * 500))


def setup_of(job: Job, steps: int, period: int) -> Setup:
    problem = Problem(
        data=SpiralsConfig(),
        model=MLPConfig(width=job.width),
        dtype=job.dtype,  # type: ignore[arg-type]
        steps=steps,
        static_tail=0,
        evaluate_every=EVALUATE_EVERY,
    )
    members = [
        Member(LEARNING_RATE, seed=seed, period=period, amplitude=AMPLITUDE)
        for seed in range(job.members)
    ]
    return Setup.build(problem, members)


def seconds(setup: Setup, *, probed: bool) -> float:
    """Of one run; engine and tracker are made before the clock starts."""
    probes = Probes(EVERY, tuple(range(len(setup.members)))) if probed else None
    engine = choose_engine(setup.problem)(setup, probes=probes)
    started = time.perf_counter()
    engine.run()
    return time.perf_counter() - started


def measure(job: Job, repeats: int) -> Measurement:
    """One row; called in a process that keeps its threads."""
    torch.set_num_threads(job.threads)
    if job.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    steps = steps_of(job)
    period = min(PERIOD, steps // 2)
    setup = setup_of(job, steps, period)
    warm_up = replace(setup, problem=replace(setup.problem, steps=min(WARM_UP, steps)))
    for probed in (False, True):
        seconds(warm_up, probed=probed)
    pairs = [(seconds(setup, probed=False), seconds(setup, probed=True)) for _ in range(repeats)]
    ratios = [(probed - plain) / plain for plain, probed in pairs]
    return Measurement(
        job=job,
        steps=steps,
        period=period,
        plain=statistics.median(plain for plain, _ in pairs),
        probed=statistics.median(probed for _, probed in pairs),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        repeats=repeats,
        met=statistics.median(ratios) <= GOAL,
    )


def show(rows: list[Measurement], console: Console) -> None:
    table = Table(
        "width", "members", "dtype", "threads", "steps", "T", "n", "s plain", "s probed",
        "curvature / training", "goal", box=None,
    )  # fmt: skip
    for row in rows:
        job = row.job
        table.add_row(
            str(job.width), str(job.members), job.dtype, str(job.threads), str(row.steps),
            str(row.period), str(row.repeats),
            f"{row.plain:.3f}", f"{row.probed:.3f}",
            f"{row.ratio:.2f} ({row.lowest:.2f}-{row.highest:.2f})",
            "met" if row.met else "MISSED",
        )  # fmt: skip
    console.print(table)
    missed = sum(not row.met for row in rows)
    console.print(
        f"curvature every {EVERY} steps costs at most {GOAL:g} times the training: "
        + ("met by every row" if not missed else f"missed by {missed} of {len(rows)} rows")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", metavar="WIDTHxMEMBERS", nargs="+", default=SIZES)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("curvature.json"))
    options = parser.parse_args()
    console = Console(width=140)
    processes = multiprocessing.get_context("spawn")
    rows = []
    for threads in dict.fromkeys(options.threads):
        with processes.Pool(1) as alone:
            for dtype in options.dtypes:
                for size in options.sizes:
                    width, members = map(int, size.split("x"))
                    job = Job(width, members, dtype, threads)
                    rows.append(alone.apply(measure, (job, options.repeats)))
                    console.print(f"{job}: {rows[-1].ratio:.2f}", style="dim")
    show(rows, console)
    record = {
        "provenance": provenance(),
        "goal": GOAL,
        "every": EVERY,
        "rows": [asdict(row) for row in rows],
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
