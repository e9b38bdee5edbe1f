"""The valley along the sharpest direction over a run: a map of F, and an animation.

Symbols
    k      moments
    S      offsets s on the line
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from studies.analysis.card import Animation
from studies.analysis.figures.style import (
    CLASS_COLOURS,
    FULL,
    GREY,
    PART,
    arm_styles,
    blank_figure,
    headline,
    note,
    thousands,
)
from studies.analysis.landscape.valleys import ValleyRun, valleys_headline

__all__ = ["animate_valleys", "draw_valleys"]

_MAP = "viridis"  # perceptually uniform; dark is deep
_UNSTABLE = "#E69F00"
_FRAMES = 160  # at most, to keep the file small
_LATEST, _EARLIEST = 1.25, 2.0  # periods shown after and before that of the last instability
_SIDE = "offset s"


def draw_valleys(runs: Sequence[ValleyRun]) -> Figure:
    """F on the line through the parameters, as colours over steps and offsets, one row per arm, all
    on one scale; below, the largest Hessian eigenvalue of each arm.

    Args:
        runs: one run of each arm, with the same seed.
    """
    low, high = _limits(runs)
    with blank_figure(FULL, 2.1 * len(runs) + 2.4) as figure:
        panels = figure.subplots(
            len(runs) + 1, 1, sharex=True, height_ratios=[*[1.15] * len(runs), 0.8]
        )
        for axes, run in zip(panels, runs, strict=False):
            mesh = axes.pcolormesh(
                run.steps, run.offsets, run.loss.T, norm=LogNorm(low, high), cmap=_MAP,
                shading="nearest", rasterized=True,
            )  # fmt: skip
            axes.set_title(f"{run.arm.capitalize()} loss", color=_colour(run), pad=9)
            axes.set_ylabel(_SIDE)
            axes.grid(visible=False)
            for boundary in run.boundaries():
                axes.axvline(boundary, color="white", lw=0.7, ls=(0, (2, 3)), alpha=0.8)
            for onset, end in run.instabilities:
                axes.plot(
                    [onset, end], [1.025, 1.025], transform=axes.get_xaxis_transform(),
                    color=_UNSTABLE, lw=3.5, solid_capstyle="butt", clip_on=False,
                )  # fmt: skip
        bar = figure.colorbar(mesh, ax=panels[:-1], aspect=32, pad=0.015, extend="both")
        bar.set_label("F on the line")
        _sharpness(panels[-1], runs)
        panels[-1].set_xlabel("step")
        panels[-1].legend(loc="upper right", ncols=len(runs), fontsize=8)
        panels[-1].set_xlim(runs[0].steps[0], runs[0].steps[-1])
        figure.align_ylabels()
        headline(figure, valleys_headline(runs))
        marks = ["Dashed: ends of periods" if any(run.boundaries() for run in runs) else ""]
        marks.append("Orange: instabilities" if any(run.instabilities for run in runs) else "")
        marked = "".join(f" {mark}." for mark in marks if mark)
        note(
            figure,
            "Each column: F(θ + s v), where v is the eigenvector of the largest Hessian eigenvalue "
            f"then.{marked} Below, dashed: 2 / learning rate.",
        )
    return figure


def animate_valleys(runs: Sequence[ValleyRun]) -> Animation:
    """F on the line, moment by moment through a few periods, one panel per arm, with the parabola
    of its curvature, the current class weights and the largest eigenvalue.

    Args:
        runs: one run of each arm, with the same seed and steps.
    """
    moments = shown_moments(runs[0])
    low, high = _limits(runs, moments)
    with blank_figure(PART, 4.0) as figure:
        figure.set_dpi(100)
        parts: Any = figure.subfigures(2, 1, height_ratios=[2.25, 1])
        upper, lower = parts
        lines = [
            _Line(axes, run, (low, high))
            for axes, run in zip(
                np.atleast_1d(upper.subplots(1, len(runs), sharey=True)), runs, strict=True
            )
        ]
        lines[0].axes.set_ylabel("F(θ + s v)")
        bars, strip = lower.subplots(1, 2, width_ratios=[1, 2.6])
        weights = runs[0].class_weights
        columns = bars.bar(
            range(weights.shape[1]), weights[moments[0]], color=CLASS_COLOURS, width=0.7
        )
        bars.set(ylim=(0, weights.shape[1]), xlabel="class", ylabel="weight Γ")
        bars.set_xticks(range(weights.shape[1]))
        bars.grid(visible=False)
        _sharpness(strip, runs, moments)
        strip.set_xlabel("step")
        strip.set_xlim(runs[0].steps[moments[0]], runs[0].steps[moments[-1]])
        strip.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        now = strip.axvline(0, color="#333333", lw=1.0)
        figure.text(
            0.012, 0.965, f"seed {runs[0].seed}   dashed: parabola of the curvature at the dot",
            fontsize=8, color=GREY,
        )  # fmt: skip
        title = figure.suptitle("step 00 000", x=0.985, ha="right", fontsize=11)
        for axes in (*(line.axes for line in lines), bars, strip):
            axes.tick_params(labelsize=8)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # lay out once, so that nothing jitters

    def show(frame: int) -> None:
        at = moments[frame]
        for line in lines:
            line.show(at)
        for column, weight in zip(columns, weights[at], strict=True):
            column.set_height(weight)
        step = int(runs[0].steps[at])
        now.set_xdata([step, step])
        title.set_text(f"step {thousands(step)}")

    narrow = int(np.argmin(np.nan_to_num(runs[0].lambda_max[moments], nan=np.inf)))
    show(narrow)
    return Animation(figure, show, len(moments), still=narrow)


def shown_moments(run: ValleyRun) -> list[int]:
    """Indices of the moments to animate: the periods around the last instability, or the last
    periods without one; thinned out if there are too many. For a run without periods, all
    moments."""
    ends = run.boundaries()
    if not ends or run.period is None:
        chosen = np.arange(len(run.steps))
    else:
        inside = [onset // run.period for onset, _ in run.instabilities if onset < ends[-1]]
        number = inside[-1] if inside else len(ends) - 1
        first, last = (number - _EARLIEST) * run.period, (number + _LATEST) * run.period
        chosen = np.flatnonzero((run.steps >= first) & (run.steps <= last))
    return [int(moment) for moment in chosen[:: -(-len(chosen) // _FRAMES)]]


def _colour(run: ValleyRun) -> str:
    return arm_styles([run.arm])[run.arm].colour


class _Line:
    """One arm's panel: F on the line, its parabola, and where the network is."""

    def __init__(self, axes: Axes, run: ValleyRun, limits: tuple[float, float]) -> None:
        self.axes, self._run = axes, run
        colour = _colour(run)
        (self._parabola,) = axes.plot([], [], color=GREY, lw=0.9, ls="--", label="parabola")
        (self._valley,) = axes.plot([], [], color=colour, lw=2.2)
        (self._dot,) = axes.plot([], [], "o", color="#222222", ms=6, zorder=5)
        axes.set(yscale="log", ylim=limits, xlabel=_SIDE)
        axes.set_xlim(run.offsets[0], run.offsets[-1])
        axes.set_title(f"{run.arm.capitalize()} loss", color=colour)
        axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())

    def show(self, at: int) -> None:
        """Draw one moment."""
        run, s = self._run, self._run.offsets
        parabola = run.bottom[at] + run.slope[at] * s + run.lambda_max[at] * s**2 / 2
        self._parabola.set_data(s, np.where(parabola > 0, parabola, np.nan))
        self._valley.set_data(s, run.loss[at])
        self._dot.set_data([0.0], [run.bottom[at]])


