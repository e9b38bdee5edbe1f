"""The verdicts of a study: one for each scientific setting, with its warnings.

The warnings about a verdict are part of it: they are shown wherever the verdict is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import pandas as pd

from dynloss_core import keys
from studies.analysis.matched_rows import matched_rows
from studies.analysis.question import Question
from studies.analysis.search_health.search_health import SearchHealth
from studies.analysis.settings import by_setting, label_of, point_of
from studies.analysis.statistics.alpha_spending import level_of_look
from studies.analysis.statistics.comparison import Comparison, compare
from studies.analysis.statistics.equivalence import OUTCOME_IN_WORDS
from studies.analysis.statistics.evidence import Evidence, counted_p
from studies.analysis.statistics.judge import differ_from_both, evidence_of_rows, judge
from studies.analysis.statistics.multiplicity import Method
from studies.analysis.statistics.pairing import paired_by_seed
from studies.analysis.statistics.verdict import Verdict
from studies.analysis.study_tables import Tables
from studies.analysis.verdict_warnings import health_of, warnings_of
from studies.definition.arms import matched_name

__all__ = [
    "SettingVerdict",
    "verdicts_in",
    "verdicts_of",
    "winners_of",
]


T = TypeVar("T")


@dataclass(frozen=True)
class SettingVerdict:
    """The winners of two arms on fresh seeds, at one scientific setting.

    Args:
        setting: scientific parameters; empty if the study has none.
        test: verdict on the test metric: the claim.
        validation: the same comparison on the metric that chose the winners.
        points: the point of each arm, with the period in steps.
        p_adjusted: p value of the claim, adjusted for the number of claims: over settings
            (Benjamini-Hochberg), or over settings and pairs of arms (Holm). The outcome counts them
            all.
        compared: number of claims that it is adjusted for.
        pairs: number of pairs of arms that the study compares.
        look: number of the round, from 1, which enters the outcome and the interval.
        warnings: reasons to doubt it, one sentence each.
    """

    setting: dict[str, object]
    test: Verdict
    validation: Verdict
    points: dict[str, dict[str, object]]
    p_adjusted: float
    compared: int = 1
    pairs: int = 1
    look: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`width 50`; empty if the study has no scientific setting."""
        return label_of(self.setting)

    def sentence(self) -> str:
        """The verdict in words; with several claims, also the p value that counts them all."""
        return "; ".join((f"{self._at}{self.test.sentence()}", *self._of_all())) + "."

    def lines(self) -> tuple[str, ...]:
        """The same, as the claim and then a phrase for each thing that it rests on."""
        return (f"{self._at}{self.test.claim()}", *self.test.details(), *self._of_all())

    @property
    def _at(self) -> str:
        return f"At {self.label}: " if self.label else ""

    def _of_all(self) -> Iterator[str]:
        """What the comparison has from those beside it: other settings, rounds and searches."""
        if self.compared > 1:
            yield f"p = {self.p_adjusted:.2g} over {self.counted}"
        if self.look > 1:
            yield f"look {self.look}, at all fresh seeds of these winners"
        if self.test.luck is not None:
            yield self.test.luck.sentence()

    @property
    def pair_in_words(self) -> str:
        """The arms, if the study compares several pairs; else empty."""
        return str(self.test.pair) if self.pairs > 1 else ""

    @property
    def counted(self) -> str:
        """What its p value is adjusted over, and how: `9 comparisons (Holm)`."""
        of_one_pair = "settings (Benjamini and Hochberg)"
        return f"{self.compared} {of_one_pair if self.pairs < 2 else 'comparisons (Holm)'}"

    def headline(self) -> str:
        """What its figure shows."""
        outcome, where = self.test.outcome, f" at {self.label}" if self.label else ""
        claim = OUTCOME_IN_WORDS[outcome].capitalize()
        if outcome == "equivalent":
            claim += f" within ±{self.test.margin or 0:g}"
        elif outcome != "undecided":
            claim = f"{self.test.pair.losses[0].capitalize()} is {OUTCOME_IN_WORDS[outcome]}"
        if self.test.of_trained:
            claim = f"Of networks that train: {claim[0].lower()}{claim[1:]}"
        over = "on fresh seeds" if self.test.luck is None else f"over {self.test.n} searches"
        return f"{claim}{where} {over}"

    def caption(self) -> str:
        """How to read its figure."""
        test = self.test
        unit = "seed's pair of networks" if test.luck is None else "search's means over fresh seeds"
        text = (
            f"First panel: each {unit}, with mean and standard deviation of both arms. "
            "Second: the differences within pairs, their mean and its "
            f"{test.level * 100:.4g}% interval."
        )
        if test.arm.diverged or test.reference.diverged:
            counts = "counts as accuracy 0" if keys.higher_is_better(test.metric) else "is left out"
            text += f" A diverged network {counts}."
        return text


