"""Warnings about a verdict: from the searches behind it, its networks and its data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from dynloss_core import keys
from studies.analysis.question import Question, stop_of
from studies.analysis.search_health.arm_trials import arm_trials
from studies.analysis.search_health.combined_health import trials_together
from studies.analysis.search_health.grid_spacing import too_coarse
from studies.analysis.search_health.isolation import near_bounds
from studies.analysis.search_health.search_health import SearchHealth, search_health
from studies.analysis.settings import label_of
from studies.analysis.statistics.comparison import Comparison
from studies.analysis.statistics.verdict import Verdict, withheld_because
from studies.analysis.study_tables import Tables

__all__ = [
    "ONE_SPLIT",
    "ONE_TEST_SET",
    "counted_warnings",
    "health_of",
    "merged_warnings",
    "several_origins",
    "together_of",
    "warnings_of",
]

ONE_SPLIT = "all seeds share one split of the data: the intervals do not cover other data"
ONE_TEST_SET = "all searches share one test set: the intervals do not cover other test data"
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
_SIGNIFICANT = 0.05


def health_of(tables: Tables) -> list[SearchHealth]:
    """The health of each search; importances, which are slow, are computed for all together."""
    searches = tables.rows_by_search
    alone = len(searches) == 1
    healths = (_health_in(tables, tried, importances=alone) for tried in searches)
    return [health for health in healths if health is not None]


def together_of(tables: Tables) -> SearchHealth:
    """The health of a study's searches, treated as one search."""
    health = _health_in(tables, trials_together(tables.rows_by_search), importances=True)
    assert health is not None
    return health


def _health_in(tables: Tables, tried: pd.DataFrame, *, importances: bool) -> SearchHealth | None:
    question = tables.question
    return search_health(
        tried,
        question.spaces,
        question.objective,
        adaptive=question.adaptive,
        epochs=question.epochs,
        margin=question.margin,
        with_importances=importances,
    )


def merged_warnings(warnings: Sequence[Sequence[str]]) -> list[str]:
    """The warnings about several searches, each once: if warnings differ only in their numbers, the
    first represents all."""
    if len(warnings) < 2:
        return [warning for search in warnings for warning in search]
    by_text: dict[str, list[tuple[int, str]]] = {}
    for number, of_search in enumerate(warnings, start=1):
        for warning in of_search:
            by_text.setdefault(_NUMBER.sub("", warning), []).append((number, warning))
    return [
        f"in {len(same)} of {len(warnings)} searches, such as number {same[0][0]}: {same[0][1]}"
        for same in by_text.values()
    ]


