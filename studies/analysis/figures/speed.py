"""How many networks of each arm have reached an accuracy, over the steps."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from studies.analysis.figures.style import (
    arm_styles,
    headline,
    is_narrow,
    note,
    panel_figure,
    thousands,
)
from studies.analysis.gains.speed import Speed, speeds_headline

__all__ = ["draw_speed"]

_ACROSS = 3  # panels in a row


def draw_speed(speeds: Sequence[Speed]) -> Figure:
    """A panel for each comparison: the share of networks that have been there, for both arms, and
    the mean time of each as a line.

    Args:
        speeds: of each pair of arms and setting.
    """
    with panel_figure(len(speeds), 2.9, beside=0.6, in_a_row=_ACROSS, sharey=True) as (
        figure,
        panels,
    ):
        for axes, speed in zip(panels, speeds, strict=True):
            for arm, style in arm_styles(speed.pair).items():
                count = round(speed.reached[arm][-1] * speed.networks[arm])
                label = f"{arm} ({count} of {speed.networks[arm]})"
                axes.step(
                    speed.steps, speed.reached[arm], where="post", color=style.colour, label=label
                )
                axes.axvline(speed.means[arm], color=style.colour, lw=0.9, ls="--")
            axes.set(xlabel="step", ylim=(-0.02, 1.05), xlim=(0, speed.end))
            where = f"{speed.label}, " if speed.label else ""
            axes.set_title(f"{where}accuracy {speed.target:.3f}", fontsize=10)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(thousands))
            axes.legend(loc="lower right", fontsize=8)
        for axes in panels if is_narrow() else panels[::_ACROSS]:
            axes.set_ylabel("share of networks there")
        note(
            figure,
            "Dashed: the mean time, networks that never get there counted as the whole run.",
        )
        headline(figure, speeds_headline(speeds))
    return figure