def winners_of(tables: Tables) -> dict[str, dict[str, object]]:
    """The confirmed point of each arm, at the first setting."""
    (_, first), *_ = by_setting(tables.compared, tables.question.scientific) or [
        ({}, tables.compared)
    ]
    arms = [arm for arm in tables.question.spaces if (first[keys.ARM] == arm).any()]
    return {arm: point_of(tables.question, first, arm) for arm in arms}


def verdicts_of(
    tables: Tables,
) -> tuple[tuple[SettingVerdict, ...], tuple[pd.DataFrame, ...]]:
    """The verdicts of the latest look, pair by pair, and the test metric by seed behind each."""
    if tables.latest_look is None:
        return (), ()
    return verdicts_in(tables, tables.latest_look, tables.cached(health_of))


class _Comparison(NamedTuple):
    """A comparison before its p values are adjusted for the others.

    Args:
        tables: the tables of its pair of arms.
        setting: the scientific setting.
        rows: what is compared, one row per arm and seed, or per arm and search.
        networks: the networks behind the rows, if rows stand for searches.
        by_seed: the test metric, one row per seed or search, one column per arm.
        metric: the name of the test metric.
        evidence: the arm against its reference.
        against_matched: the arm against the reference at the arm's settings.
        matched_gain: the reference at the arm's settings against the reference at its own.
        lacks_matched: whether the reference was to be trained at the arm's settings, and was not on
            all seeds of the arm, or not after all of its searches.
    """

    tables: Tables
    setting: dict[str, object]
    rows: pd.DataFrame
    networks: pd.DataFrame | None
    by_seed: pd.DataFrame
    metric: str
    evidence: Evidence
    against_matched: Evidence | None
    matched_gain: Comparison | None
    lacks_matched: bool


def verdicts_in(
    tables: Tables, look: str, health: Sequence[SearchHealth]
) -> tuple[tuple[SettingVerdict, ...], tuple[pd.DataFrame, ...]]:
    """The verdicts of a given look; `health` describes the searches that chose its winners."""
    comparisons = [
        compared for of_pair in tables.of_pairs for compared in _comparisons(of_pair, look)
    ]
    if not comparisons:
        return (), ()
    number = tables.number_of(look)
    pairs, margin = len(tables.question.pairs), tables.question.margin
    method: Method = "benjamini-hochberg" if pairs < 2 else "holm"
    up = keys.higher_is_better(comparisons[0].metric)
    counted_by_comparison = counted_p(
        [compared.evidence for compared in comparisons],
        margin,
        method=method,
        look=number,
        differ=[
            differ_from_both(
                compared.evidence,
                compared.against_matched,
                higher_is_better=up,
                is_missing=compared.lacks_matched,
            )
            for compared in comparisons
        ],
    )
    verdicts = []
    for comparison, counted in zip(comparisons, counted_by_comparison, strict=True):
        question = comparison.tables.question
        test = judge(
            comparison.rows,
            comparison.metric,
            question.pair,
            margin=margin,
            counted=counted,
            fails_below=question.fails_below,
            chance=question.chance,
            look=number,
            networks=comparison.networks,
            matched=comparison.against_matched,
            lacks_matched=comparison.lacks_matched,
        )
        validation = judge(
            comparison.rows,
            question.objective,
            question.pair,
            margin=margin,
            networks=comparison.networks,
        )
        verdict = SettingVerdict(
            setting=comparison.setting,
            test=test,
            validation=validation,
            points={arm: point_of(question, comparison.rows, arm) for arm in question.spaces},
            p_adjusted=counted.trained_differ if test.of_trained else counted.differ,
            compared=len(comparisons),
            pairs=pairs,
            look=number,
        )
        health_of_pair = [of_search.of(question.spaces) for of_search in health]
        warnings = warnings_of(
            test,
            comparison.setting,
            comparison.tables,
            health_of_pair,
            comparison.matched_gain,
            lacks_matched=comparison.lacks_matched,
        )
        verdicts.append(replace(verdict, warnings=tuple(warnings)))
    return tuple(verdicts), tuple(compared.by_seed for compared in comparisons)


