"""The verdicts of a study: one for each scientific setting, with what speaks against it.

A warning that touches a verdict is a part of it: whoever shows the one shows the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card, Drawing, Draws
from studies.analysis.question import Question
from studies.analysis.search_health.arm_trials import arm_trials
from studies.analysis.search_health.coarse import too_coarse
from studies.analysis.search_health.isolation import near_bounds
from studies.analysis.search_health.search_health import SearchHealth, search_health
from studies.analysis.statistics.comparison import Comparison, compare
from studies.analysis.statistics.equivalence import OUTCOME_IN_WORDS
from studies.analysis.statistics.multiplicity import Method, p_values
from studies.analysis.statistics.pairing import paired_by_seed
from studies.analysis.statistics.verdict import Verdict, judge
from studies.analysis.study_tables import Tables

__all__ = [
    "ONE_SPLIT",
    "SettingVerdict",
    "by_setting",
    "cards",
    "comparison_table",
    "health_of",
    "several_origins",
    "verdicts_of",
    "winners_of",
]

ONE_SPLIT = "all seeds share one split of the data: the intervals do not cover other data"


@dataclass(frozen=True)
class SettingVerdict:
    """The winners of two arms on fresh seeds, at one scientific setting.

    Args:
        setting: scientific parameters; empty if the study has none.
        test: verdict on the test metric: the claim.
        validation: the same comparison on the metric that chose.
        points: the points of each arm, a period in steps.
        p_adjusted: p value of the claim's t test, adjusted for the number of claims: over settings
            (Benjamini-Hochberg), or over settings and pairs of arms (Holm). The outcome counts them
            all.
        compared: how many claims that counts.
        pairs: how many pairs of arms the study compares.
        look: number of the round, from 1, which counts in the outcome and in the interval.
        warnings: what speaks against it, a sentence each.
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
        return ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in self.setting.items())

    def sentence(self) -> str:
        """The verdict in words; with several claims, the p value that counts them all."""
        where = f"At {self.label}: " if self.label else ""
        text = f"{where}{self.test.sentence()}"
        if self.compared > 1:
            text += f"; p = {self.p_adjusted:.2g} over {self.counted}"
        if self.look > 1:
            text += f"; look {self.look} at fresh seeds, those of all rounds with these winners"
        return f"{text}."

    @property
    def pair_in_words(self) -> str:
        """The arms, where the study compares several pairs; else empty."""
        return str(self.test.pair) if self.pairs > 1 else ""

    @property
    def counted(self) -> str:
        """What its p value is adjusted over: `12 settings`, `9 comparisons (Holm)`."""
        return f"{self.compared} {'settings' if self.pairs < 2 else 'comparisons (Holm)'}"

    def headline(self) -> str:
        """What its figure shows."""
        outcome, where = self.test.outcome, f" at {self.label}" if self.label else ""
        claim = OUTCOME_IN_WORDS[outcome].capitalize()
        if outcome == "equivalent":
            claim += f" within ±{self.test.margin or 0:g}"
        elif outcome != "undecided":
            claim = f"{self.test.pair.losses[0].capitalize()} is {OUTCOME_IN_WORDS[outcome]}"
        return f"{claim}{where} on fresh seeds"

    def caption(self) -> str:
        """What to read off its figure."""
        test = self.test
        text = (
            "Left: each seed's pair of networks, with mean and standard deviation of both arms. "
            "Right: the differences within pairs, their mean and its "
            f"{test.level * 100:.4g}% interval."
        )
        if test.arm.diverged or test.reference.diverged:
            counts = "counts as accuracy 0" if keys.higher_is_better(test.metric) else "is left out"
            text += f" A diverged network {counts}."
        return text


def cards(
    tables: Tables,
    draw: Draws[pd.DataFrame, SettingVerdict],
    overview: Draws[Sequence[SettingVerdict]],
) -> Iterator[Card]:
    """The winners on fresh seeds, in the latest round and in those before it: one figure per
    verdict, or one of all verdicts where several pairs are compared."""
    latest, by_seed = tables.once(verdicts_of)
    sentences = [verdict.sentence() for verdict in latest]
    for phase in tables.rounds:
        if phase != tables.phase:  # from an earlier state of the search: without its health
            earlier, _ = _verdicts(tables, phase, None)
            sentences += [f"Earlier round ({phase}). {verdict.sentence()}" for verdict in earlier]
    if not sentences:
        return
    warnings = [warning for verdict in latest for warning in verdict.warnings]
    if len(tables.question.pairs) > 1:
        table = comparison_table(latest)
        yield Card(
            "Fresh seeds",
            [Drawing("comparisons", *_overview_words(latest), partial(overview, latest))],
            table=table,
            table_caption="Every comparison, on the same fresh seeds.",
            files={"comparisons.csv": table},
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
        f"{verdicts[0].test.level * 100:.4g}% interval, which counts this comparison alone. "
        "Filled: significant over all comparisons (Holm, 5%)."
    )
    return f"{len(verdicts)} comparisons on fresh seeds: {counted}", caption


def _figure_name(verdict: SettingVerdict) -> str:
    return "_".join(["verdict", *verdict.label.replace(",", "").split()])


def health_of(tables: Tables) -> SearchHealth | None:
    """The health of the search; None without one."""
    asked, tried = tables.question, tables.tried
    if tried.empty:
        return None
    return search_health(
        tried, asked.spaces, asked.objective, adaptive=asked.adaptive, epochs=asked.epochs
    )


def winners_of(tables: Tables) -> dict[str, dict[str, object]]:
    """The point of each arm that was confirmed, at the first setting."""
    (_, first), *_ = by_setting(tables.confirm, tables.question.scientific) or [
        ({}, tables.confirm)
    ]
    arms = [arm for arm in tables.question.spaces if (first[keys.ARM] == arm).any()]
    return {arm: _point_of(tables.question, first, arm) for arm in arms}


