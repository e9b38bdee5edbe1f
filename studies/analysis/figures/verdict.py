"""The verdict: each seed's pair of networks, and the distribution of their differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dynloss_core import keys
from studies.analysis.figures.style import (
    ARM_COLOURS,
    GREY,
    headline,
    hover,
    panel_figure,
    warn,
    words,
)
from studies.analysis.setting_verdicts import SettingVerdict

__all__ = ["draw_verdict"]


def draw_verdict(pairs: pd.DataFrame, setting_verdict: SettingVerdict) -> Figure:
    """Each seed's pair of networks, and the distribution of their differences; warnings about the
    verdict are below.

    Args:
        pairs: one row per seed, one column per arm (see `pairing.paired_by_seed`).
        setting_verdict: the verdict on them.
    """
    verdict = setting_verdict.test
    metric = words(verdict.metric)
    with panel_figure(2, 3.4, beside=0.5, ratios=[1.25, 1]) as (figure, (left, right)):
        spread = np.linspace(-0.07, 0.07, len(pairs))
        arm, reference = verdict.pair
        places = {reference: 0, arm: 1}
        ends = [pairs[name].to_numpy() for name in places]
        left.plot([spread, 1 + spread], ends, color=GREY, alpha=0.25, linewidth=0.8, zorder=1)
        for name, place in places.items():
            summary, side = (verdict.arm, 0.24) if place else (verdict.reference, -0.24)
            colour = ARM_COLOURS[(keys.STATIC, keys.DYNAMICAL)[place]]
            left.scatter(place + spread, pairs[name], s=20, color=colour, alpha=0.75)
            left.errorbar(place + side, summary.mean, summary.sd, fmt="o", color=colour, capsize=4)
            left.annotate(
                f"{summary.mean:.3f}\n± {summary.sd:.3f}",
                (place + 1.35 * side, summary.mean),
                ha="right" if side < 0 else "left",
                va="center",
                color=colour,
            )
        left.set_xticks(list(places.values()), list(places))
        left.set_xlim(-0.85, 1.85)
        left.grid(visible=False, axis="x")
        left.set_ylabel(metric)
        left.set_title(f"Each {verdict.unit}, both arms (mean ± sd)")

        difference = (pairs[arm] - pairs[reference]).to_numpy()
        right.axhline(0, color="black", linewidth=0.9)
        right.scatter(spread, difference, s=20, color=GREY, alpha=0.7)
        half = [[verdict.difference - verdict.low], [verdict.high - verdict.difference]]
        right.errorbar(0.22, verdict.difference, half, fmt="D", color="black", capsize=5, ms=5)
        right.annotate(
            verdict.interval().replace(" ", "\n", 1),
            (0.27, verdict.difference),
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
        )
        shown = np.array([verdict.low, verdict.high, *difference])
        margin = 0.06 * float(np.ptp(shown)) or 0.01
        right.set_ylim(min(0.0, shown.min()) - margin, max(0.0, shown.max()) + margin)
        for seed, place, values in zip(pairs.index, spread, pairs.to_dict("records"), strict=True):
            means = ", ".join(f"{name} {values[name]:.4f}" for name in verdict.pair)
            change = values[arm] - values[reference]
            box = (place - 0.02, place + 0.02, change - margin / 3, change + margin / 3)
            hover(right, box, f"{verdict.unit} {seed}: {means}, difference {change:+.4f}")
        right.set_xlim(-0.2, 0.72)
        right.set_xticks([])
        right.set_ylabel(f"{metric}: {arm} − {reference}")
        right.set_title(f"Difference, {verdict.level * 100:.4g}% interval (n = {verdict.n})")
        headline(figure, setting_verdict.headline())
        warn(figure, setting_verdict.warnings)
    return figure
