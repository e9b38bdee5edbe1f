"""Figures, drawn from results alone."""

import studies.analysis.figures.clean_matplotlib  # noqa: F401  # before matplotlib
