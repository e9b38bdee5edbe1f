"""Figures, drawn from results alone."""

import studies.analysis.figures.own_matplotlib  # noqa: F401  # before matplotlib
from studies.analysis.figures.comparisons import draw_comparisons, draw_ladder
from studies.analysis.figures.files import save_animation, save_figure
from studies.analysis.figures.gain_map import draw_gain_map
from studies.analysis.figures.landscape.minima import draw_minima
from studies.analysis.figures.landscape.threshold import draw_threshold
from studies.analysis.figures.landscape.trajectory import draw_trajectory
from studies.analysis.figures.landscape.valley import animate_valleys, draw_valleys
from studies.analysis.figures.learning_curves import draw_learning_curves
from studies.analysis.figures.regimes import draw_regimes
from studies.analysis.figures.search_health import draw_convergence, draw_isolation
from studies.analysis.figures.searches import draw_searches
from studies.analysis.figures.style import ARM_COLOURS
from studies.analysis.figures.verdict import draw_verdict

__all__ = [
    "ARM_COLOURS",
    "animate_valleys",
    "draw_comparisons",
    "draw_convergence",
    "draw_gain_map",
    "draw_isolation",
    "draw_ladder",
    "draw_learning_curves",
    "draw_minima",
    "draw_regimes",
    "draw_searches",
    "draw_threshold",
    "draw_trajectory",
    "draw_valleys",
    "draw_verdict",
    "save_animation",
    "save_figure",
]
