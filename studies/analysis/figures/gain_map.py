"""The gain map."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from studies.analysis.figures.style import GREY, blank_figure, plain_ticks, words
from studies.analysis.gain_map import GainMap

__all__ = ["draw_gain_map"]


def draw_gain_map(result: GainMap) -> Figure:
    """Gain over period and amplitude; cells that are not significant are hatched."""
    with blank_figure(6.8, 4.7) as figure:
        axes = figure.subplots()
        axes.grid(visible=False)
        largest = _colour_limit(result.gain)
        norm = TwoSlopeNorm(0.0, -largest, largest)
        mesh = axes.pcolormesh(
            result.period_edges,
            result.amplitude_edges,
            result.gain.T,
            cmap="RdBu_r",
            norm=norm,
            edgecolors="white",
            linewidth=0.5,
        )
        for row, column in np.argwhere(np.isfinite(result.gain) & ~result.significant):
            axes.add_patch(_cell_patch(result, row, column, hatch="////", edgecolor=GREY))
        for row, column in np.argwhere(result.diverged):
            axes.add_patch(_cell_patch(result, row, column, facecolor="black"))
        if np.isfinite(result.gain).any():
            best = np.unravel_index(np.nanargmax(result.gain), result.gain.shape)
            axes.add_patch(
                _cell_patch(result, int(best[0]), int(best[1]), edgecolor="black", linewidth=2)
            )
        axes.set(xscale="log", yscale="log", xlabel="period T (steps)", ylabel="amplitude A")
        plain_ticks(axes)
        beyond = float(np.nanmax(np.abs(result.gain), initial=0.0)) > largest
        bar = figure.colorbar(mesh, ax=axes, extend="min" if beyond else "neither")
        bar.set_label(f"gain in {words(result.metric)}")
        bar.outline.set_visible(False)
        axes.legend(
            handles=_map_legend(result), loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.16)
        )
        axes.set_title(
            f"Gain over the best static trial ({result.static_mean:.3f}), n = {result.n} seeds"
        )
        note = "Each cell: the best trial in it. "
        if result.binned:
            note += "Exploratory: an adaptive search placed them, at few learning rates a cell."
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color=GREY)
    return figure


def _colour_limit(gain: np.ndarray) -> float:
    """Where the colours end: at the largest gain, or at most of the losses if they are larger. A
    few disasters, such as a learning rate that trained nothing, must not bleach the map."""
    known = gain[np.isfinite(gain)]
    if known.size == 0:
        return 1.0
    return max(float(known.max()), float(np.quantile(np.abs(known), 0.8)), 1e-6)


def _cell_patch(result: GainMap, row: int, column: int, **style: object) -> Rectangle:
    left, right = result.period_edges[row : row + 2]
    low, high = result.amplitude_edges[column : column + 2]
    options = {"fill": "facecolor" in style, "linewidth": 0, **style}
    return Rectangle((left, low), right - left, high - low, **options)  # type: ignore[arg-type]


def _map_legend(result: GainMap) -> list[Patch]:
    handles = [Patch(fill=False, edgecolor="black", linewidth=2, label="largest gain")]
    if bool((np.isfinite(result.gain) & ~result.significant).any()):
        label = "not significant (FDR 5%)"
        handles.append(Patch(fill=False, hatch="////", edgecolor=GREY, label=label, linewidth=0))
    if result.diverged.any():
        handles.append(Patch(facecolor="black", label="diverged"))
    return handles
