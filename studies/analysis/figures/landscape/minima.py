"""The sharpness of the minima in which both arms end, against size and validation accuracy."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynloss_core import keys
from studies.analysis.figures.style import arm_styles, headline, note, panel_figure, plain_axis
from studies.analysis.landscape.minima import Minima

__all__ = ["draw_minima"]

_MATCHED = " Second ratio: at equal training loss, the larger final loss of the pair."

_NAMES = {
    keys.FINAL_HESSIAN_LAMBDA_MAX: "Final $λ_{max}$",
    keys.FINAL_HESSIAN_TRACE: "Final trace of the Hessian",
}


def draw_minima(minima: Minima) -> Figure:
    """Final lambda_max and trace of every run of both arms against size, with geometric means; and
    validation accuracy against lambda_max."""
    with panel_figure(3, 3.6, in_a_row=2) as (figure, panels):
        for axes, metric in zip(panels[:2], _NAMES, strict=True):
            _over_sizes(axes, minima, metric)
        _against_validation(panels[2], minima)
        headline(figure, minima.headline())
        note(
            figure,
            "Hessian of the static loss on the training set after the last step. Dots: networks; "
            f"bars: geometric means. Ratios: {minima.pair.arm} over {minima.pair.reference}, in "
            f"pairs, with 95% t intervals on the logarithm; {minima.pairs}"
            f"{' per size' if minima.name else ''}.{_MATCHED if _is_matched(minima) else ''}",
        )
    return figure


def _is_matched(minima: Minima) -> bool:
    return any(size.at_equal_loss for size in minima.sizes)


def _over_sizes(axes: Axes, minima: Minima, metric: str) -> None:
    styles = arm_styles(minima.pair)
    sides = ((minima.pair.reference, "reference", -0.17), (minima.pair.arm, "arm", 0.17))
    for place, size in enumerate(minima.sizes):
        rows = minima.runs
        if minima.parameter is not None:
            rows = rows[rows[minima.parameter] == size.size]
        ratio = next(entry for entry in size.ratios if entry.metric == metric)
        matched = [entry for entry in size.at_equal_loss if entry.metric == metric]
        for arm, role, side in sides:
            own = rows[rows[keys.ARM] == arm][metric].dropna()
            spread = place + side + np.linspace(-0.09, 0.09, len(own))
            axes.scatter(
                spread, own, s=12, color=styles[arm].colour, marker=styles[arm].marker, alpha=0.5,
                lw=0, label=arm if place == 0 else None,
            )  # fmt: skip
            mean, at = getattr(ratio, role), place + side
            axes.hlines(mean, at - 0.13, at + 0.13, styles[arm].colour, lw=2.2)
        axes.annotate(
            "\n".join(f"× {r.value:.2f}\n{r.low:.2f}–{r.high:.2f}" for r in (ratio, *matched)),
            (place, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            fontsize=7,
        )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    room = 0.3 if _is_matched(minima) else 0.18
    axes.set_ylim(low, high * (high / low) ** room)  # for the ratios
    plain_axis(axes.yaxis)
    axes.grid(visible=False, axis="x")
    if minima.parameter is None:
        axes.set_xticks([])
    else:
        axes.set_xticks(range(len(minima.sizes)), [f"{size.size:g}" for size in minima.sizes])
        axes.set_xlabel(minima.parameter.rpartition(".")[2])
    axes.set_title(_NAMES[metric])
    axes.legend(loc="lower left", fontsize=8)


def _against_validation(axes: Axes, minima: Minima) -> None:
    for arm, (colour, marker) in arm_styles(minima.pair[::-1]).items():
        own = minima.runs[minima.runs[keys.ARM] == arm]
        axes.scatter(
            own[keys.FINAL_HESSIAN_LAMBDA_MAX], own[keys.VALIDATION_ACCURACY], s=14, marker=marker,
            color=colour, alpha=0.5, lw=0, label=arm,
        )  # fmt: skip
    axes.set_xscale("log")
    plain_axis(axes.xaxis)
    axes.set_xlabel("final $λ_{max}$")
    axes.set_ylabel("validation accuracy")
    axes.set_title("Sharpness and generalisation")
    axes.legend(loc="lower left", fontsize=8)
