"""The figure of `make calibrate`: what each rate was, what it is, and what it may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.analysis.figures.style import GREY, blank_figure, headline, note

__all__ = ["draw_rates"]

_BEFORE, _AFTER = "#D55E00", "#0072B2"


def draw_rates(content: dict[str, Any]) -> Figure:
    """Three panels, one for each way to be misled.

    Args:
        content: of `rates.json`.
    """
    with blank_figure(10.5, 4.2) as figure:
        rounds, searches, maps = figure.subplots(1, 3, width_ratios=[1, 1, 1])
        _rounds(rounds, content["rates"])
        _searches(searches, content["searches"])
        _maps(maps, content["maps"])
        for axes in (rounds, searches, maps):
            axes.set_ylim(0, None)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        headline(figure, "How often nothing is called better")
        text = (
            "Circles: by t tests. Squares: as it is. Lines: what it may be, and three standard errors of a simulation above. Left: the worst scenario "
            "of each number of pairs, in which up to a tenth of the networks die; squares are claims "
            "of all networks, diamonds of those that train. Middle: two arms that do not differ but for the luck of their search, "
            "20 fresh seeds. Right: any significant cell in a map of nothing."
        )
        note(figure, text)
    return figure


def _rounds(axes: Axes, rates: list[dict[str, Any]]) -> None:
    sizes = sorted({each["n"] for each in rates})
    for key, colour, marker in (
        ("t_better", _BEFORE, "o"),
        ("false_better", _AFTER, "s"),
        ("false_better_of_trained", _AFTER, "D"),
    ):
        worst = [max(each[key] for each in rates if each["n"] == n) for n in sizes]
        axes.plot(sizes, worst, color=colour, marker=marker)
    _allowed(axes, 0.025, rates[0]["repeats"])
    axes.set_xscale("log")
    axes.set_xticks(sizes, ["" if n == 24 else str(n) for n in sizes])  # it would touch 30
    axes.minorticks_off()
    axes.set_xlabel("pairs")
    axes.set_title("Networks that die")


def _searches(axes: Axes, rates: list[dict[str, Any]]) -> None:
    lucks = sorted({each["luck"] for each in rates})
    places = np.arange(len(lucks))
    for key, colour, marker in (
        ("one_better", _BEFORE, "o"),
        ("better", _AFTER, "s"),
        ("better_of_trained", _AFTER, "D"),
    ):
        worst = [max(each[key] for each in rates if each["luck"] == luck) for luck in lucks]
        axes.plot(places, worst, color=colour, marker=marker)
    _allowed(axes, 0.025, rates[0]["repeats"])
    axes.set_xticks(places, [f"{luck:g}" for luck in lucks])
    axes.set_xlabel("luck of a search / spread of seeds")
    axes.set_title("The luck of the search")


def _maps(axes: Axes, rates: list[dict[str, Any]]) -> None:
    names = [each["scenario"].replace("_", " ") for each in rates]
    places = np.arange(len(rates))
    for key, colour, marker in (("by_t", _BEFORE, "o"), ("by_flips", _AFTER, "s")):
        axes.plot(places, [each[key] for each in rates], marker, color=colour)
    _allowed(axes, 0.05, rates[0]["repeats"])
    axes.set_xticks(places, names, rotation=90, fontsize=6)
    axes.set_title("Maps of nothing")


def _allowed(axes: Axes, rate: float, repeats: int) -> None:
    """What a rate may be, and what a simulation may show of it."""
    axes.axhline(rate, color=GREY, lw=1)
    axes.axhline(rate + 3 * (rate * (1 - rate) / repeats) ** 0.5, color=GREY, lw=1, ls=":")
