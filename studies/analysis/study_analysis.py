"""Everything that a study's tables show, as one frozen result; no figure is drawn, no file read.

What there is depends on the study: a map has gain maps, a sweep over sizes has regimes, a search
has its health, and a confirmation has verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pandas as pd

from dynloss_core import keys
from studies.analysis.card import SUBJECTS, Card
from studies.analysis.gains.gain_map import GainMap, maps_of
from studies.analysis.gains.regimes import Regimes, regimes_of
from studies.analysis.ladder import Ladder, ladders_of
from studies.analysis.setting_verdicts import SettingVerdict, verdicts_of, winners_of
from studies.analysis.study_tables import Tables
from studies.definition.early_stopping import is_stopped

__all__ = ["Analysis", "analysis_of"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a study's tables show.

    Args:
        trials: searched trials of each arm, and how many of them diverged.
        stopped: how many of them were stopped early; they count only in the health of the search,
            as part of its budget.
        verdicts: the verdicts of the latest confirmation, one per scientific setting.
        by_seed: the test metric behind each verdict: a row per seed or search, a column per arm.
        look: the name of that look at it; None if there was none.
        compared: the rows that it compares (see `Tables.compared`).
        winners: the confirmed point of each arm, at the first setting.
        regimes: regimes by the parameter that sets the size, and by pair of arms if there are
            several.
        maps: gain maps by name, and by pair of arms if there are several.
        ladders: what gains are due to, one per scientific setting; empty without a ladder.
        cards: everything that is shown and written, in the order shown.
    """

    trials: dict[str, tuple[int, int]] = field(default_factory=dict)
    stopped: dict[str, int] = field(default_factory=dict)
    verdicts: tuple[SettingVerdict, ...] = ()
    by_seed: tuple[pd.DataFrame, ...] = ()
    look: str | None = None
    compared: pd.DataFrame = field(default_factory=pd.DataFrame)
    winners: dict[str, dict[str, object]] = field(default_factory=dict)
    regimes: dict[str, Regimes] = field(default_factory=dict)
    maps: dict[str, GainMap] = field(default_factory=dict)
    ladders: tuple[Ladder, ...] = ()
    cards: tuple[Card, ...] = ()

    def findings(self) -> list[str]:
        """The findings, in sentences, with claims on fresh seeds first."""
        return [
            sentence
            for subject in SUBJECTS
            for card in self.cards
            if card.subject == subject
            for sentence in card.sentences
        ]

    def warnings(self) -> list[str]:
        """All warnings, each once. Cards that other results depend on are shown last, but their
        warnings are listed first."""
        told = (warning for card in reversed(self.cards) for warning in card.warnings)
        return list(dict.fromkeys(told))

    def other_warnings(self) -> list[str]:
        """The warnings that belong to no verdict."""
        beside = {warning for verdict in self.verdicts for warning in verdict.warnings}
        return [warning for warning in self.warnings() if warning not in beside]


def analysis_of(tables: Tables, cards: Sequence[Card]) -> Analysis:
    """What the tables of a study show, finished or not, with the cards made from them."""
    tried, arms = tables.members[tables.is_searched], list(tables.question.spaces)
    rows = {arm: tried[tried[keys.ARM] == arm] for arm in arms}
    by = [keys.PHASE, keys.TRIAL]
    diverged = {arm: rows[arm].groupby(by)[keys.DIVERGED].any() for arm in arms}
    latest, by_seed = tables.cached(verdicts_of)
    return Analysis(
        trials={arm: (len(flags), int(flags.sum())) for arm, flags in diverged.items()},
        stopped={arm: len(r[is_stopped(r)].drop_duplicates(by)) for arm, r in rows.items()},
        verdicts=latest,
        by_seed=by_seed,
        look=tables.latest_look,
        compared=tables.compared,
        winners=winners_of(tables),
        regimes=tables.cached(regimes_of),
        maps=_by_pair(tables, maps_of),
        ladders=tables.cached(ladders_of),
        cards=tuple(cards),
    )


def _by_pair(tables: Tables, result_of: Callable[[Tables], dict[str, T]]) -> dict[str, T]:
    """A result of every arm against the reference, by its name and, if there are several, its pair
    of arms."""
    several = len(tables.question.pairs) > 1
    return {
        f"{name}, {of_pair.question.pair}" if several else name: result
        for of_pair in tables.against_reference
        for name, result in of_pair.cached(result_of).items()
    }
