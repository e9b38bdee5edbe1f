"""A figure with what settings change: a line, a hatched bar, mathematics, a minus sign."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np

from studies.analysis.figures.style import blank_figure


def figure() -> mpl.figure.Figure:
    with blank_figure(3, 2) as made:
        axes = made.subplots()
        axes.plot(np.arange(-3, 3), label="$λ_{max}$")
        axes.bar([0], [1], hatch="//")
        axes.legend()
    return made
