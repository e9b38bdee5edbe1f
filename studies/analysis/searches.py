"""Search by search: how the winners of each search compare on their own fresh seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.setting_verdicts import SettingVerdict, verdicts_of
from studies.analysis.settings import by_setting, point_of
from studies.analysis.statistics.comparison import Comparison, compare
from studies.analysis.statistics.pairing import paired_by_seed, search_number
from studies.analysis.study_tables import Tables

__all__ = ["SearchGain", "cards"]


@dataclass(frozen=True)
class SearchGain:
    """The winners of one search, compared.

    Args:
        search: the number of the search.
        points: the winner of each arm, with the period in steps.
        comparison: the first arm minus the second, over the fresh seeds of this search.
    """

    search: int
    points: dict[str, dict[str, object]]
    comparison: Comparison


def cards(
    tables: Tables, draw: DrawFunction[Sequence[tuple[SettingVerdict, Sequence[SearchGain]]]]
) -> Iterator[Card]:
    """Every search beside the verdict on all of them; nothing for a study with one search."""
    if tables.searches == 1:
        return
    verdicts, _ = tables.cached(verdicts_of)
    comparisons = [(verdict, list(_gains(tables, verdict))) for verdict in verdicts]
    if not comparisons:
        return
    level = f"{verdicts[0].test.level * 100:.4g}%"
    caption = (
        "Circles: the mean paired difference of each search's winners, with a 95% interval over "
        "its own fresh seeds, which is about these two winners alone. Diamond: the mean over "
        f"searches and its {level} interval, which is about searching as such."
    )
    headline = f"{tables.searches} searches, each with its own winners and fresh seeds"
    table = _table(comparisons)
    yield Card(
        "Search by search",
        [Drawing("searches", headline, caption, partial(draw, comparisons))],
        paragraphs=[
            f"{verdict.label.capitalize() or str(verdict.test.pair).capitalize()}: "
            f"{verdict.test.luck.sentence()}."
            for verdict in verdicts
            if verdict.test.luck is not None
        ],
        table=table,
        table_caption="The winners of each search, and how they compare on its fresh seeds.",
        files={"searches.csv": table},
    )


def _gains(tables: Tables, verdict: SettingVerdict) -> Iterator[SearchGain]:
    """The gains of one comparison, search by search."""
    pair, metric = verdict.test.pair, verdict.test.metric
    for setting, rows in by_setting(tables.fresh_networks, tables.question.scientific):
        if setting != verdict.setting:
            continue
        of_pair = rows[rows[keys.ARM].isin(pair)]
        for number, networks in of_pair.groupby(search_number(of_pair)):
            if set(networks[keys.ARM]) != set(pair):
                continue
            by_seed = paired_by_seed(networks, metric)
            if len(by_seed) >= 2:
                difference = (by_seed[pair.arm] - by_seed[pair.reference]).to_numpy(dtype=float)
                points = {arm: point_of(tables.question, networks, arm) for arm in pair}
                yield SearchGain(int(str(number)), points, compare(difference))


def _table(comparisons: Sequence[tuple[SettingVerdict, Sequence[SearchGain]]]) -> pd.DataFrame:
    """One row per comparison and search."""
    return pd.DataFrame(
        [
            {
                **verdict.setting,
                "search": gain.search,
                "arm": verdict.test.pair.arm,
                "reference": verdict.test.pair.reference,
                "metric": verdict.test.metric,
                "difference": gain.comparison.mean,
                "low": gain.comparison.low,
                "high": gain.comparison.high,
                "n": gain.comparison.n,
                **{
                    f"{role}_{name.rpartition('.')[2]}": value
                    for role, arm in zip(("arm", "reference"), verdict.test.pair, strict=True)
                    for name, value in gain.points[arm].items()
                    if name not in verdict.setting
                },
            }
            for verdict, gains in comparisons
            for gain in gains
        ]
    )
