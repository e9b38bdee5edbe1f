"""How sharp the minima are that both arms end in, over size, and against validation accuracy."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynloss_core import keys
from studies.analysis.figures.style import ARM_COLOURS, blank_figure, headline, note, plain_axis
from studies.analysis.landscape.minima import Minima

__all__ = ["draw_minima"]

_NAMES = {
    keys.FINAL_HESSIAN_LAMBDA_MAX: "Final $λ_{max}$",
    keys.FINAL_HESSIAN_TRACE: "Final trace of the Hessian",
}
_MARKERS = {keys.STATIC: "s", keys.DYNAMICAL: "o"}


def draw_minima(found: Minima) -> Figure:
    """Final lambda_max and trace of every run of both arms over size, with geometric means; and
    validation accuracy against lambda_max."""
    with blank_figure(14.4, 4.6) as figure:
        panels = figure.subplots(1, 3)
        for axes, metric in zip(panels[:2], _NAMES, strict=True):
            _over_sizes(axes, found, metric)
        _against_validation(panels[2], found.runs)
        headline(figure, found.headline())
        note(
            figure,
            "Hessian of the static loss on the training set after the last step; a dot a network, "
            "bars: geometric means. Ratios: dynamical over static, in pairs, with 95% t intervals "
            f"on the logarithm; {found.pairs}{' a size' if found.name else ''}.",
        )
    return figure


def _over_sizes(axes: Axes, found: Minima, metric: str) -> None:
    for place, size in enumerate(found.sizes):
        rows = found.runs
        if found.parameter is not None:
            rows = rows[rows[found.parameter] == size.size]
        ratio = next(each for each in size.ratios if each.metric == metric)
        for arm, side in ((keys.STATIC, -0.17), (keys.DYNAMICAL, 0.17)):
            own = rows[rows[keys.ARM] == arm][metric].dropna()
            spread = place + side + np.linspace(-0.09, 0.09, len(own))
            axes.scatter(
                spread, own, s=12, color=ARM_COLOURS[arm], marker=_MARKERS[arm], alpha=0.5, lw=0,
                label=arm if place == 0 else None,
            )  # fmt: skip
            mean = getattr(ratio, arm)
            axes.hlines(mean, place + side - 0.13, place + side + 0.13, ARM_COLOURS[arm], lw=2.2)
        axes.annotate(
            f"× {ratio.value:.2f}\n{ratio.low:.2f}–{ratio.high:.2f}",
            (place, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            fontsize=7,
        )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.18)  # room for the ratios
    plain_axis(axes.yaxis)
    axes.grid(visible=False, axis="x")
    if found.parameter is None:
        axes.set_xticks([])
    else:
        axes.set_xticks(range(len(found.sizes)), [f"{size.size:g}" for size in found.sizes])
        axes.set_xlabel(found.parameter.rpartition(".")[2])
    axes.set_title(_NAMES[metric])
    axes.legend(loc="lower left", fontsize=8)


def _against_validation(axes: Axes, runs: pd.DataFrame) -> None:
    for arm, marker in _MARKERS.items():
        own = runs[runs[keys.ARM] == arm]
        axes.scatter(
            own[keys.FINAL_HESSIAN_LAMBDA_MAX], own[keys.VALIDATION_ACCURACY], s=14, marker=marker,
            color=ARM_COLOURS[arm], alpha=0.5, lw=0, label=arm,
        )  # fmt: skip
    axes.set_xscale("log")
    plain_axis(axes.xaxis)
    axes.set_xlabel("final $λ_{max}$")
    axes.set_ylabel("validation accuracy")
    axes.set_title("Sharpness and generalisation")
    axes.legend(loc="lower left", fontsize=8)
