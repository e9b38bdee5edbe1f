"""Search by search: each search's difference beside the verdict on all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from studies.analysis.figures.comparisons import (
    difference_of,
    forest,
    small_print,
)
from studies.analysis.figures.style import FULL, GREY, blank_figure, headline, note
from studies.analysis.searches import SearchGain
from studies.analysis.setting_verdicts import SettingVerdict

__all__ = ["draw_searches"]


def draw_searches(compared: Sequence[tuple[SettingVerdict, Sequence[SearchGain]]]) -> Figure:
    """One row per comparison: a circle for each search, a diamond for all.

    Args:
        compared: at least one comparison, each with its searches.
    """
    most = max(len(gains) for _, gains in compared)
    height = 1.5 + (0.45 + 0.09 * most) * len(compared)
    with blank_figure(FULL, height) as figure:
        axes = figure.subplots()
        for place, (verdict, gains) in enumerate(compared):
            offsets = np.linspace(0.02, 0.38, len(gains)) if len(gains) > 1 else [0.2]
            for offset, gain in zip(offsets, gains, strict=True):
                comparison = gain.comparison
                half = [[comparison.mean - comparison.low], [comparison.high - comparison.mean]]
                axes.errorbar(
                    comparison.mean, place + offset, xerr=half, fmt="o", ms=4, lw=0.9, color=GREY
                )
            difference_of(axes, verdict, place - 0.2)
        forest(axes, [verdict for verdict, _ in compared])
        note(figure, small_print([verdict for verdict, _ in compared]))
        headline(figure, f"{most} searches, each with its own winners and fresh seeds")
    return figure
