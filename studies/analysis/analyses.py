"""All analyses of a study, in the order in which their cards are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import pandas as pd

from studies.analysis import ladder, search_card, searches, verdict_cards
from studies.analysis.card import Card
from studies.analysis.figures.comparisons import draw_comparisons, draw_ladder
from studies.analysis.figures.gain_map import draw_gain_map
from studies.analysis.figures.landscape.minima import draw_minima
from studies.analysis.figures.landscape.threshold import draw_threshold
from studies.analysis.figures.landscape.trajectory import draw_trajectory
from studies.analysis.figures.landscape.valley import animate_valleys, draw_valleys
from studies.analysis.figures.learning_curves import draw_learning_curves
from studies.analysis.figures.regimes import draw_regimes
from studies.analysis.figures.search_health import draw_convergence, draw_isolation
from studies.analysis.figures.searches import draw_searches
from studies.analysis.figures.speed import draw_speed
from studies.analysis.figures.style import arms_of_study
from studies.analysis.figures.verdict import draw_verdict
from studies.analysis.gains import gain_map, learning_curves, regimes, speed
from studies.analysis.landscape import instabilities, minima, peristalsis, threshold, valleys
from studies.analysis.question import Question
from studies.analysis.study_analysis import Analysis, analysis_of
from studies.analysis.study_tables import Tables
from studies.analysis.user_analyses import AnalysisFunction

__all__ = ["ANALYSES", "analyse"]


def pairwise_analysis(cards: AnalysisFunction) -> AnalysisFunction:
    """Turn an analysis of two arms into one of each arm against the study's reference."""

    def study_cards(tables: Tables) -> Iterator[Card]:
        pairs = tables.against_reference
        for of_pair in pairs:
            for card in cards(of_pair):
                yield (
                    card if len(tables.question.pairs) < 2 else card.of_pair(*of_pair.question.pair)
                )

    return study_cards


ANALYSES: dict[str, AnalysisFunction] = {
    "verdicts": partial(verdict_cards.cards, draw=draw_verdict, overview=draw_comparisons),
    "searches": partial(searches.cards, draw=draw_searches),
    "ladder": partial(ladder.cards, draw=draw_ladder),
    "regimes": partial(regimes.cards, draw=draw_regimes),
    "gain maps": pairwise_analysis(partial(gain_map.cards, draw=draw_gain_map)),
    "speed": partial(speed.cards, draw=draw_speed),
    "learning curves": partial(learning_curves.cards, draw=draw_learning_curves),
    "recorded runs": instabilities.cards,
    "peristalsis": peristalsis.cards,
    "threshold": partial(threshold.cards, draw=draw_threshold),
    "minima": pairwise_analysis(partial(minima.cards, draw=draw_minima)),
    "trajectories": partial(instabilities.trajectory_cards, draw=draw_trajectory),
    "valleys": partial(valleys.cards, draw=draw_valleys, animate=animate_valleys),
    "search": partial(search_card.cards, isolation=draw_isolation, convergence=draw_convergence),
}


def analyse(
    members: pd.DataFrame,
    curves: pd.DataFrame,
    question: Question,
    recorded: Mapping[str, pd.DataFrame] | None = None,
    own: Mapping[str, AnalysisFunction] | None = None,
) -> Analysis:
    """Analyse a study, finished or not, with the results so far.

    Args:
        members: the members table.
        curves: the curves table; can be empty.
        question: what the tables do not say.
        recorded: further recorded tables by kind (see `studies.blocks.recorder.KINDS`).
        own: further analyses by name, shown after the suite's own (see `user_analyses`).
    """
    if members.empty:
        return Analysis()
    tables = Tables.of(members, curves, question, recorded or {})
    styled = partial(arms_of_study, list(question.spaces))
    return analysis_of(
        tables,
        [
            replace(card, drawings=[drawing.wrapped(styled) for drawing in card.drawings])
            for cards in (*ANALYSES.values(), *(own or {}).values())
            for card in cards(tables)
        ],
    )
