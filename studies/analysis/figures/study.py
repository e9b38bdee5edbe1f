"""All figures of a study."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from studies.analysis.cards import regimes_name, trajectories, valleys_shown, verdict_name
from studies.analysis.figures.gain_map import draw_gain_map
from studies.analysis.figures.landscape.minima import draw_minima
from studies.analysis.figures.landscape.threshold import draw_threshold
from studies.analysis.figures.landscape.trajectory import draw_trajectory
from studies.analysis.figures.landscape.valley import Animation, animate_valleys, draw_valleys
from studies.analysis.figures.learning_curves import draw_learning_curves
from studies.analysis.figures.regimes import draw_regimes
from studies.analysis.figures.search_health import draw_convergence, draw_isolation
from studies.analysis.figures.verdict import draw_verdict
from studies.analysis.study_analysis import Analysis

__all__ = ["animate_study", "draw_study"]


def draw_study(analysis: Analysis) -> Iterator[tuple[str, Figure]]:
    """The figures that an analysis gives rise to, one after another, with their names."""
    for verdict, pairs in zip(analysis.verdicts, analysis.pairs, strict=True):
        yield verdict_name(verdict), draw_verdict(pairs, verdict)
    for parameter, found in analysis.regimes.items():
        yield regimes_name(parameter), draw_regimes(found)
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
    for name, run in trajectories(analysis).items():
        yield name, draw_trajectory(run)
    if shown := valleys_shown(analysis):
        yield "valleys", draw_valleys(shown)
    if analysis.health is not None:
        yield "isolation", draw_isolation(analysis.health)
        yield "convergence", draw_convergence(analysis.health)


def animate_study(analysis: Analysis) -> Iterator[tuple[str, Animation]]:
    """The figures that move, one after another, with their names."""
    if shown := valleys_shown(analysis):
        yield "valley_moving", animate_valleys(shown)