def counted_warnings(warnings: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """How many of several verdicts have a warning, and the warning, the commonest first: if
    warnings differ only in their numbers, the first represents all."""
    by_text: dict[str, list[str]] = {}
    for of_verdict in warnings:
        known = {_NUMBER.sub("", warning): warning for warning in reversed(of_verdict)}
        for text, warning in known.items():
            by_text.setdefault(text, []).append(warning)
    counted = []
    for same in by_text.values():
        example = "for example, " if len(set(same)) > 1 else ""
        counted.append((len(same), f"{example}{same[0]}"))
    return sorted(counted, key=lambda each: -each[0])


def warnings_of(
    test: Verdict,
    setting: Mapping[str, object],
    tables: Tables,
    health: Sequence[SearchHealth],
    missed: Comparison | None,
    *,
    lacks_matched: bool = False,
) -> list[str]:
    """Reasons to doubt the verdict on a pair of arms, one sentence each.

    Args:
        test: the verdict.
        setting: its scientific setting.
        tables: the tables of the pair.
        health: the health of each search; empty leaves the searches out.
        missed: the reference at the settings of the arm's winner, minus the reference at its own.
        lacks_matched: whether the former was to be trained, and was not on all seeds.
    """
    where = f"at {label_of(setting)}: " if setting else ""
    shared = merged_warnings([search.search_warnings() for search in health])
    if tables.question.one_split:
        shared.append(ONE_SPLIT if tables.searches == 1 else ONE_TEST_SET)
    own = list(_own(test, setting, tables, missed, searched=bool(health)))
    if lacks_matched:
        arm, reference = test.pair
        own.insert(
            0,
            f"{reference} was not trained at the settings of {arm} on all of these seeds, so that "
            "no gain is claimed: run the study again with --resume",
        )
    origins = several_origins(tables.fresh_networks, *tables.rows_by_search)
    return [*origins, *(f"{where}{warning}" for warning in own), *shared]


def _own(
    test: Verdict,
    setting: Mapping[str, object],
    tables: Tables,
    missed: Comparison | None,
    *,
    searched: bool,
) -> Iterator[str]:
    """The warnings about this verdict alone."""
    if searched:
        searches = tables.rows_by_search
        yield from merged_warnings(
            [_beside_the_best(s, tables.question, setting) for s in searches]
        )
    up = keys.higher_is_better(test.metric)
    if missed is not None and missed.p_t < _SIGNIFICANT and (missed.mean > 0) == up:
        arm, reference = test.pair
        yield (
            f"{reference} is better at the settings of {arm} than at its own, by "
            f"{abs(missed.mean):.3g}: its search missed its optimum"
        )
    if test.withheld is not None:
        yield withheld_because(test)
    if test.failures is not None and (test.of_trained or test.withheld is not None):
        yield test.unseen_failures()
    best = max(test.arm.mean, test.reference.mean)
    if up and best <= tables.question.chance:
        yield f"neither arm does better than guessing, {tables.question.chance:.3f}"
    yield from _unfinished_turns(tables, setting)
    if test.luck is not None and test.n < tables.searches:
        lost = tables.searches - test.n
        yield f"{lost} of {tables.searches} searches have no fresh networks in one of the arms"


def _unfinished_turns(tables: Tables, setting: Mapping[str, object]) -> Iterator[str]:
    """Whether runs of an arm's winner oscillate for less than a period: no turn came to its end."""
    rows = tables.fresh_networks
    for name, value in setting.items():
        rows = rows[rows[name] == value]
    if keys.PERIOD not in rows or keys.STEPS not in rows:
        return
    for arm, networks in rows.dropna(subset=[keys.PERIOD]).groupby(keys.ARM):
        points = networks[[keys.PERIOD, keys.STEPS]].drop_duplicates().to_numpy(dtype=float)
        ends = [(period, stop_of(steps, tables.question.tail, period)) for period, steps in points]
        if long := [(period, stop) for period, stop in ends if period > stop]:
            period, stop = long[0]
            yield (
                f"a winner of {arm} has a period of {period:,.0f} steps, and oscillates for "
                f"{stop:,}: no turn came to its end"
            )


def several_origins(*tables: pd.DataFrame) -> list[str]:
    """A warning if the networks of members tables have several origins, whose differences are then
    part of every comparison."""
    columns = [table[keys.ORIGIN] for table in tables if keys.ORIGIN in table]
    origins = pd.concat(columns).fillna("unknown").unique() if columns else []
    if len(origins) < 2:
        return []
    names = ", ".join(sorted(str(name) for name in origins))
    return [f"its networks were trained with {len(origins)} states of the code: {names}"]


def _beside_the_best(
    search: pd.DataFrame, question: Question, setting: Mapping[str, object]
) -> list[str]:
    """Whether an arm's best is near a bound, or far from the next value tried, among the trials of
    one setting: other settings have another best."""
    for name, value in setting.items():
        search = search[search[name] == value]
    sentences = []
    for arm, space in question.spaces.items():
        if (search[keys.ARM] == arm).any():
            trials = arm_trials(search, arm, space, question.objective, epochs=question.epochs)
            sentences += [near.sentence() for near in near_bounds(trials, space)]
            sentences += [
                coarse.sentence() for coarse in too_coarse(trials, space, question.margin)
            ]
    return sentences
