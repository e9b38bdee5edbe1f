"""The cards of the verdicts: the winners on fresh seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.setting_verdicts import SettingVerdict, verdicts_in, verdicts_of
from studies.analysis.statistics.equivalence import OUTCOME_IN_WORDS
from studies.analysis.study_tables import Tables

__all__ = ["cards", "comparison_table"]


def cards(
    tables: Tables,
    draw: DrawFunction[pd.DataFrame, SettingVerdict],
    overview: DrawFunction[Sequence[SettingVerdict]],
) -> Iterator[Card]:
    """The winners on fresh seeds, in the latest look and in earlier ones: one figure per verdict,
    or one for all verdicts if several pairs are compared."""
    latest, by_seed = tables.cached(verdicts_of)
    sentences = [verdict.sentence() for verdict in latest]
    for look in tables.looks:
        if look != tables.latest_look:  # chosen from an earlier state of the search: no health
            earlier, _ = verdicts_in(tables, look, [])
            sentences += [f"Earlier look ({look}). {verdict.sentence()}" for verdict in earlier]
    if not sentences:
        return
    warnings = [warning for verdict in latest for warning in verdict.warnings]
    if len(tables.question.pairs) > 1:
        table = comparison_table(latest)
        yield Card(
            "Fresh seeds",
            [
                Drawing("comparisons", *_overview_words(shown), partial(overview, shown))
                for shown in [latest]
                if shown  # of a second search none is confirmed yet
            ],
            table=table if latest else None,
            table_caption="Every comparison, on the same fresh seeds.",
            files={"comparisons.csv": table} if latest else {},
            sentences=sentences,
            subject="winners",
            warnings=warnings,
        )
        return
    drawings = [
        Drawing(_figure_name(v), v.headline(), v.caption(), partial(draw, rows, v))
        for v, rows in zip(latest, by_seed, strict=True)
    ]
    yield Card("Fresh seeds", drawings, sentences=sentences, subject="winners", warnings=warnings)


def comparison_table(verdicts: Sequence[SettingVerdict]) -> pd.DataFrame:
    """One row per verdict: the arms, the difference and its interval, and the outcome."""
    return pd.DataFrame(
        [
            {
                **verdict.setting,
                "arm": verdict.test.pair.arm,
                "reference": verdict.test.pair.reference,
                "metric": verdict.test.metric,
                "arm_mean": verdict.test.arm.mean,
                "reference_mean": verdict.test.reference.mean,
                "difference": verdict.test.difference,
                "low": verdict.test.low,
                "high": verdict.test.high,
                "n": verdict.test.n,
                "p_adjusted": verdict.p_adjusted,
                "p_equivalence": verdict.test.p_equivalence,
                "outcome": verdict.test.outcome,
                "holds_for": verdict.test.holds_for,
                "arm_diverged": verdict.test.arm.diverged,
                "reference_diverged": verdict.test.reference.diverged,
            }
            for verdict in verdicts
        ]
    )


def _overview_words(verdicts: Sequence[SettingVerdict]) -> tuple[str, str]:
    """Headline and caption of the figure of all verdicts."""
    counts = Counter(verdict.test.outcome for verdict in verdicts)
    names = OUTCOME_IN_WORDS.items()
    counted = ", ".join(f"{counts[name]} {words}" for name, words in names if counts[name])
    caption = (
        "Each comparison of two arms on fresh seeds: the mean paired difference and its "
        f"{verdicts[0].test.level * 100:.4g}% interval, which is for this comparison alone. "
        "Filled: significant over all comparisons (Holm, 5%)."
    )
    return f"{len(verdicts)} comparisons on fresh seeds: {counted}", caption


def _figure_name(verdict: SettingVerdict) -> str:
    return "_".join(["verdict", *verdict.label.replace(",", "").split()])
