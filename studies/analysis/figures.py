"""Figures, drawn from results alone. Colours are safe for colour-blind eyes (Okabe and Ito)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from dynloss_core import keys
from studies.analysis.gain_map import GainMap
from studies.analysis.learning_curves import LearningCurve
from studies.analysis.verdict import Verdict

__all__ = ["ARM_COLOURS", "draw_gain_map", "draw_learning_curves", "draw_verdict"]

ARM_COLOURS = {keys.DYNAMICAL: "#D55E00", keys.STATIC: "#0072B2"}
_GREY = "#6B6B6B"

_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "figure.dpi": 150,
    "savefig.bbox": "tight",
    "svg.hashsalt": "dynloss",
}


def draw_verdict(pairs: pd.DataFrame, verdict: Verdict) -> Figure:
    """Each seed's pair of networks, and the distribution of their differences.

    Args:
        pairs: a row a seed, a column an arm (see `verdict.paired_by_seed`).
        verdict: the comparison of them.
    """
    metric = _words(verdict.metric)
    with _figure(8.4, 3.9) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
        spread = np.linspace(-0.07, 0.07, len(pairs))
        places = {keys.STATIC: 0, keys.DYNAMICAL: 1}
        ends = [pairs[arm].to_numpy() for arm in places]
        left.plot([spread, 1 + spread], ends, color=_GREY, alpha=0.25, linewidth=0.8, zorder=1)
        for arm, place in places.items():
            summary = verdict.static if arm == keys.STATIC else verdict.dynamical
            left.scatter(place + spread, pairs[arm], s=20, color=ARM_COLOURS[arm], alpha=0.75)
            side = -0.24 if arm == keys.STATIC else 0.24
            left.errorbar(
                place + side, summary.mean, summary.sd, fmt="o", color=ARM_COLOURS[arm], capsize=4
            )
            left.annotate(
                f"{summary.mean:.3f}\n± {summary.sd:.3f}",
                (place + 1.35 * side, summary.mean),
                ha="right" if side < 0 else "left",
                va="center",
                color=ARM_COLOURS[arm],
            )
        left.set_xticks(list(places.values()), list(places))
        left.set_xlim(-0.85, 1.85)
        left.grid(visible=False, axis="x")
        left.set_ylabel(metric)
        left.set_title("Each seed, both arms (mean ± sd)")

        difference = (pairs[keys.DYNAMICAL] - pairs[keys.STATIC]).to_numpy()
        right.axhline(0, color="black", linewidth=0.9)
        right.scatter(spread, difference, s=20, color=_GREY, alpha=0.7)
        half = [[verdict.difference - verdict.low], [verdict.high - verdict.difference]]
        right.errorbar(0.22, verdict.difference, half, fmt="D", color="black", capsize=5, ms=5)
        right.annotate(
            verdict.interval().replace(" ", "\n", 1),
            (0.27, verdict.difference),
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
        )
        right.set_xlim(-0.2, 0.72)
        right.set_xticks([])
        right.set_ylabel(f"{metric}: dynamical − static")
        right.set_title(f"Difference, {verdict.level:.0%} interval (n = {verdict.n})")
        figure.suptitle(_headline(verdict), x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure


def draw_gain_map(result: GainMap) -> Figure:
    """Gain over period and amplitude; cells that are not significant are hatched."""
    with _figure(6.8, 4.7) as figure:
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
            axes.add_patch(_cell_patch(result, row, column, hatch="////", edgecolor=_GREY))
        for row, column in np.argwhere(result.diverged):
            axes.add_patch(_cell_patch(result, row, column, facecolor="black"))
        if np.isfinite(result.gain).any():
            best = np.unravel_index(np.nanargmax(result.gain), result.gain.shape)
            axes.add_patch(
                _cell_patch(result, int(best[0]), int(best[1]), edgecolor="black", linewidth=2)
            )
        axes.set(xscale="log", yscale="log", xlabel="period T (steps)", ylabel="amplitude A")
        _plain_ticks(axes)
        beyond = float(np.nanmax(np.abs(result.gain), initial=0.0)) > largest
        bar = figure.colorbar(mesh, ax=axes, extend="min" if beyond else "neither")
        bar.set_label(f"gain in {_words(result.metric)}")
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
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color=_GREY)
    return figure


def draw_learning_curves(
    panels: Sequence[Sequence[LearningCurve]], *, tail_start: int | None = None
) -> Figure:
    """Learning curves of the arms, a panel a metric.

    Args:
        panels: curves of each panel.
        tail_start: earliest step from which no oscillation is left; shaded.
    """
    with _figure(4.3 * len(panels), 3.7) as figure:
        for axes, curves in zip(
            np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True
        ):
            for curve in curves:
                colour = ARM_COLOURS[curve.arm]
                label = f"{curve.arm} (n = {curve.n})"
                axes.plot(curve.steps, curve.mean, color=colour, label=label)
                axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.2, lw=0)
            if tail_start is not None:
                end = max(curve.steps[-1] for curve in curves)
                axes.axvspan(tail_start, end, color="black", alpha=0.06, lw=0, label="static tail")
            metric = _words(curves[0].metric)
            if curves[0].metric.endswith("loss"):
                axes.set_yscale("log")
                metric += " (unweighted, geometric mean)"
            axes.set(xlabel="step", ylabel=metric)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(_thousands))
            axes.set_title(_words(curves[0].metric).capitalize())
        axes.legend(loc="best")
        figure.suptitle(
            "Winners of both arms on fresh seeds: mean and 95% interval",
            x=0.01,
            ha="left",
            fontsize=12,
            fontweight="bold",
        )
    return figure


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """A figure in inches, in the suite's style, without pyplot's global state."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _headline(verdict: Verdict) -> str:
    claims = {
        "better": "The dynamical loss is better",
        "worse": "The dynamical loss is worse",
        "undecided": "Undecided",
    }
    return f"{claims[verdict.outcome]} on fresh seeds, each arm at its own best"


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
        handles.append(Patch(fill=False, hatch="////", edgecolor=_GREY, label=label, linewidth=0))
    if result.diverged.any():
        handles.append(Patch(facecolor="black", label="diverged"))
    return handles


def _plain_ticks(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(mpl.ticker.FuncFormatter(_thousands))
        axis.set_minor_locator(mpl.ticker.NullLocator())


def _thousands(value: float, _: int | None = None) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 10 or value == 0 else f"{value:g}"


def _words(metric: str) -> str:
    return metric.replace("_", " ")
