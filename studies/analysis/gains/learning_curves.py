"""Learning curves: a metric over the steps, with its spread over seeds or, as in the verdict, over
searches if there are several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.question import stop_of
from studies.analysis.setting_verdicts import winners_of
from studies.analysis.settings import by_setting
from studies.analysis.statistics.pairing import search_number
from studies.analysis.study_tables import Tables

__all__ = ["LearningCurve", "cards", "curves_caption", "curves_headline", "learning_curves"]

_SHOWN = (keys.VALIDATION_ACCURACY, keys.TRAIN_ACCURACY, keys.TRAIN_LOSS)


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """One arm's curve at K evaluations.

    Args:
        arm: the arm.
        metric: what is shown.
        steps: (K,) steps of the evaluations.
        mean: (K,) over seeds or searches, geometric for a loss.
        low: (K,) lower end of the interval of the mean.
        high: (K,) upper end.
        n: the most seeds, or searches, at any evaluation.
        fewest: the fewest, where networks diverged on the way.
        of: what is counted.
    """

    arm: str
    metric: str
    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: int
    fewest: int
    of: Literal["seeds", "searches"] = "seeds"

    @property
    def label(self) -> str:
        """The arm and its sample size."""
        fewer = f", at times {self.fewest}" if self.fewest < self.n else ""
        what = " searches" if self.of == "searches" else ""
        return f"{self.arm} (n = {self.n}{what}{fewer})"


def cards(tables: Tables, draw: DrawFunction[...]) -> Iterator[Card]:
    """The curves of the winners, one panel per metric; only for a single setting."""
    confirm, scientific = tables.compared, tables.question.scientific
    if tables.curves.empty or not winners_of(tables) or len(by_setting(confirm, scientific)) != 1:
        return
    fresh, several = tables.fresh_networks, tables.searches > 1
    rows = tables.curves[tables.curves[keys.PHASE].isin(fresh[keys.PHASE].unique())]
    panels = [learning_curves(rows, metric, searches=several) for metric in _SHOWN]
    curves = [curve for panel in panels for curve in panel]
    tail_start = _tail_start(fresh, tables.question.tail)
    caption = curves_caption(curves, tail_start)
    drawing = Drawing(
        "learning_curves",
        curves_headline(curves),
        caption,
        partial(draw, panels, tail_start=tail_start),
    )
    yield Card("Learning curves", [drawing])


def _tail_start(confirm: pd.DataFrame, tail: float) -> int | None:
    """The step from which every winner trains statically; None if none oscillates."""
    rows = confirm[confirm[keys.PERIOD].notna()]
    if rows.empty:
        return None
    steps = int(rows[keys.STEPS].iloc[0])
    periods = rows[keys.PERIOD].unique()
    return max(stop_of(steps, tail, period) for period in periods)


def learning_curves(
    curves: pd.DataFrame, metric: str, *, searches: bool = False
) -> list[LearningCurve]:
    """The curve of each arm: mean over seeds with its t interval; diverged members are left out.

    Losses span decades, so their logarithms are averaged, which gives the geometric mean.

    Args:
        curves: rows of the curves table with one trial per arm and search.
        metric: column to show.
        searches: whether the seeds of each search are averaged first, so that the interval is over
            searches.
    """
    arm_curves = []
    for arm, rows in curves.groupby(keys.ARM, sort=True):
        table = rows.pivot(index=keys.STEP, columns=keys.SEED, values=metric)
        in_logs = metric.endswith("loss")
        values = table.clip(lower=np.finfo(float).tiny).map(np.log) if in_logs else table
        if searches:
            of_seed = rows.drop_duplicates(keys.SEED).set_index(keys.SEED)
            values = values.T.groupby(search_number(of_seed).reindex(values.columns)).mean().T
        n = values.count(axis=1).to_numpy()
        mean = values.mean(axis=1).to_numpy()
        half = stats.t.ppf(0.975, np.maximum(n - 1, 1)) * values.sem(axis=1).to_numpy()
        back = np.exp if in_logs else np.asarray
        arm_curves.append(
            LearningCurve(
                arm=str(arm),
                metric=metric,
                steps=table.index.to_numpy(),
                mean=back(mean),
                low=back(mean - half),
                high=back(mean + half),
                n=int(n.max()),
                fewest=int(n.min()),
                of="searches" if searches else "seeds",
            )
        )
    return arm_curves


def curves_headline(curves: Sequence[LearningCurve]) -> str:
    """What the figure of the winners' curves shows."""
    arms = sorted({curve.arm for curve in curves})
    whose = "Winners of both arms" if len(arms) == 2 else f"Winners of {len(arms)} arms"
    if len(arms) == 1:
        whose = f"Winner of the {arms[0]} arm"
    interval = " and 95% interval" if max(c.n for c in curves) > 1 else ""
    return f"{whose} on fresh seeds: mean{interval}"


def curves_caption(curves: Sequence[LearningCurve], tail_start: int | None) -> str:
    """How to read that figure."""
    text = f"{curves_headline(curves)}; the mean of a loss is geometric."
    if any(curve.of == "searches" for curve in curves):
        text += " The seeds of each search are averaged; the interval is over searches."
    if any(curve.fewest < curve.n for curve in curves):
        text += " Diverged networks are left out."
    if tail_start is not None and tail_start < max(curve.steps[-1] for curve in curves):
        text += " Shaded: the oscillation is over."
    return text