def _sharpness(axes: Axes, runs: Sequence[ValleyRun], moments: Sequence[int] | None = None) -> None:
    """The largest Hessian eigenvalue of each run over its steps, and the bound of stability."""
    for run in runs:
        chosen = slice(None) if moments is None else list(moments)
        axes.plot(
            run.steps[chosen], run.lambda_max[chosen], color=_colour(run), lw=1.1,
            label=run.arm,
        )  # fmt: skip
    axes.set_yscale("log")
    rates = {run.learning_rate: _colour(run) for run in runs}
    for rate, colour in rates.items():
        axes.axhline(2 / rate, color=GREY if len(rates) == 1 else colour, lw=0.9, ls="--")
    axes.set_ylabel("Hessian $λ_{max}$" if moments is None else "$λ_{max}$")
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(thousands))


def _limits(runs: Sequence[ValleyRun], moments: Sequence[int] | None = None) -> tuple[float, float]:
    """A logarithmic scale for all runs: from the lowest bottom to nearly the highest walls."""
    chosen = slice(None) if moments is None else list(moments)
    values = np.concatenate([run.loss[chosen].ravel() for run in runs])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 0.1, 1.0
    low, high = float(values.min()), float(np.quantile(values, 0.99))
    return low / 1.3, max(high, 2 * low) * 1.3
