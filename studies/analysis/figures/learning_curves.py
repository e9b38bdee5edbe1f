"""Learning curves of both arms."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from studies.analysis.figures.style import (
    arm_styles,
    headline,
    is_narrow,
    panel_figure,
    plain_axis,
    thousands,
    words,
)
from studies.analysis.gains.learning_curves import LearningCurve, curves_headline

__all__ = ["draw_learning_curves"]

_FEW = 3  # up to this many arms, their bands can be told apart


def draw_learning_curves(
    panels: Sequence[Sequence[LearningCurve]], *, tail_start: int | None = None
) -> Figure:
    """Learning curves of the arms, one panel per metric.

    Args:
        panels: the curves of each panel.
        tail_start: the first step at which no arm oscillates; shaded from there on.
    """
    arms = dict.fromkeys(curve.arm for curves in panels for curve in curves)
    band = 0.2 if len(arms) <= _FEW else 0.08
    with panel_figure(len(panels), 3.0, beside=1.0 if len(arms) <= _FEW else 1.4) as made:
        figure, places = made
        for axes, curves in zip(places, panels, strict=True):
            styles = arm_styles(curve.arm for curve in curves)
            for curve in curves:
                colour = styles[curve.arm].colour
                axes.plot(curve.steps, curve.mean, color=colour, label=curve.label)
                axes.fill_between(
                    curve.steps, curve.low, curve.high, color=colour, alpha=band, lw=0
                )
            end = max(curve.steps[-1] for curve in curves)
            if tail_start is not None and tail_start < end:
                axes.axvspan(tail_start, end, color="black", alpha=0.06, lw=0, label="static tail")
            name, metric = words(curves[0].metric).capitalize(), words(curves[0].metric)
            if curves[0].metric.endswith("loss"):
                axes.set_yscale("log")
                plain_axis(axes.yaxis, subs=(1, 2, 5))
                metric = "unweighted, geometric mean"
            else:  # an interval over few seeds can leave [0, 1]
                low, high = axes.get_ylim()
                axes.set_ylim(max(low, 0.0), min(high, 1.02))
            axes.set(xlabel="step", ylabel=metric)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(thousands))
            axes.set_title(name)
        drawn = [axes.get_legend_handles_labels() for axes in places]
        said = {label: line for pair in drawn for line, label in zip(*pair, strict=True)}
        columns = 1 if is_narrow() else 3
        figure.legend(said.values(), said.keys(), loc="outside lower left", ncols=columns)
        headline(figure, curves_headline([curve for curves in panels for curve in curves]))
    return figure
