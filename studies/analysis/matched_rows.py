"""The arm of a pair against its reference at the arm's settings: what a gain must hold against too
(see `studies.analysis.statistics.judge.against_both`)."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from dynloss_core import keys
from studies.analysis.question import Question
from studies.analysis.study_tables import Tables

__all__ = ["MatchedRows", "matched_rows"]


class MatchedRows(NamedTuple):
    """The networks of an arm and of its matched arm.

    Args:
        rows: what is compared, one row per arm and seed, or per arm and search.
        networks: the networks behind them, if rows stand for searches.
        question: the question that they ask.
    """

    rows: pd.DataFrame
    networks: pd.DataFrame | None
    question: Question


def matched_rows(tables: Tables, look: str) -> MatchedRows | None:
    """An arm and its matched arm in a look: of the rounds that the look compares, so that an old
    winner does not speak for the present one. None if the matched arm has no network in them.

    Args:
        tables: the tables of one pair.
        look: the name of the look.
    """
    matched = tables.matched
    if matched is None or look not in tables.looks:
        return None
    phases = tables.looks[look][keys.PHASE].unique()
    networks = matched.unstopped[matched.unstopped[keys.PHASE].isin(phases)]
    if networks[keys.ARM].nunique() < 2:
        return None
    several = tables.searches_in(look) > 1
    rows = matched.by_search(networks) if several else networks
    return MatchedRows(rows, networks if several else None, matched.question)