def verdicts_of(
    tables: Tables,
) -> tuple[tuple[SettingVerdict, ...], tuple[pd.DataFrame, ...]]:
    """The verdicts of the latest round, pair by pair, and the test metric by seed behind each."""
    if tables.phase is None:
        return (), ()
    return _verdicts(tables, tables.phase, tables.once(health_of))


class _Judged(NamedTuple):
    """A comparison before its p values are seen beside the others."""

    tables: Tables
    setting: dict[str, object]
    rows: pd.DataFrame
    by_seed: pd.DataFrame
    metric: str
    differences: Comparison


def _verdicts(
    tables: Tables, phase: str, health: SearchHealth | None
) -> tuple[tuple[SettingVerdict, ...], tuple[pd.DataFrame, ...]]:
    """Those of any round; its winners came from a search of this health."""
    judged = [found for each in tables.of_pairs for found in _judged(each, phase)]
    if not judged:
        return (), ()
    look = tables.look(phase)
    number, margin = len(tables.question.pairs), tables.question.margin
    method: Method = "benjamini-hochberg" if number < 2 else "holm"
    differ, same = p_values([each.differences for each in judged], margin, method=method, look=look)
    verdicts = []
    for each, p, p_equivalence in zip(judged, differ, same, strict=True):
        question, search = each.tables.question, each.tables.tried
        test = judge(
            each.rows,
            each.metric,
            question.pair,
            margin=margin,
            p=p,
            p_equivalence=p_equivalence,
            fails_below=question.fails_below,
            chance=question.chance,
            look=look,
        )
        validation = judge(each.rows, question.objective, question.pair, margin=question.margin)
        verdict = SettingVerdict(
            setting=each.setting,
            test=test,
            validation=validation,
            points={arm: _point_of(question, each.rows, arm) for arm in question.spaces},
            p_adjusted=p,
            compared=len(judged),
            pairs=number,
            look=look,
        )
        own = None if health is None else health.of(question.spaces)
        warnings = _warnings(verdict, search, question, own)
        origins = several_origins(each.rows, search)
        verdicts.append(replace(verdict, warnings=(*origins, *warnings)))
    return tuple(verdicts), tuple(each.by_seed for each in judged)


def _judged(tables: Tables, phase: str) -> Iterator[_Judged]:
    """The comparison of one pair at each setting of a round that has both of its arms."""
    question = tables.question
    if phase not in tables.rounds:
        return
    confirm = tables.up_to(phase)
    metric = keys.on_test_set(question.objective)
    for setting, rows in by_setting(confirm, question.scientific):
        if set(rows[keys.ARM]) == set(question.pair):
            by_seed = paired_by_seed(rows, metric)
            if len(by_seed) >= 2:
                arm, reference = question.pair
                difference = (by_seed[arm] - by_seed[reference]).to_numpy(dtype=float)
                yield _Judged(tables, setting, rows, by_seed, metric, compare(difference))


def _warnings(
    verdict: SettingVerdict,
    search: pd.DataFrame,
    question: Question,
    health: SearchHealth | None,
) -> tuple[str, ...]:
    """What speaks against a verdict: in the search behind it, and in its data."""
    own = _beside_the_best(search, question, verdict.setting) if health is not None else []
    if verdict.test.may_be_undone:
        own.append(verdict.test.unseen_failures())
    where = f"at {verdict.label}: " if verdict.label else ""
    shared = [] if health is None else health.search_warnings()
    if question.one_split:
        shared.append(ONE_SPLIT)
    return (*(f"{where}{warning}" for warning in own), *shared)


def several_origins(*tables: pd.DataFrame) -> list[str]:
    """Whether networks of members tables were trained with several codes or versions, which are
    then a part of every comparison."""
    columns = [table[keys.ORIGIN] for table in tables if keys.ORIGIN in table]
    origins = pd.concat(columns).fillna("unknown").unique() if columns else []
    if len(origins) < 2:
        return []
    names = ", ".join(sorted(str(name) for name in origins))
    return [f"its networks were trained with {len(origins)} states of the code: {names}"]


def _beside_the_best(
    search: pd.DataFrame, question: Question, setting: Mapping[str, object]
) -> list[str]:
    """Whether an arm's best lies near a bound, or far from the next value tried, of the trials of
    one setting: others have another best."""
    for name, value in setting.items():
        search = search[search[name] == value]
    found = []
    for arm, space in question.spaces.items():
        if (search[keys.ARM] == arm).any():
            trials = arm_trials(search, arm, space, question.objective, epochs=question.epochs)
            found += [each.sentence() for each in near_bounds(trials, space)]
            found += [each.sentence() for each in too_coarse(trials, space, question.margin)]
    return found


def by_setting(
    rows: pd.DataFrame, scientific: Sequence[str]
) -> list[tuple[dict[str, object], pd.DataFrame]]:
    """The rows of each scientific setting."""
    if not scientific:
        return [({}, rows)]
    return [
        (dict(zip(scientific, map(_plain, values), strict=True)), group)
        for values, group in rows.groupby(list(scientific))
    ]


def _point_of(question: Question, rows: pd.DataFrame, arm: str) -> dict[str, object]:
    """The parameters that an arm was trained with, a period in steps; as plain values."""
    row = rows[rows[keys.ARM] == arm].iloc[0]
    names = [name for name in question.spaces[arm].parameters if name in rows.columns]
    plain = {name: _plain(row[name]) for name in names}
    return {name: None if pd.isna(value) else value for name, value in plain.items()}


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's own."""
    return value.item() if hasattr(value, "item") else value
