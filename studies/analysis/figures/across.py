"""Several studies side by side."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.analysis.across_studies import AcrossRow
from studies.analysis.figures.style import (
    GREY,
    beside,
    headline,
    note,
    panel_figure,
    thousands,
)

__all__ = ["draw_across"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"


def draw_across(rows: Sequence[AcrossRow]) -> Figure:
    """Every comparison with its interval, and the gains against the size of the network.

    Args:
        rows: at least one.
    """
    colours = dict(zip(dict.fromkeys(row.data for row in rows), _COLOURS * len(rows), strict=False))
    markers = dict(
        zip(dict.fromkeys(row.study for row in rows), _MARKERS * len(rows), strict=False)
    )
    sized = [row for row in rows if row.parameters_per_sample is not None]
    height = max(3.2, 0.9 + 0.3 * len(rows))
    with panel_figure(2 if sized else 1, height, in_a_row=1) as (figure, panels):
        _forest(panels[0], rows, colours, markers)
        if sized:
            _against_size(panels[1], sized, colours, markers)
        published = all(row.is_published for row in rows)
        what = "Gain of the dynamical loss" if published else "Gains over the reference"
        headline(figure, f"{what} across studies")
        note(figure, _small_print(rows))
    return figure


def _small_print(rows: Sequence[AcrossRow]) -> str:
    text = "Mean and 95% interval, paired by seed, each arm at its own setting."
    if any(row.fresh for row in rows):
        text += " Filled: fresh seeds, test set."
    if not all(row.fresh for row in rows):
        text += " Open: held-out search seeds, validation set."
    if any(row.warnings for row in rows):
        text += " Warnings are listed in across.csv and in each study's report."
    return text


def _forest(
    axes: Axes, rows: Sequence[AcrossRow], colours: dict[str, str], markers: dict[str, str]
) -> None:
    for place, row in enumerate(rows):
        _point(axes, row, row.gain, place, colours[row.data], markers[row.study], along="x")
        beside(
            axes, place, f"n = {row.n}{'' if row.unit == 'seeds' else ' searches'}, {row.verdict}"
        )
    axes.axvline(0, color="black", lw=0.9)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(" or ".join(dict.fromkeys(row.gain_name for row in rows)))


def _against_size(
    axes: Axes, rows: Sequence[AcrossRow], colours: dict[str, str], markers: dict[str, str]
) -> None:
    for study in dict.fromkeys(row.study for row in rows):
        series = sorted(
            (row for row in rows if row.study == study),
            key=lambda row: row.parameters_per_sample or 0,
        )
        colour = colours[series[0].data]
        sizes = [row.parameters_per_sample for row in series]
        axes.plot(sizes, [row.gain for row in series], color=colour, lw=1.2, alpha=0.6)  # type: ignore[arg-type]
        for row in series:
            at = row.parameters_per_sample or 0.0
            _point(axes, row, at, row.gain, colour, markers[study], along="y")
    axes.axhline(0, color="black", lw=0.9)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(thousands))
    axes.set(xlabel="parameters per training sample", ylabel="gain")
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    handles = [
        mpl.lines.Line2D([], [], color=colour, lw=3, label=data) for data, colour in colours.items()
    ]
    handles += [
        mpl.lines.Line2D([], [], color=GREY, marker=markers[study], ls="", label=study)
        for study in dict.fromkeys(row.study for row in rows)
    ]
    axes.legend(handles=handles, loc="best", fontsize=8)


def _point(
    axes: Axes, row: AcrossRow, x: float, y: float, colour: str, marker: str, *, along: str
) -> None:
    half = [[row.gain - row.low], [row.high - row.gain]]
    axes.errorbar(
        x,
        y,
        xerr=half if along == "x" else None,
        yerr=half if along == "y" else None,
        fmt=marker,
        color=colour,
        mfc=colour if row.fresh else "white",
        capsize=3,
        ms=6,
        lw=1.3,
    )
