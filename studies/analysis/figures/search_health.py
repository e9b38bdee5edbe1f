"""Search health: isolation of each parameter, the objective against the budget, importances.

The file is long because its panels share one figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dynloss_core import keys
from studies.analysis.figures.style import (
    FULL,
    GREY,
    PART,
    ArmStyle,
    arm_styles,
    blank_figure,
    headline,
    in_legend,
    is_narrow,
    note,
    panel_figure,
    plain_axis,
    thousands,
    words,
)
from studies.analysis.search_health.combined_health import convergence_headline
from studies.analysis.search_health.importances import Importances
from studies.analysis.search_health.isolation import LEVEL, Isolation
from studies.analysis.search_health.search_health import Convergence, SearchHealth

__all__ = ["draw_convergence", "draw_isolation"]

_SYMBOLS = {keys.PERIOD: " T", keys.AMPLITUDE: " A"}
_IN_A_ROW = 3
_FEW_TRIALS = 50  # above this, or with very different budgets, the budget axis is logarithmic
_BUDGETS_APART = 4
_LEGEND_ROOM = 0.55  # below the bars, in bars


def draw_isolation(health: SearchHealth) -> Figure:
    """The best trial at each value of each parameter; below, the number of trials. There is room
    for two arms (see `SearchHealth.of`)."""
    panels = _panels(health)
    columns = 1 if is_narrow() else min(max(len(panels), 1), _IN_A_ROW)
    rows = max(-(-len(panels) // columns), 1)
    with blank_figure(FULL if len(panels) > 1 else PART, 1.2 + 3.4 * rows) as figure:
        inside = figure.add_subfigure(GridSpec(1, 1, figure)[0])  # the note goes below its legend
        grid = inside.subplots(2 * rows, columns, height_ratios=[3.6, 1] * rows, squeeze=False)
        for index in range(rows * columns):
            row, column = divmod(index, columns)
            top, bottom = grid[2 * row][column], grid[2 * row + 1][column]
            if index >= len(panels):
                top.remove()
                bottom.remove()
                continue
            if index:
                top.sharey(grid[0][0])
            for isolation, sign in zip(panels[index], (1, -1), strict=False):
                _best_trials(top, isolation, health)
                _counts(bottom, isolation, sign, _style(health, isolation.arm).colour)
            bottom.axhline(0, color="black", linewidth=0.8)
            _parameter_axis(top, bottom, panels[index])
            _objective_axis(top, health)
            if column == 0:  # of all, where they are one below another
                top.set_ylabel(words(health.objective))
                bottom.set_ylabel("trials")
            else:
                top.tick_params(labelleft=False)
        if panels and keys.higher_is_better(health.objective):
            low, high = grid[0][0].get_ylim()  # a t interval over few seeds can leave [0, 1]
            grid[0][0].set_ylim(max(low, 0.0), min(high, 1.02))
        inside.legend(
            handles=_isolation_legend(health),
            loc="outside lower left",
            ncols=1 if is_narrow() else 3,
        )
        headline(figure, health.isolation_headline())
        note(figure, _isolation_note(health))
    return figure


def draw_convergence(health: SearchHealth, searches: Sequence[SearchHealth] = ()) -> Figure:
    """The best objective against the number of trials, and importances if there are any.

    Args:
        health: the health of all trials together.
        searches: the health of each search; empty if there is only one.
    """
    shown = searches or [health]
    known = [importances for importances in health.importances.values() if importances is not None]
    more = 0.3 * max(len(health.convergence) - 2, 0)  # inches, for the legend below
    count = 2 if known else 1
    with panel_figure(count, 3.4 + more, ratios=[1.3, 1][:count]) as (figure, panels):
        _budget_panel(panels[0], shown)
        if known:
            _importance_panel(panels[1], known, health.infeasible)
        headline(figure, convergence_headline(shown))
        note(figure, _convergence_note(shown, known))
    return figure


def _style(health: SearchHealth, arm: str) -> ArmStyle:
    return arm_styles(health.infeasible)[arm]


def _panels(health: SearchHealth) -> list[list[Isolation]]:
    """The isolations of each parameter, arms together; separate if arms choose from different
    values."""
    panels: dict[object, list[Isolation]] = {}
    for isolation in health.isolations:
        choices = isolation.values if isolation.scale is None else None
        panels.setdefault((isolation.parameter, choices), []).append(isolation)
    return list(panels.values())


def _objective_axis(axes: Axes, health: SearchHealth) -> None:
    """The axis of the objective; logarithmic for a loss, which spans decades."""
    feasible = any(
        infeasible.count < infeasible.trials for infeasible in health.infeasible.values()
    )
    if health.objective.endswith("loss") and feasible:
        axes.set_yscale("log")
        plain_axis(axes.yaxis)


def _best_trials(axes: Axes, isolation: Isolation, health: SearchHealth) -> None:
    colour, marker = _style(health, isolation.arm)
    at = _places(isolation, list(health.infeasible))
    known = isolation.best >= 0
    if not known.any():
        return
    half = np.nan_to_num([isolation.mean - isolation.low, isolation.high - isolation.mean])
    axes.errorbar(
        at[known],
        isolation.mean[known],
        half[:, known],
        color=colour,
        marker=marker,
        markersize=5,
        linewidth=1.2 if isolation.scale else 0,
        elinewidth=1,
        capsize=2.5,
        alpha=0.9,
        zorder=3,
    )
    up = keys.higher_is_better(health.objective)
    top = int(np.nanargmax(isolation.mean if up else -isolation.mean))
    star: dict[str, Any] = {"marker": "*", "markersize": 14, "markeredgecolor": "black"}
    axes.plot(at[top], isolation.mean[top], **star, markeredgewidth=0.8, color=colour, zorder=5)
    for near in health.near_bounds:
        if (near.arm, near.parameter) == (isolation.arm, isolation.parameter):
            axes.axvline(near.bound, color=colour, linestyle="--", linewidth=1.2, zorder=2)
            ring: dict[str, Any] = {"marker": "o", "markersize": 19, "markerfacecolor": "none"}
            axes.plot(near.value, isolation.mean[top], **ring, markeredgecolor="black", zorder=6)


def _counts(axes: Axes, isolation: Isolation, sign: int, colour: str) -> None:
    """Trials at each value or in each bin, infeasible ones hatched; upwards or downwards."""
    axes.stairs(
        sign * isolation.trials, isolation.edges, fill=True, color=colour, alpha=0.3, linewidth=0
    )
    axes.stairs(sign * isolation.trials, isolation.edges, color=colour, linewidth=1)
    if isolation.infeasible.any():
        hatched: dict[str, Any] = {"facecolor": colour, "edgecolor": "black", "hatch": "/////"}
        axes.stairs(sign * isolation.infeasible, isolation.edges, fill=True, linewidth=0, **hatched)


def _parameter_axis(top: Axes, bottom: Axes, isolations: list[Isolation]) -> None:
    """The parameter along the shared horizontal axis of a panel and its counts."""
    first = isolations[0]
    leaf = words(first.parameter.rpartition(".")[2])
    unit = f" ({first.unit})" if first.unit else ""
    bottom.set_xlabel(f"{leaf}{_SYMBOLS.get(first.parameter, '')}{unit}")
    bottom.yaxis.set_major_locator(mpl.ticker.MaxNLocator(2 * len(isolations), integer=True))
    bottom.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda n, _: thousands(abs(n))))
    low = min(isolation.edges[0] for isolation in isolations)
    high = max(isolation.edges[-1] for isolation in isolations)
    for axes in (top, bottom):
        if first.scale == "log":
            axes.set_xscale("log")
            margin = (high / low) ** 0.04
            axes.set_xlim(low / margin, high * margin)
            plain_axis(axes.xaxis, (1, 2, 5) if high / low < 300 else (1,))
        elif first.scale == "linear":
            axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        else:
            axes.set_xlim(low - 0.1, high + 0.1)
            axes.set_xticks(range(len(first.values)), [words(str(value)) for value in first.values])
            axes.grid(visible=False, axis="x")
    top.tick_params(labelbottom=False)


def _places(isolation: Isolation, arms: Sequence[str]) -> np.ndarray:
    """(V,) where the values lie on the axis; choices of several arms side by side."""
    if isolation.scale is None:
        beside = 0.12 * (arms.index(isolation.arm) - (len(arms) - 1) / 2)
        return np.arange(len(isolation.values)) + beside
    return np.array(isolation.values, dtype=float)


def _isolation_legend(health: SearchHealth) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colour, marker=marker, label=_arm_label(health, arm))
        for arm, (colour, marker) in arm_styles(health.infeasible).items()
    ]
    star = Line2D([], [], ls="", marker="*", ms=12, mfc=GREY, mec="black", label="best of the arm")
    handles.append(star)
    if health.near_bounds:
        ring = Line2D([], [], ls="--", marker="o", ms=13, mfc="none", mec="black", color=GREY)
        ring.set_label("near a bound")
        handles.append(ring)
    if any(infeasible.count for infeasible in health.infeasible.values()):
        handles.append(Patch(facecolor=GREY, hatch="/////", label="infeasible trials"))
    return handles


def _arm_label(health: SearchHealth, arm: str) -> str:
    infeasible = health.infeasible[arm]
    plural = "trials" if infeasible.trials > 1 else "trial"
    label = f"{arm} ({thousands(infeasible.trials)} {plural}"
    return label + (f", {infeasible.fraction:.0%} infeasible)" if infeasible.count else ")")


def _isolation_note(health: SearchHealth) -> str:
    seeds = {int(n) for isolation in health.isolations for n in isolation.n if n > 0}
    text = f"Each point: the best trial {health.places}, all other parameters optimised away"
    if seeds:
        few, many = min(seeds), max(seeds)
        n = f"{few}" if few == many else f"{few} to {many}"
        interval = f" and its {LEVEL:.0%} interval" if many > 1 else ""
        text += f"; mean over seeds (n = {n}){interval}"
    return (
        f"{text}. The best of many trials looks better than it is; the number of trials is "
        "shown below. Infeasible: a network diverged."
    )


def _budget_panel(axes: Axes, searches: Sequence[SearchHealth]) -> None:
    axes.margins(y=0.1)
    health = searches[0]
    curves = [curve for search in searches for curve in search.convergence.values()]
    for arm in dict.fromkeys(curve.arm for curve in curves):
        own, style = [curve for curve in curves if curve.arm == arm], _style(health, arm)
        if len(searches) == 1:
            _curve(axes, own[0], style, keys.higher_is_better(health.objective))
        else:
            _curves(axes, own, style)
    budgets = [curve.trials for curve in curves]
    if health.adaptive:
        axes.set_xlim(0, 1.04 * max(budgets))
    if health.adaptive and len(set(budgets)) == 1:
        axes.axvspan(2 / 3 * budgets[0], budgets[0], color="black", alpha=0.05, lw=0)
        axes.annotate(
            "last third",
            (budgets[0], 0.02),
            xycoords=("data", "axes fraction"),
            ha="right",
            fontsize=8,
            color=GREY,
        )
    if not health.adaptive and (
        max(budgets) > _FEW_TRIALS or max(budgets) > _BUDGETS_APART * min(budgets)
    ):
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    _objective_axis(axes, health)
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(thousands))
    axes.set_xlabel("trials")
    axes.set_ylabel(words(health.objective))
    axes.set_title("Best so far" if health.adaptive else "Expected best of that many trials")
    handles, labels = axes.get_legend_handles_labels()
    lines = [in_legend(label) for label in labels]
    below = (-0.02, -0.14)  # curves may be anywhere
    axes.legend(handles, lines, loc="upper left", bbox_to_anchor=below)


def _curve(axes: Axes, curve: Convergence, style: ArmStyle, up: bool) -> None:
    colour, marker = style
    if curve.best.size == 0:
        axes.plot([], [], color=colour, label=f"{curve.arm}: all {curve.trials} infeasible")
        return
    best = f"{curve.best[-1]:.3{'f' if up else 'g'}}"
    trials = thousands(curve.trials)
    if curve.last_improvement is None:
        label = f"{curve.arm}: {best} ({trials} trials)"
        axes.plot(curve.budget, curve.best, color=colour, linewidth=2, label=label)
        return
    last = curve.last_improvement
    label = f"{curve.arm}: {best}, within the tolerance from trial {thousands(last)} of {trials}"
    axes.step(curve.budget, curve.best, where="post", color=colour, linewidth=2, label=label)
    low, high = sorted([curve.best[-1], curve.best[-1] - (1 if up else -1) * curve.tolerance])
    axes.fill_between([last, curve.trials], low, high, color=colour, alpha=0.15, linewidth=0)
    value = curve.best[np.searchsorted(curve.budget, last, side="right") - 1]
    axes.plot(last, value, marker=marker, color=colour, mec="black", ms=8)


def _curves(axes: Axes, curves: Sequence[Convergence], style: ArmStyle) -> None:
    """One arm in several searches, as thin lines that end in its marker."""
    sound = [curve for curve in curves if curve.best.size]
    for curve in sound:
        drawn: dict[str, Any] = {"color": style.colour, "linewidth": 1.1, "alpha": 0.8}
        step = "default" if curve.last_improvement is None else "steps-post"
        axes.plot(curve.budget, curve.best, **drawn, drawstyle=step)
        axes.plot(curve.budget[-1], curve.best[-1], marker=style.marker, color=style.colour, ms=5)
    ends = [float(curve.best[-1]) for curve in sound]
    label = f"{curves[0].arm}: all trials infeasible"
    if ends:
        low, high = (f"{end:#.3g}" for end in (min(ends), max(ends)))
        label = f"{curves[0].arm}: {low} to {high}"
    if any(curve.converged is not None for curve in sound):
        converged = sum(curve.convergence_status == "converged" for curve in curves)
        label += f", converged in {converged} of {len(curves)}"
    axes.plot([], [], color=style.colour, marker=style.marker, ms=5, label=label)


def _importance_panel(axes: Axes, known: list[Importances], arms: Iterable[str]) -> None:
    names = list(dict.fromkeys(name for of_arm in known for name in of_arm.fractions))
    height, styles = 0.8 / len(known), arm_styles(arms)
    for k, importances in enumerate(known):
        places = (
            np.array([names.index(name) for name in importances.fractions])
            + (k - (len(known) - 1) / 2) * height
        )
        axes.barh(
            places,
            list(importances.fractions.values()),
            height * 0.9,
            xerr=[importances.sem[name] for name in importances.fractions],
            color=styles[importances.arm].colour,
            error_kw={"elinewidth": 1, "capsize": 3},
            label=f"{importances.arm} (n = {importances.trials} trials)",
        )
    axes.set_yticks(range(len(names)), [words(name.rpartition(".")[2]) for name in names])
    axes.set_ylim(len(names) - 0.5 + _LEGEND_ROOM, -0.5)  # the first on top
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("variance explained alone (± s.e.)")
    axes.set_title("Importances (fANOVA)")
    axes.legend(loc="lower right")


def _convergence_note(searches: Sequence[SearchHealth], known: list[Importances]) -> str:
    lines, health = [], searches[0]
    if len(searches) > 1:
        lines.append(f"A line for each of {len(searches)} searches.")
        if any(search.equal_budgets is False for search in searches):
            lines[0] += " The arms had unequal budgets."
    elif health.adaptive:
        tolerances = ", ".join(f"{arm} {c.tolerance:.2g}" for arm, c in health.convergence.items())
        lines.append(
            "Marked, and shaded from there on: within the tolerance of the final best "
            f"({tolerances})."
        )
        if health.equal_budgets is False:
            lines[0] += " The arms had unequal budgets."
    else:
        lines.append(
            "Mean over all orders in which the trials of the design could have been run, given at "
            "least one feasible trial."
        )
    lines += dict.fromkeys(importances.warning for importances in known if importances.warning)
    return "\n".join(line[0].upper() + line[1:] for line in lines)
