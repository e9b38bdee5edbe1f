"""A figure of which settings change every part, and what figures say."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from studies.analysis.figures.style import blank_figure


def figure() -> mpl.figure.Figure:
    with blank_figure(3, 2) as made:
        axes = made.subplots()
        axes.plot(np.arange(-3, 3), label="$λ_{max}$")
        axes.bar([0], [1], hatch="//")
        axes.legend()
    return made


def texts(figure: Figure) -> str:
    """All that a figure says, on one line."""
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
