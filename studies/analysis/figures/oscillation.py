"""What a dynamical loss does to the weights of samples, step by step."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from dynloss_core.oscillation import ClassWeightSchedule, Oscillation
from studies.analysis.figures.style import (
    CLASS_COLOURS,
    FULL,
    GREY,
    blank_figure,
    headline,
    note,
)

__all__ = ["draw_oscillation"]

_MAX_GROUPS = len(CLASS_COLOURS)  # with a colour each; if there are more, all are drawn alike
_CALLED = {"classes": "class", "samples": "sample"}
_WHAT = {
    "classes": "classes take turns",
    "random": "random groups of samples take turns",
    "stratified": "groups with an equal share of every class take turns",
    "all": "the whole loss, like a cyclical learning rate",
    "samples": "every sample, with its own phase",
    "own": "the data set's own groups",
}


def draw_oscillation(
    oscillation: Oscillation,
    *,
    groups: int,
    period: int,
    amplitude: float,
    steps: int,
    seed: int = 0,
) -> Figure:
    """The weight of each group at every step.

    Args:
        oscillation: what oscillates, and how.
        groups: G.
        period: T, in steps.
        amplitude: A.
        steps: how many to show.
        seed: the seed of random choices.
    """
    schedule = ClassWeightSchedule(groups, period, amplitude, oscillation=oscillation, seed=seed)
    weights = schedule(torch.arange(steps + 1), dtype=torch.float64).numpy()  # (n, G)
    called = _CALLED.get(oscillation.groups, "group")
    few = groups <= _MAX_GROUPS
    with blank_figure(FULL, 3.8) as figure:
        axes = figure.subplots()
        for group in range(groups):
            colour = CLASS_COLOURS[group] if few else GREY
            label = f"{called} {group + 1}" if few and groups > 1 else None
            axes.plot(weights[:, group], color=colour, lw=1.6 if few else 0.5, label=label)
        axes.axhline(1, color="black", lw=0.8, ls=":")
        axes.set(xlabel="step", ylabel="weight", xlim=(0, steps))
        axes.set_ylim(bottom=0)
        if few and groups > 1:
            figure.legend(loc="outside right upper")
        headline(figure, f"What oscillates: {_WHAT[oscillation.groups]}")
        text = f"Shape: {oscillation.shape}, {oscillation.direction}"
        text += f"; order: {oscillation.order}" if groups > 1 and called != "sample" else ""
        text += (
            f". Period T = {period} steps, amplitude A = {amplitude:g}. Dotted: the static loss."
        )
        note(figure, text)
    return figure
