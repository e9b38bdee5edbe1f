"""Figures, drawn from results alone."""

import studies.analysis.figures.own_matplotlib  # noqa: F401  # before matplotlib
