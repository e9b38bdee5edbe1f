"""An analysis as cards: each has a title, what it says, its figures with their captions, its table.

Report and figures are made from the same results, so no caption speaks of what a figure lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from dynloss_core import keys
from studies.analysis.gains.gain_map import GainMap
from studies.analysis.gains.learning_curves import curves_caption, curves_headline
from studies.analysis.landscape.recorded_runs import RecordedRun
from studies.analysis.landscape.valleys import (
    ValleyRun,
    moving_caption,
    valleys_caption,
    valleys_headline,
)
from studies.analysis.setting_verdicts import SettingVerdict
from studies.analysis.study_analysis import Analysis

__all__ = [
    "Card",
    "Drawing",
    "cards",
    "regimes_name",
    "trajectories",
    "valleys_shown",
    "verdict_name",
]


@dataclass(frozen=True)
class Drawing:
    """A figure in words.

    Args:
        name: the name of its files.
        headline: what it shows.
        caption: what to read off it.
    """

    name: str
    headline: str
    caption: str


@dataclass(frozen=True, eq=False)
class Card:
    """One result.

    Args:
        title: its heading.
        drawings: its figures.
        paragraphs: what it says beside them.
        table: a small table, or None.
        table_caption: what the table shows.
    """

    title: str
    drawings: tuple[Drawing, ...] = ()
    paragraphs: tuple[str, ...] = ()
    table: pd.DataFrame | None = None
    table_caption: str = ""


def cards(analysis: Analysis) -> Iterator[Card]:
    """The cards of an analysis, in the order to show."""
    if analysis.verdicts:
        drawn = (Drawing(verdict_name(v), v.headline(), v.caption()) for v in analysis.verdicts)
        yield Card("Fresh seeds", tuple(drawn))
    for name, regime in analysis.regimes.items():
        yield Card(
            "From under- to overparametrized",
            (Drawing(regimes_name(name), regime.headline(), regime.caption()),),
            paragraphs=tuple(regime.sentences()[:1]),
            table=regime.table(),
            table_caption=f"Both arms at each {regime.name}, in both metrics.",
        )
    for name, gains in analysis.maps.items():
        yield _map(name, gains)
    if analysis.curves:
        curves = [curve for panel in analysis.curves for curve in panel]
        caption = curves_caption(curves, analysis.tail_start)
        drawing = Drawing("learning_curves", curves_headline(curves), caption)
        yield Card("Learning curves", (drawing,))
    yield from _landscape(analysis)
    if analysis.health is not None:
        health = analysis.health
        yield Card(
            "The health of the search",
            (
                Drawing("isolation", health.isolation_headline(), health.isolation_caption()),
                Drawing("convergence", health.convergence_headline(), health.convergence_caption()),
            ),
        )


def _map(name: str, gains: GainMap) -> Card:
    made = [f"Paired over {gains.n} seeds.", *gains.notes()]
    made.append("False discoveries over the cells are controlled at 5% (Benjamini-Hochberg).")
    drawing = Drawing(name, gains.headline(), gains.caption())
    return Card(gains.title, (drawing,), (" ".join(made),))


def _landscape(analysis: Analysis) -> Iterator[Card]:
    threshold, minima = analysis.threshold, analysis.minima
    if threshold is not None:
        yield Card(
            "The threshold of the instabilities",
            (Drawing("threshold", threshold.headline(), threshold.caption()),),
            table=threshold.table(),
            table_caption=f"One row per {threshold.name}." if threshold.name else "",
        )
    if minima is not None:
        yield Card(
            "Sharpness of the minima",
            (Drawing("minima", minima.headline(), minima.caption()),),
            table=minima.table(),
            table_caption=f"One row per {minima.name} and measure."
            if minima.name
            else "One row per measure.",
        )
    runs = trajectories(analysis)
    if runs:
        drawn = (Drawing(name, run.headline(), run.caption()) for name, run in runs.items())
        yield Card("Instabilities", tuple(drawn))
    if shown := valleys_shown(analysis):
        headline = valleys_headline(shown)
        yield Card(
            "The valley, moving",
            (
                Drawing("valleys", headline, valleys_caption(shown)),
                Drawing("valley_moving", headline, moving_caption(shown)),
            ),
        )


def verdict_name(verdict: SettingVerdict) -> str:
    """Names the files of a verdict's figure."""
    return "_".join(["verdict", *verdict.label.replace(",", "").split()])


def regimes_name(parameter: str) -> str:
    """Names the files of the figure over a size."""
    return f"regimes_{parameter.rpartition('.')[2]}"


def trajectories(analysis: Analysis) -> dict[str, RecordedRun]:
    """The first traced run of each arm, by the name of its figure."""
    if analysis.recorded is None:
        return {}
    found: dict[str, RecordedRun] = {}
    for arm in (keys.DYNAMICAL, keys.STATIC):
        traced = [run for run in analysis.recorded.of(arm) if not run.trace.empty]
        found |= {f"trajectory_{arm}": run for run in traced[:1]}
    return found


def valleys_shown(analysis: Analysis) -> list[ValleyRun]:
    """The first run whose valleys are known, and the first of another arm that has its seed and
    moments."""
    if not analysis.valleys:
        return []
    first, *rest = analysis.valleys
    others = [run for run in rest if run.arm != first.arm and run.seed == first.seed]
    return [first, *(run for run in others if list(run.steps) == list(first.steps))][:2]
