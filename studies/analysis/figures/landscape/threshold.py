"""Where instabilities begin, against learning rate and size; and the final sharpness of static
runs."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynloss_core import keys
from studies.analysis.figures.style import (
    GREY,
    arm_styles,
    headline,
    note,
    panel_figure,
    plain_axis,
)
from studies.analysis.landscape.threshold import Threshold

__all__ = ["draw_threshold"]

_FATES = ((True, "#0072B2", "o", "fails"), (False, "#009E73", "^", "learns"))


def draw_threshold(threshold: Threshold) -> Figure:
    """lambda_max at the onsets against the learning rate; k at each setting; and the level at which
    static runs end, against what they learned."""
    ratios = [1.1, 0.9, 1.1] if threshold.shows_static else [1.1, 0.9]
    with panel_figure(len(ratios), 3.4, ratios=ratios) as (figure, panels):
        _over_rates(panels[0], threshold)
        _over_settings(panels[1], threshold)
        text = (
            "Each dot is a run: λmax of the dynamical loss at the onset of an instability, median "
            "over its instabilities; k: geometric mean over runs, 95% t interval.\n"
            "Dashed: the stability bound of the optimiser on a quadratic."
        )
        if threshold.shows_static:
            _static(panels[2], threshold)
            text += " Last panel: median over the last tenth of each static run."
        headline(figure, threshold.headline())
        note(figure, text)
    return figure


def _over_rates(axes: Axes, threshold: Threshold) -> None:
    runs, styles = threshold.runs, arm_styles(threshold.arms)
    values, several = sorted(runs["value"].unique()), len(threshold.bounds) > 1
    colours = mpl.colormaps["viridis"](np.linspace(0.05, 0.9, len(values)))
    for index, (value, colour) in enumerate(zip(values, colours, strict=True)):
        shift = 1.03 ** (index - (len(values) - 1) / 2)  # so that points do not hide each other
        for arm in threshold.arms:
            own = runs[(runs["value"] == value) & (runs[keys.ARM] == arm)]
            label = f"{value:g}" if threshold.parameter and arm == threshold.arms[0] else None
            level = own["k"] / own["bound"] if several else own["threshold"]
            axes.scatter(
                own[keys.LEARNING_RATE] * shift, level, s=13, color=colour, alpha=0.75,
                label=label, lw=0, marker=styles[arm].marker,
            )  # fmt: skip
    ends = np.array([runs[keys.LEARNING_RATE].min() / 1.2, runs[keys.LEARNING_RATE].max() * 1.2])
    bound = [1.0, 1.0] if several else threshold.bounds[0] / ends
    axes.plot(ends, bound, color="black", ls="--", lw=1.0)
    axes.set_xscale("log")
    plain_axis(axes.xaxis)
    if not several:
        axes.set_yscale("log")
        plain_axis(axes.yaxis)
    axes.set_xlabel("learning rate")
    onset = "at the onset of an instability"
    over = "$λ_{max}$ × learning rate / bound,\n" if several else "$λ_{max}$ "
    axes.set_ylabel(over + onset)
    axes.set_title("Threshold against learning rate")
    if threshold.parameter:
        axes.legend(title=threshold.name, fontsize=8, title_fontsize=8)


def _over_settings(axes: Axes, threshold: Threshold) -> None:
    """k of each arm beside the bound, which is a line if it is the same for all."""
    values = sorted({setting.value or 0.0 for setting in threshold.settings})
    styles, several = arm_styles(threshold.arms), len(threshold.arms) > 1
    one_bound = len(threshold.bounds) == 1
    if one_bound:
        axes.axhline(threshold.bounds[0], color="black", ls="--", lw=1.0)
    for number, arm in enumerate(threshold.arms):
        own = [setting for setting in threshold.settings if setting.arm == arm]
        side = 0.16 * (number - (len(threshold.arms) - 1) / 2)
        places = [values.index(setting.value or 0.0) + side for setting in own]
        ks = np.array([setting.k for setting in own])
        ends = np.array([[setting.k - setting.low, setting.high - setting.k] for setting in own]).T
        axes.errorbar(
            places, ks, ends, fmt=styles[arm].marker, color=styles[arm].colour, capsize=4, ms=5,
            label=arm if several else None,
        )  # fmt: skip
        if not one_bound:
            for place, estimate in zip(places, own, strict=True):
                axes.hlines(
                    estimate.bound, place - 0.2, place + 0.2, color="black", ls="--", lw=1.0
                )
    if threshold.parameter:
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axes.set_xlabel(threshold.name)
    else:
        axes.set_xticks([])
    axes.set_xlim(-0.5, len(values) - 0.5)
    low = min(min(setting.low, setting.bound) for setting in threshold.settings)
    high = max(max(setting.high, setting.bound) for setting in threshold.settings)
    axes.set_ylim(0.95 * low, 1.05 * high)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("k")
    axes.set_title(f"k at each {threshold.name}" if threshold.name else "k")
    if several:
        axes.legend(fontsize=8)


def _static(axes: Axes, threshold: Threshold) -> None:
    axes.axvline(1.0, color="black", ls="--", lw=1.0)
    for fails, colour, marker, label in _FATES:
        own = threshold.static[
            (threshold.static["fails"] == fails) & threshold.static["level"].notna()
        ]
        axes.scatter(
            own["level"] / own["bound"], own[keys.ACCURACY], s=16, marker=marker, color=colour,
            alpha=0.6, lw=0, label=f"{label} (n = {len(own)})",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set_xlabel("$λ_{max}$ × learning rate at the end / bound")
    axes.set_ylabel("training accuracy")
    axes.set_title("Static runs")
    axes.legend(loc="lower left", fontsize=8, labelcolor=GREY)