def _comparisons(tables: Tables, look: str) -> Iterator[_Comparison]:
    """The comparison of one pair at each setting of a look with both arms."""
    question = tables.question
    if look not in tables.looks:
        return
    metric = keys.on_test_set(question.objective)
    networks_at: list[tuple[dict[str, object], pd.DataFrame]] = []
    level = level_of_look(tables.number_of(look))
    if tables.searches_in(look) > 1:
        networks_at = by_setting(tables.looks[look], question.scientific)
    matched_at = _matched(tables, look, metric, level)
    for setting, rows in by_setting(tables.compared_in(look), question.scientific):
        networks = _at(setting, networks_at)
        compared = _compared(rows, metric, question, networks, level)
        if compared is None:
            continue
        by_seed, evidence = compared
        against_matched = matched_gain = None
        matched, name = _at(setting, matched_at), matched_name(question.pair)
        lacks = name in question.matched
        if matched is not None:
            matched_by_seed, against_matched, seeds = matched
            lacks &= not set(rows.loc[rows[keys.ARM] == question.pair.arm, keys.SEED]) <= seeds
            reference = question.pair.reference
            joined = by_seed[[reference]].join(matched_by_seed[[name]], how="inner")
            if len(joined) > 1:
                matched_gain = compare((joined[name] - joined[reference]).to_numpy(dtype=float))
        yield _Comparison(
            tables=tables,
            setting=setting,
            rows=rows,
            networks=networks,
            by_seed=by_seed,
            metric=metric,
            evidence=evidence,
            against_matched=against_matched,
            matched_gain=matched_gain,
            lacks_matched=lacks,
        )


def _matched(
    tables: Tables, look: str, metric: str, level: float
) -> list[tuple[dict[str, object], tuple[pd.DataFrame, Evidence, set[int]]]]:
    """The arm of a pair against the reference at the settings of the arm's winner, at each
    scientific setting of a look with both: the metric by seed, the differences, and the seeds, or
    searches, that the reference was trained on."""
    matched = matched_rows(tables, look)
    if matched is None:
        return []
    scientific, networks_at = tables.question.scientific, []
    if matched.networks is not None:
        networks_at = by_setting(matched.networks, scientific)
    results = []
    for at, rows in by_setting(matched.rows, scientific):
        networks = _at(at, networks_at)
        compared = _compared(rows, metric, matched.question, networks, level)
        if compared is not None:
            trained = rows.loc[rows[keys.ARM] == matched.question.pair.reference, keys.SEED]
            results.append((at, (*compared, set(trained))))
    return results


def _at(setting: dict[str, object], settings: Sequence[tuple[dict[str, object], T]]) -> T | None:
    """The entry for a setting; None if there is none."""
    return next((entry for at, entry in settings if at == setting), None)


def _compared(
    rows: pd.DataFrame,
    metric: str,
    question: Question,
    networks: pd.DataFrame | None,
    level: float,
) -> tuple[pd.DataFrame, Evidence] | None:
    """A pair's metric by seed or search, and the evidence; None without both arms on two of
    them."""
    if set(rows[keys.ARM]) != set(question.pair):
        return None
    by_seed = paired_by_seed(rows, metric)
    if len(by_seed) < 2:
        return None
    return by_seed, evidence_of_rows(
        rows,
        metric,
        question.pair,
        networks=networks,
        level=level,
        below=question.fails_below,
        chance=question.chance,
    )
