"""Member-steps per second of the `fused` engine at several widths.

A member-step is one update of one network on the full batch of 300 points. Thousands of members are
trained together, each on data of its own, as in `tests/benchmarks/engines.py`.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict

from tests.benchmarks.engines import (
    REPEATS,
    Job,
    engine_steps,
    operations,
    setup_of,
    steps_for,
    timed,
)
from tests.gpu.figures import Figures, options

__all__ = ["main"]

SIZES = (
    ("float32", 50, "classes"), ("float32", 50, "random"), ("float32", 100, "classes"),
    ("float32", 20, "classes"), ("float32", 300, "classes"), ("float32", 1000, "classes"),
    ("float64", 100, "classes"),
)  # fmt: skip
MEMBERS = 4096


def main() -> None:
    arguments = options(__doc__).parse_args()
    figures, rows = Figures(arguments.figures), []
    for dtype, width, groups in SIZES[:2] if arguments.tiny else SIZES:
        members = 4 if arguments.tiny else MEMBERS
        job = Job("fused", width, members, dtype, arguments.device, 1, groups)
        steps = engine_steps(job, setup_of(job))
        count = 8 if arguments.tiny else steps_for(steps, job.device)
        seconds = [timed(steps, count, job.device) for _ in range(REPEATS)]
        rates = sorted(count * job.members / each for each in seconds)
        rate = statistics.median(rates)
        rows.append(
            {
                **asdict(job),
                "member_steps_per_second": rate,
                "slowest": rates[0],
                "fastest": rates[-1],
                "steps_a_repeat": count,
                "repeats": REPEATS,
                "gflops": rate * operations(width) / 1e9,
            }
        )
        figures.add(
            f"width {width}, {dtype}, {groups}: {rate / 1e6:.2f} million member-steps per second "
            f"({rates[0] / 1e6:.2f} to {rates[-1] / 1e6:.2f})",
            rows=rows,
        )


if __name__ == "__main__":
    main()
