"""Many comparisons at once: every pair of arms, and the ladder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynloss_core import keys
from studies.analysis.figures.style import (
    FULL,
    GREY,
    arm_styles,
    beside,
    blank_figure,
    headline,
    is_narrow,
    note,
    panel_figure,
    words,
)
from studies.analysis.ladder import Ladder
from studies.analysis.setting_verdicts import SettingVerdict
from studies.analysis.statistics.equivalence import OUTCOME_IN_WORDS, Outcome

__all__ = [
    "difference_of",
    "draw_comparisons",
    "draw_ladder",
    "forest",
    "label_of",
    "small_print",
]

_SIGNIFICANT = 0.05
_COLOURS: dict[Outcome, str] = {
    "better": "#D55E00",
    "better_within_margin": "#D55E00",
    "worse": "#0072B2",
    "worse_within_margin": "#0072B2",
    "equivalent": "#009E73",
    "undecided": GREY,
}
_SHORT: dict[Outcome, str] = {
    **OUTCOME_IN_WORDS,
    "better_within_margin": "better, below the margin",
    "worse_within_margin": "worse, below the margin",
}


def draw_comparisons(verdicts: Sequence[SettingVerdict]) -> Figure:
    """Each comparison's mean difference and its interval, in the order of the study.

    Args:
        verdicts: at least one.
    """
    row = 0.46 if is_narrow() else 0.28
    with blank_figure(FULL, 1.6 + row * len(verdicts)) as figure:
        axes = figure.subplots()
        for place, verdict in enumerate(verdicts):
            difference_of(axes, verdict, place)
        forest(axes, verdicts)
        headline(figure, f"{len(verdicts)} comparisons on fresh seeds")
        note(figure, small_print(verdicts))
    return figure


def draw_ladder(ladders: Sequence[Ladder]) -> Figure:
    """Each arm's mean, and what it adds to the one below, one row per setting.

    Args:
        ladders: at least one, all with the same arms.
    """
    arms = [arm.name for arm in ladders[0].arms]
    styles = arm_styles(arms)
    height = 0.9 + (0.4 if is_narrow() else 0.3) * len(arms)
    count = 2 * len(ladders)
    with panel_figure(count, height, beside=0.8, in_a_row=2) as (figure, panels):
        pairs = list(zip(panels[::2], panels[1::2], strict=True))
        for pair in pairs[1:]:
            for axes, first in zip(pair, pairs[0], strict=True):
                axes.sharex(first)
        for (left, right), ladder in zip(pairs, ladders, strict=True):
            for place, arm in enumerate(ladder.arms):
                colour, marker = styles[arm.name]
                half = [[arm.mean - arm.low], [arm.high - arm.mean]]
                left.errorbar(arm.mean, place, xerr=half, fmt=marker, color=colour, capsize=4, ms=6)
                if arm.step is not None:
                    difference_of(right, arm.step, place - 0.5)
            _margin_band(right, ladder.steps[0])
            right.axvline(0, color="black", lw=0.9)
            for axes in (left, right):
                axes.set_ylim(-0.6, len(arms) - 0.4)
                axes.grid(visible=False, axis="y")
            left.set_yticks(range(len(arms)), arms)
            right.set_yticks([])
            left.set_title(ladder.label.capitalize() or "Each arm at its own best")
            right.set_title("Added by each step")
            for axes in (left, right):
                axes.xaxis.set_major_locator(MaxNLocator(5))
        metric = words(ladders[0].metric)
        pairs[-1][0].set_xlabel(metric)
        pairs[-1][1].set_xlabel(f"difference in {metric}")
        headline(figure, "What each step of the ladder adds")
        steps = [step for ladder in ladders for step in ladder.steps]
        note(figure, small_print(steps))
    return figure


def forest(axes: Axes, verdicts: Sequence[SettingVerdict]) -> None:
    """Prepare axes with one row per comparison, from the top, with margin and labels."""
    labels = [label_of(verdict) for verdict in verdicts]
    _margin_band(axes, verdicts[0])
    axes.axvline(0, color="black", lw=0.9)
    if is_narrow():
        labels = [label.replace(": ", ":\n").replace(" − ", "\n− ") for label in labels]
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"difference in {words(verdicts[0].test.metric)}")


def difference_of(axes: Axes, verdict: SettingVerdict, place: float) -> None:
    """A mean difference with its interval and, at the right, its outcome."""
    test, colour = verdict.test, _COLOURS[verdict.test.outcome]
    half = np.array([[test.difference - test.low], [test.high - test.difference]])
    unit = "" if test.luck is None else " searches"
    trained = "*" if test.of_trained else ""
    filled = colour if verdict.p_adjusted < _SIGNIFICANT else "white"
    axes.errorbar(test.difference, place, xerr=half, fmt="D", color=colour, mfc=filled, capsize=4)
    beside(axes, place, f"{_SHORT[test.outcome]}{trained}, n = {test.n}{unit}", colour)


def _margin_band(axes: Axes, verdict: SettingVerdict) -> None:
    """A band of the differences that would not matter."""
    margin = verdict.test.margin
    if margin is not None:
        axes.axvspan(-margin, margin, color="black", alpha=0.07, lw=0)


def label_of(verdict: SettingVerdict) -> str:
    """The setting and the arms: `width 50: dynamical - static`."""
    where = f"{verdict.label}: " if verdict.label else ""
    return f"{where}{verdict.test.pair.arm} − {verdict.test.pair.reference}"


def small_print(verdicts: Sequence[SettingVerdict]) -> str:
    """What the marks mean, and how many networks diverged."""
    level = verdicts[0].test.level
    unit = verdicts[0].test.unit
    over = "fresh seeds" if unit == "seed" else "searches"
    text = f"Means over {over} and 95% t intervals, differences paired by {unit}"
    text += ". Filled: " if math.isclose(level, 0.95) else f" with {level * 100:.4g}%. Filled: "
    several = verdicts[0].compared > 1
    text += f"significant over {verdicts[0].counted}, 5%." if several else "significant at 5%."
    if (margin := verdicts[0].test.margin) is not None:
        text += f" Band: the margin of equivalence, ±{margin:g}."
    tests = [verdict.test for verdict in verdicts]
    if any(test.of_trained for test in tests):
        text += " * Of networks that train: failures not yet seen could undo it."
    if any(test.arm.diverged or test.reference.diverged for test in tests):
        up = keys.higher_is_better(tests[0].metric)
        text += f" A diverged network {'counts as accuracy 0' if up else 'is left out'}."
    return text
