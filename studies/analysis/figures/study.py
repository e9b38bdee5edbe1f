"""All figures of a study."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from dynloss_core import keys
from studies.analysis.figures.gain_map import draw_gain_map
from studies.analysis.figures.learning_curves import draw_learning_curves
from studies.analysis.figures.minima import draw_minima
from studies.analysis.figures.regimes import draw_regimes
from studies.analysis.figures.search_health import draw_convergence, draw_isolation
from studies.analysis.figures.threshold import draw_threshold
from studies.analysis.figures.trajectory import draw_trajectory
from studies.analysis.figures.valley import Animation, animate_valleys, draw_valleys
from studies.analysis.figures.verdict import draw_verdict
from studies.analysis.study_analysis import Analysis
from studies.analysis.valleys import ValleyRun

__all__ = ["animate_study", "draw_study"]


def draw_study(analysis: Analysis) -> Iterator[tuple[str, Figure]]:
    """The figures that an analysis gives rise to, one after another, with their names."""
    for verdict, pairs in zip(analysis.verdicts, analysis.pairs, strict=True):
        name = "_".join(["verdict", *verdict.label.replace(",", "").split()])
        yield name, draw_verdict(pairs, verdict.test, verdict.label)
    for parameter, found in analysis.regimes.items():
        yield f"regimes_{parameter.rpartition('.')[2]}", draw_regimes(found)
    for name, gains in analysis.maps.items():
        yield name, draw_gain_map(gains)
    if analysis.curves:
        yield (
            "learning_curves",
            draw_learning_curves(analysis.curves, tail_start=analysis.tail_start),
        )
    if analysis.threshold is not None:
        yield "threshold", draw_threshold(analysis.threshold)
    if analysis.minima is not None:
        yield "minima", draw_minima(analysis.minima)
    if analysis.recorded is not None:
        for arm in (keys.DYNAMICAL, keys.STATIC):
            traced = [run for run in analysis.recorded.of(arm) if not run.trace.empty]
            for run in traced[:1]:
                yield f"trajectory_{arm}", draw_trajectory(run)
    if shown := _one_seed(analysis.valleys):
        yield "valleys", draw_valleys(shown)
    if analysis.health is not None:
        yield "isolation", draw_isolation(analysis.health)
        yield "convergence", draw_convergence(analysis.health)


def animate_study(analysis: Analysis) -> Iterator[tuple[str, Animation]]:
    """The figures that move, one after another, with their names."""
    if shown := _one_seed(analysis.valleys):
        yield "valley_moving", animate_valleys(shown)


def _one_seed(runs: tuple[ValleyRun, ...]) -> list[ValleyRun]:
    """The first run, and the first of another arm that has its seed and moments."""
    if not runs:
        return []
    first = runs[0]
    others = [run for run in runs if run.arm != first.arm and run.seed == first.seed]
    return [first, *(run for run in others if list(run.steps) == list(first.steps))][:2]
