"""The 4,130 networks of the phase diagram of the spirals at once, on the `fused` engine.

The sizes are those of half of `studies/library/spirals_phase_diagram.yaml`: 20 periods x 20
amplitudes, 13 static learning rates, 10 seeds each, width 50, 35,000 steps, an evaluation every
1,000. What the time does not suffice for is left out, and the share that was trained is said.
"""

from __future__ import annotations

import time

import numpy as np

from dynloss_core.models import MLPConfig
from dynloss_core.training import Member, Problem, Setup, choose_engine
from tests.benchmarks.engines import wait_for
from tests.gpu.figures import Figures, options

__all__ = ["GOAL_SECONDS", "PROBLEM", "main", "members"]

GOAL_SECONDS = 60
PROBLEM = Problem(model=MLPConfig(width=50), steps=35_000, static_tail=5_000, evaluate_every=1_000)
SEEDS = 10


def members(side: int = 20, rates: int = 13, seeds: int = SEEDS) -> list[Member]:
    """Those of the grid, and the static ones."""
    periods = np.geomspace(100, 15_000, side).round().astype(int).tolist()
    amplitudes = np.geomspace(1.5, 200.0, side).tolist()
    static = np.geomspace(0.1, 10.0, rates).tolist()
    return [
        Member(1.0, seed, period=period, amplitude=amplitude)
        for period in periods
        for amplitude in amplitudes
        for seed in range(seeds)
    ] + [Member(rate, seed) for rate in static for seed in range(seeds)]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, required=True, help="to train for at most")
    arguments = parser.parse_args()
    figures, device = Figures(arguments.figures), arguments.device
    ensemble = members(2, 2, 2) if arguments.tiny else members()
    problem = PROBLEM
    if arguments.tiny:
        problem = Problem(model=PROBLEM.model, steps=60, static_tail=10, evaluate_every=20)
    begun = time.perf_counter()
    setup = Setup.build(problem, ensemble)
    kind = choose_engine(problem, "fused", device)
    kind(setup, device).train(1)  # compiles
    wait_for(device)
    engine = kind(setup, device)
    prepared = time.perf_counter() - begun
    figures.add(networks=len(ensemble), prepared_seconds=prepared, goal_seconds=GOAL_SECONDS)
    begun = time.perf_counter()
    for evaluation in engine.evaluations():
        seconds = time.perf_counter() - begun  # an evaluation has waited for the device
        share = evaluation.step / problem.steps
        sound = evaluation.diverged_step < 0
        figures.add(
            steps=evaluation.step,
            share_of_steps=share,
            seconds=seconds,
            seconds_for_all=seconds / share if share else None,
            member_steps_per_second=evaluation.step * len(ensemble) / seconds,
            diverged=int((~sound).sum()),
            median_validation_accuracy=float(evaluation.validation_accuracy[sound].median()),
        )
        if share and seconds > arguments.seconds:
            break
    figures.add(
        f"{len(ensemble):,} networks: {share:.0%} of {problem.steps:,} steps in {seconds:.1f} s, "
        f"all would take {seconds / share:.1f} s (goal {GOAL_SECONDS} s); prepared in "
        f"{prepared:.1f} s"
    )


if __name__ == "__main__":
    main()
