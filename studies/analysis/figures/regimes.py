"""The under- and overparametrized regimes over the size of the network."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynloss_core import keys
from studies.analysis.figures.style import (
    ARM_COLOURS,
    GREY,
    headline,
    note,
    panel_figure,
    thousands,
    words,
)
from studies.analysis.gains.interpolation import INTERPOLATION_SHARE
from studies.analysis.gains.regimes import Regimes

__all__ = ["draw_regimes"]

_GAIN_COLOURS = ("#CC79A7", "#009E73")  # training, generalisation
_MARKERS = {keys.STATIC: "s", keys.DYNAMICAL: "o"}


def draw_regimes(result: Regimes) -> Figure:
    """Accuracies of both arms and the gain, over size; the interpolation threshold is marked."""
    with panel_figure(3, 3.5, sharex=True) as (figure, panels):
        sizes = np.array([size.value for size in result.sizes])
        for which, axes in enumerate(panels[:2]):
            _means(axes, result, sizes, which)
        if result.attainable < 1:
            panels[0].axhline(result.attainable, color=GREY, lw=0.8, ls=":")
            panels[0].annotate(
                f"attainable: {result.attainable:.4f}",
                (0.02, result.attainable),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                fontsize=8,
                color=GREY,
            )
        _gains(panels[2], result, sizes)
        for axes in panels:
            _over_size(axes, result, sizes)
        panels[0].legend(loc="best")
        low, high = panels[2].get_ylim()
        panels[2].set_ylim(low, high + 0.2 * (high - low))  # room for the legend
        panels[2].legend(loc="upper right")
        headline(figure, result.headline())
        pair = "search" if result.searches else "seed"
        text = f"Mean and 95% t interval over {result.seeds} per size, gains paired by {pair}."
        if result.threshold is not None:
            text += (
                " Dashed: interpolation threshold, from which on at least "
                f"{INTERPOLATION_SHARE:.0%} of the {result.pair.reference} networks fit their "
                "training data."
            )
        note(figure, f"{text} Open: no significant gain, at {result.level}.")
    return figure


def _means(axes: Axes, result: Regimes, sizes: np.ndarray, which: int) -> None:
    """Both arms in one metric."""
    arms = {"reference": keys.STATIC, "arm": keys.DYNAMICAL}  # each in the colour of its role
    for role, like in arms.items():
        ends = [f"{role}_{end}" for end in ("mean", "low", "high")]
        triples = np.array(
            [[getattr(size.gains[which], end) for end in ends] for size in result.sizes]
        )  # (sizes, 3)
        _series(axes, sizes, triples, ARM_COLOURS[like], _MARKERS[like], getattr(result.pair, role))
    metric = words(result.metrics[which])
    axes.set_ylabel(metric)
    axes.set_title(metric.capitalize())


def _gains(axes: Axes, result: Regimes, sizes: np.ndarray) -> None:
    """The gain in both metrics; open where it is not significant."""
    axes.axhline(0, color="black", lw=0.9)
    for which, (colour, marker) in enumerate(zip(_GAIN_COLOURS, "D^", strict=True)):
        gains, metric = [size.gains[which] for size in result.sizes], result.metrics[which]
        triples = np.array([gain.gain for gain in gains])
        at = sizes * (0.97 if which == 0 else 1.03)
        falls = "" if keys.higher_is_better(metric) else " (its fall)"
        _series(axes, at, triples, colour, marker, words(metric) + falls)
        unclear = np.array([not (gain.wins or gain.loses) for gain in gains])
        axes.plot(
            at[unclear], triples[unclear, 0], marker, mfc="white", mec=colour, ls="", zorder=4
        )
    arm, reference = result.pair
    losses = any(not keys.higher_is_better(metric) for metric in result.metrics)
    axes.set_ylabel(f"gain of {result.pair.losses[0]}" if losses else f"gain: {arm} − {reference}")
    axes.set_title("Gain")


def _series(
    axes: Axes, sizes: np.ndarray, triples: np.ndarray, colour: str, marker: str, label: str
) -> None:
    half = np.abs(triples[:, 1:].T - triples[:, 0])
    axes.errorbar(
        sizes,
        triples[:, 0],
        half,
        color=colour,
        marker=marker,
        ms=5,
        lw=1.4,
        capsize=3,
        label=label,
    )


def _over_size(axes: Axes, result: Regimes, sizes: np.ndarray) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(mpl.ticker.FixedLocator(list(sizes)))
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(thousands))
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(result.parameter.rpartition(".")[2])
    ratios = [size.ratio for size in result.sizes]
    if all(ratio is not None for ratio in ratios):
        top = axes.secondary_xaxis("top")
        top.xaxis.set_major_locator(mpl.ticker.FixedLocator(list(sizes)))
        labels = [f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}" for ratio in ratios if ratio]
        top.xaxis.set_major_formatter(mpl.ticker.FixedFormatter(labels))
        top.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        top.tick_params(axis="x", labelsize=7, colors=GREY)
        top.set_xlabel("parameters per sample", fontsize=8, color=GREY)
        top.spines["top"].set_visible(False)
    if result.threshold is not None:
        axes.axvline(result.threshold, color="black", lw=1.0, ls="--")
