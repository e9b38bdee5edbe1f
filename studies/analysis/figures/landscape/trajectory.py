"""The six-row figure of a recorded run, after Ruiz-Garcia et al., ICML 2021, figure 3."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynloss_core import keys
from studies.analysis.figures.style import (
    CLASS_COLOURS,
    FULL,
    GREY,
    blank_figure,
    headline,
    note,
    plain_axis,
    thousands,
)
from studies.analysis.landscape.recorded_runs import RecordedRun

__all__ = ["draw_trajectory"]

_LINE = "#333333"


def draw_trajectory(run: RecordedRun) -> Figure:
    """Class weights, F, its change, accuracy and both largest eigenvalues over the steps of a run;
    instabilities are shaded."""
    steps = run.trace[keys.STEP].to_numpy()
    loss = run.trace[keys.WEIGHTED_LOSS].to_numpy()
    weights = [name for name in run.trace.columns if name.startswith(keys.CLASS_WEIGHT)]
    rows = 4 if run.curvature.empty else 6
    with blank_figure(FULL, 1.55 * rows + 0.9) as figure:
        panels = figure.subplots(rows, 1, sharex=True)
        for colour, (c, name) in zip(CLASS_COLOURS, enumerate(weights), strict=False):
            width = 1.1 + 0.9 * (len(weights) - 1 - c)  # all are visible where they coincide
            panels[0].plot(steps, run.trace[name], color=colour, lw=width, label=f"class {c}")
        panels[0].set_ylabel("class weight Γ")
        panels[0].tick_params(axis="y", labelcolor=GREY, labelsize=8)
        panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(weights), fontsize=8)
        _steps(panels[1], steps, loss, "F")
        panels[1].set_yscale("log")
        _steps(panels[2], steps[1:], np.diff(loss), "F(t) − F(t−1)")
        _steps(panels[3], steps, run.trace[keys.ACCURACY].to_numpy(), "accuracy")
        if rows == 6:
            at = run.curvature[keys.STEP].to_numpy()
            sharpness = run.curvature[keys.HESSIAN_LAMBDA_MAX].to_numpy()
            _steps(panels[4], at, sharpness, "Hessian $λ_{max}$")
            panels[4].set_yscale("log")
            plain_axis(panels[4].yaxis)
            rates = run.curvature[keys.LEARNING_RATE].to_numpy(dtype=float)
            bound = 2 / np.where(rates > 0, rates, np.nan)
            panels[4].plot(at, bound, color="#D55E00", lw=1.0, ls="--")
            value = f" = {bound[-1]:g}" if np.ptp(rates) == 0 else ""
            panels[4].annotate(
                f"2 / learning rate{value}", (at[-1], bound[-1]), color="#D55E00", fontsize=8,
                xytext=(-3, 3), textcoords="offset points", ha="right",
            )  # fmt: skip
            _steps(panels[5], at, run.curvature[keys.NTK_LAMBDA_MAX].to_numpy(), "NTK $λ_{max}$")
        for axes in panels:
            axes.grid(visible=False, axis="x")
            for onset, end in run.spans():
                axes.axvspan(onset, end, color="#E69F00", alpha=0.25, lw=0)
        panels[-1].set_xlabel("step")
        panels[-1].set_xlim(steps[0], steps[-1])
        panels[-1].xaxis.set_major_formatter(mpl.ticker.FuncFormatter(thousands))
        figure.align_ylabels()
        headline(figure, run.headline())
        if len(run.instabilities):
            note(figure, "Shaded: instabilities found in F alone, from onset to end.")
    return figure


def _steps(axes: Axes, steps: np.ndarray, values: np.ndarray, label: str) -> None:
    axes.plot(steps, values, color=_LINE, lw=0.6, rasterized=True)
    axes.set_ylabel(label)
    axes.tick_params(axis="y", which="both", labelcolor=GREY, labelsize=8)
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
