"""The card of the search: its health, and the code that trained its networks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.search_health.combined_health import convergence_caption, convergence_headline
from studies.analysis.search_health.search_health import SearchHealth
from studies.analysis.setting_verdicts import verdicts_of
from studies.analysis.study_tables import Tables
from studies.analysis.verdict_warnings import (
    health_of,
    merged_warnings,
    several_origins,
    together_of,
)

__all__ = ["cards"]


def cards(
    tables: Tables, isolation: DrawFunction[SearchHealth], convergence: DrawFunction[...]
) -> Iterator[Card]:
    """Whether the search can be trusted; if there are several settings, bounds are checked for
    each. Several searches are shown together, with warnings about each.

    Args:
        tables: the tables of the study.
        isolation: draws the best trial at each value of each parameter.
        convergence: draws the objective against the budget.
    """
    warnings, drawings = several_origins(tables.unstopped), []
    searches, title = tables.cached(health_of), "The health of the search"
    if searches:
        health = searches[0] if len(searches) == 1 else together_of(tables)
        latest, _ = tables.cached(verdicts_of)
        several = any(verdict.setting for verdict in latest)
        warnings += merged_warnings(
            [search.search_warnings() if several else search.warnings() for search in searches]
        )
        if len(searches) > 1:
            title = f"The health of {len(searches)} searches"
        each_shown = {"isolation": health}
        if len(health.arms) > 2:
            beside = {arm: {arm} for arm in health.arms}
            if tables.question.pairs:
                pairs = [of_pair.question.pair for of_pair in tables.against_reference]
                beside = {pair.arm: set(pair) for pair in pairs}
            each_shown = {f"isolation_{arm}": health.of(arms) for arm, arms in beside.items()}
        drawings = [
            *(
                Drawing(
                    name,
                    shown.isolation_headline(),
                    shown.isolation_caption(),
                    partial(isolation, shown),
                )
                for name, shown in each_shown.items()
            ),
            Drawing(
                "convergence",
                convergence_headline(searches),
                convergence_caption(health, searches),
                partial(convergence, health, searches),
            ),
        ]
    yield Card(title, drawings, warnings=warnings)
