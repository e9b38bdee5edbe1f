"""Where instabilities begin, over learning rates and sizes; and how sharp static runs end."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynloss_core import keys
from studies.analysis.figures.style import GREY, blank_figure, headline, note, plain_ticks
from studies.analysis.landscape.threshold import BOUND, Threshold

__all__ = ["draw_threshold"]

_FATES = ((True, "#0072B2", "o", "fails"), (False, "#009E73", "^", "learns"))


def draw_threshold(found: Threshold) -> Figure:
    """lambda_max before the instabilities over the learning rate; k at each size; and the level at
    which static runs end against what they learned."""
    ratios = [1.1, 0.9, 1.1] if found.shows_static else [1.1, 0.9]
    with blank_figure(13.2 if found.shows_static else 9.0, 4.4) as figure:
        panels = figure.subplots(1, len(ratios), width_ratios=ratios)
        _over_rates(panels[0], found)
        _over_sizes(panels[1], found)
        text = (
            "A dot a run: the median over its instabilities of the last λmax of the dynamical loss "
            "before each; k: geometric mean over runs, 95% t interval.\n"
            "Dashed: 2, gradient descent's bound on a quadratic."
        )
        if found.shows_static:
            _static(panels[2], found)
            text += " Right: the median over the last tenth of each static run."
        headline(figure, found.headline())
        note(figure, text)
    return figure


def _over_rates(axes: Axes, found: Threshold) -> None:
    runs = found.runs
    values = sorted(runs["size"].unique())
    colours = mpl.colormaps["viridis"](np.linspace(0.05, 0.9, len(values)))
    for index, (value, colour) in enumerate(zip(values, colours, strict=True)):
        own = runs[runs["size"] == value]
        shift = 1.03 ** (index - (len(values) - 1) / 2)  # so that sizes do not hide each other
        label = f"{value:g}" if found.parameter else None
        axes.scatter(
            own[keys.LEARNING_RATE] * shift, own["threshold"], s=13, color=colour, alpha=0.75,
            label=label, lw=0,
        )  # fmt: skip
    ends = np.array([runs[keys.LEARNING_RATE].min() / 1.2, runs[keys.LEARNING_RATE].max() * 1.2])
    axes.plot(ends, BOUND / ends, color="black", ls="--", lw=1.0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_ticks(axes)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("$λ_{max}$ before an instability")
    axes.set_title("Threshold over learning rate")
    if found.parameter:
        axes.legend(title=found.parameter.rpartition(".")[2], fontsize=8, title_fontsize=8)


def _over_sizes(axes: Axes, found: Threshold) -> None:
    values = [each.size if each.size is not None else 1.0 for each in found.sizes]
    ks = np.array([each.k for each in found.sizes])
    ends = np.array([[each.k - each.low, each.high - each.k] for each in found.sizes]).T
    axes.axhline(BOUND, color="black", ls="--", lw=1.0)
    axes.errorbar(values, ks, ends, fmt="o", color="#D55E00", capsize=4, ms=5)
    if found.parameter:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(mpl.ticker.FixedLocator(values))
        axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.set_xlabel(found.parameter.rpartition(".")[2])
    else:
        axes.set_xticks([])
    low, high = (ks - ends[0]).min(), (ks + ends[1]).max()
    axes.set_ylim(min(0.95 * BOUND, 0.97 * low), max(1.05 * BOUND, 1.03 * high))
    axes.set_ylabel("k")
    axes.set_title("k at each size" if found.parameter else "k")


def _static(axes: Axes, found: Threshold) -> None:
    axes.axvline(BOUND, color="black", ls="--", lw=1.0)
    for fails, colour, marker, label in _FATES:
        own = found.static[(found.static["fails"] == fails) & found.static["level"].notna()]
        axes.scatter(
            own["level"], own[keys.ACCURACY], s=16, marker=marker, color=colour, alpha=0.6, lw=0,
            label=f"{label} (n = {len(own)})",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set_xlabel("$λ_{max}$ × learning rate at the end")
    axes.set_ylabel("training accuracy")
    axes.set_title("Static runs")
    axes.legend(loc="lower left", fontsize=8, labelcolor=GREY)
