"""The gain map, one panel per baseline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from dynloss_core import keys
from studies.analysis.figures.style import (
    GREY,
    headline,
    hover,
    is_narrow,
    note,
    panel_figure,
    plain_axis,
    words,
)
from studies.analysis.gains.gain_map import Gain, GainMap

__all__ = ["draw_gain_map"]

_LABELS = {
    keys.PERIOD: "period T (steps)",
    keys.AMPLITUDE: "amplitude A",
    keys.LEARNING_RATE: "learning rate",
}
_BOUNDARY = "#1A1A1A"
_MISSING = "#BDBDBD"  # a grey outside the colour map of gains, which is white at 0
_NO_DATA: dict[str, Any] = {"facecolor": _MISSING, "edgecolor": "#7A7A7A", "hatch": ".."}
_DIVERGED: dict[str, Any] = {"facecolor": "black", "edgecolor": "#8A8A8A", "hatch": "xx"}


def draw_gain_map(result: GainMap) -> Figure:
    """Gain over each baseline on one colour scale. Cells that are not significant are hatched,
    diverged ones black with a cross, those without a comparison grey with dots, unlike a gain of 0;
    lines bound the region where the dynamical loss wins."""
    panels = len(result.gains)
    with panel_figure(panels, 3.4, beside=1.5, sharey=True) as (figure, axes):
        largest = _colour_limit(np.concatenate([gain.gain.ravel() for gain in result.gains]))
        norm = TwoSlopeNorm(0.0, -largest, largest)
        for place, gain in zip(axes, result.gains, strict=True):
            mesh = _draw_gain(place, result, gain, norm)
        for place in axes if is_narrow() else axes[:1]:
            place.set_ylabel(_LABELS.get(result.y, words(result.y)))
        beyond = max(float(np.nanmax(np.abs(gain.gain), initial=0.0)) for gain in result.gains)
        bar = figure.colorbar(
            mesh,
            ax=axes,
            extend="min" if beyond > largest else "neither",
            location="bottom" if is_narrow() else "right",
            aspect=30,
        )
        bar.set_label(result.gain_name)
        bar.outline.set_visible(False)
        columns = 1 if is_narrow() else 1 + panels
        handles = _legend(result)
        figure.legend(handles=handles, loc="outside lower left", ncols=columns, fontsize=9)
        headline(figure, result.headline())
        note(figure, " ".join(result.notes()), legend_rows=math.ceil(len(handles) / columns))
    return figure


def _draw_gain(axes: Axes, result: GainMap, gain: Gain, norm: TwoSlopeNorm) -> QuadMesh:
    axes.grid(visible=False)
    axes.set_facecolor(_MISSING)
    mesh = axes.pcolormesh(
        result.x_edges,
        result.y_edges,
        gain.gain.T,
        cmap="RdBu_r",
        norm=norm,
        edgecolors="white",
        linewidth=0.3,
    )
    for row, column in np.argwhere(result.unclear(gain)):
        axes.add_patch(_cell_patch(result, row, column, hatch="////", edgecolor=GREY))
    for row, column in np.argwhere(result.missing(gain)):
        axes.add_patch(_cell_patch(result, row, column, **_NO_DATA))
    for row, column in np.argwhere(result.diverged):
        axes.add_patch(_cell_patch(result, row, column, **_DIVERGED))
    for row, column in np.ndindex(gain.gain.shape):
        ends = (*result.x_edges[row : row + 2], *result.y_edges[column : column + 2])
        hover(axes, ends, result.cell_in_words(gain, (row, column)))
    lines = _boundary(result, gain.wins)
    axes.add_collection(LineCollection(lines, colors=_BOUNDARY, linewidths=1.6), autolim=False)
    best = gain.best()
    if best is not None and gain.gain[best] > 0:
        axes.plot(
            gain.best_x[best],
            gain.best_y[best],
            marker="*",
            ms=13,
            color="#F0E442",
            mec="black",
            mew=0.8,
            ls="none",
            clip_on=False,  # the best cell may lie at the rim
            zorder=5,
        )
    axes.set(xscale="log", yscale="log", xlabel=_LABELS.get(result.x, words(result.x)))
    axes.set_xlim(result.x_edges[0], result.x_edges[-1])
    axes.set_ylim(result.y_edges[0], result.y_edges[-1])
    for axis in (axes.xaxis, axes.yaxis):
        plain_axis(axis)
    axes.set_title(_baseline_title(result.pair.reference, gain), fontsize=9 if is_narrow() else 10)
    return mesh


def _baseline_title(reference: str, gain: Gain) -> str:
    lines = {
        "own best": f"over {reference} at its own best learning rate",
        "same learning rate": f"over {reference} at the same learning rate",
    }
    title = lines[gain.baseline]
    if gain.static_mean is not None:
        title += f"\n(learning rate {gain.static_learning_rate:.3g}: {gain.static_mean:.3f})"
    return title


def _boundary(result: GainMap, wins: np.ndarray) -> list[list[tuple[float, float]]]:
    """Edges between cells that win and cells that do not, and around winning cells at the rim."""
    x, y = result.x_edges, result.y_edges
    padded = np.pad(wins, 1)
    lines = []
    for row, column in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        lines.append([(x[row], y[column]), (x[row], y[column + 1])])
    for row, column in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]):
        lines.append([(x[row], y[column]), (x[row + 1], y[column])])
    return lines


def _colour_limit(gain: np.ndarray) -> float:
    """The end of the colour scale: the largest gain, or a size that covers most of the losses if
    those are larger. A few disasters, such as a learning rate at which nothing learns, must not
    bleach the map."""
    known = gain[np.isfinite(gain)]
    if known.size == 0:
        return 1.0
    return max(float(known.max()), float(np.quantile(np.abs(known), 0.8)), 1e-6)


def _cell_patch(result: GainMap, row: int, column: int, **style: object) -> Rectangle:
    left, right = result.x_edges[row : row + 2]
    low, high = result.y_edges[column : column + 2]
    options = {"fill": "facecolor" in style, "linewidth": 0, **style}
    return Rectangle((left, low), right - left, high - low, **options)  # type: ignore[arg-type]


def _legend(result: GainMap) -> list[object]:
    handles: list[object] = []
    if any(gain.wins.any() for gain in result.gains):
        label = "boundary of the winning region"
        handles.append(Line2D([], [], color=_BOUNDARY, lw=1.6, label=label))
    if any(np.nanmax(gain.gain, initial=0.0) > 0 for gain in result.gains):
        star = "best trial of the best cell" if result.binned else "largest gain"
        handles.append(
            Line2D([], [], marker="*", ms=12, color="#F0E442", mec="black", ls="", label=star)
        )
    if any(result.unclear(gain).any() for gain in result.gains):
        label = "not significant (5% over all cells)"
        handles.append(Patch(fill=False, hatch="////", edgecolor=GREY, label=label, linewidth=0))
    if result.diverged.any():
        handles.append(Patch(**_DIVERGED, label="diverged", linewidth=0))
    if (missing := result.missing_name()) is not None:
        handles.append(Patch(**_NO_DATA, label=missing, linewidth=0))
    return handles
