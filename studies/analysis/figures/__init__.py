"""Figures, drawn from results alone."""

from studies.analysis.figures.gain_map import draw_gain_map
from studies.analysis.figures.learning_curves import draw_learning_curves
from studies.analysis.figures.style import ARM_COLOURS
from studies.analysis.figures.verdict import draw_verdict

__all__ = ["ARM_COLOURS", "draw_gain_map", "draw_learning_curves", "draw_verdict"]
