"""The verdicts of a study: one for each scientific setting, with what speaks against it.

A warning that touches a verdict is a part of it: whoever shows the one shows the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
from scipy import stats

from dynloss_core import keys
from studies.analysis.card import Card, Drawing, Draws
from studies.analysis.question import Question
from studies.analysis.search_health.arm_trials import arm_trials
from studies.analysis.search_health.isolation import near_bounds
from studies.analysis.search_health.search_health import SearchHealth, search_health
from studies.analysis.statistics.pairing import paired_by_seed
from studies.analysis.statistics.verdict import Verdict, judge
from studies.analysis.study_tables import Tables

__all__ = [
    "ONE_SPLIT",
    "SettingVerdict",
    "by_setting",
    "cards",
    "health_of",
    "several_origins",
    "verdicts_of",
    "winners_of",
]

ONE_SPLIT = "all seeds share one split of the data: the intervals do not cover other data"
_ALPHA = 0.05


@dataclass(frozen=True)
class SettingVerdict:
    """Both arms' winners on fresh seeds, at one scientific setting.

    Args:
        setting: scientific parameters; empty if the study has none.
        test: verdict on the test metric: the claim.
        validation: the same comparison on the metric that chose.
        points: the points of each arm, a period in steps.
        p_adjusted: p value of the claim's t test, adjusted over the settings (Benjamini-Hochberg).
        settings: how many settings that counts.
        warnings: what speaks against it, a sentence each.
    """

    setting: dict[str, object]
    test: Verdict
    validation: Verdict
    points: dict[str, dict[str, object]]
    p_adjusted: float
    settings: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`width 50`; empty if the study has no scientific setting."""
        return ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in self.setting.items())

    def sentence(self) -> str:
        """The verdict in words; with several settings, the p value that counts them all."""
        where = f"At {self.label}: " if self.label else ""
        text = f"{where}{self.test.sentence()}"
        if self.settings > 1:
            text += f"; p = {self.p_adjusted:.2g} over {self.settings} settings"
        return f"{text}."

    def headline(self) -> str:
        """What its figure shows."""
        claims = {
            "better": "The dynamical loss is better",
            "worse": "The dynamical loss is worse",
            "equivalent": f"Equivalent within ±{self.test.margin or 0:g}",
            "undecided": "Undecided",
        }
        where = f" at {self.label}" if self.label else ""
        return f"{claims[self.test.outcome]}{where} on fresh seeds"

    def caption(self) -> str:
        """What to read off its figure."""
        test = self.test
        text = (
            "Left: each seed's pair of networks, with mean and standard deviation of both arms. "
            f"Right: the differences within pairs, their mean and its {test.level:.0%} interval."
        )
        if test.dynamical.diverged or test.static.diverged:
            counts = "counts as accuracy 0" if keys.higher_is_better(test.metric) else "is left out"
            text += f" A diverged network {counts}."
        return text


def cards(tables: Tables, draw: Draws[pd.DataFrame, SettingVerdict]) -> Iterator[Card]:
    """The winners of both arms on fresh seeds, in the latest round and in those before it."""
    latest, pairs = tables.once(verdicts_of)
    sentences = [verdict.sentence() for verdict in latest]
    for phase, rows in tables.rounds.items():
        if phase != tables.phase:  # from an earlier state of the search: without its health
            earlier, _ = _verdicts(tables, rows, None)
            sentences += [f"Earlier round ({phase}). {verdict.sentence()}" for verdict in earlier]
    if sentences:
        drawings = [
            Drawing(_figure_name(v), v.headline(), v.caption(), partial(draw, rows, v))
            for v, rows in zip(latest, pairs, strict=True)
        ]
        warnings = [warning for verdict in latest for warning in verdict.warnings]
        yield Card(
            "Fresh seeds", drawings, sentences=sentences, subject="winners", warnings=warnings
        )


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
    """The verdicts of the latest round, and the pairs of the test metric behind each."""
    return _verdicts(tables, tables.confirm, tables.once(health_of))


def _verdicts(
    tables: Tables, confirm: pd.DataFrame, health: SearchHealth | None
) -> tuple[tuple[SettingVerdict, ...], tuple[pd.DataFrame, ...]]:
    """Those of any round; its winners came from a search of this health."""
    question, search = tables.question, tables.tried
    metric = keys.on_test_set(question.objective)
    settings = by_setting(confirm, question.scientific) if len(confirm) else []
    paired = [
        (setting, rows, pairs)
        for setting, rows in settings
        if set(rows[keys.ARM]) == {keys.DYNAMICAL, keys.STATIC}
        and len(pairs := paired_by_seed(rows, metric)) >= 2
    ]
    if not paired:
        return (), ()
    tests = [judge(rows, metric, margin=question.margin) for _, rows, _ in paired]
    adjusted = stats.false_discovery_control([test.p_t for test in tests])
    found = []
    for (setting, rows, _), test, p in zip(paired, tests, adjusted, strict=True):
        verdict = SettingVerdict(
            setting=setting,
            test=test,
            validation=judge(rows, question.objective, margin=question.margin),
            points={arm: _point_of(question, rows, arm) for arm in question.spaces},
            p_adjusted=float(p),
            settings=len(paired),
        )
        warnings = _warnings(verdict, search, question, health)
        found.append(replace(verdict, warnings=(*several_origins(rows, search), *warnings)))
    return tuple(found), tuple(pairs for _, _, pairs in paired)


def _warnings(
    verdict: SettingVerdict,
    search: pd.DataFrame,
    question: Question,
    health: SearchHealth | None,
) -> tuple[str, ...]:
    """What speaks against a verdict: in the search behind it, in its data, in its p value."""
    own = _near_bounds(search, question, verdict.setting) if health is not None else []
    if verdict.test.outcome in ("better", "worse") and verdict.p_adjusted >= _ALPHA:
        own.append(
            f"counted over all {verdict.settings} settings, p = {verdict.p_adjusted:.2g} is not "
            f"below {_ALPHA:g}"
        )
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


def _near_bounds(
    search: pd.DataFrame, question: Question, setting: Mapping[str, object]
) -> list[str]:
    """Whether an arm's best lies near a bound, of the trials of one setting: others have another
    best."""
    for name, value in setting.items():
        search = search[search[name] == value]
    found = []
    for arm, space in question.spaces.items():
        if (search[keys.ARM] == arm).any():
            trials = arm_trials(search, arm, space, question.objective, epochs=question.epochs)
            found += [each.sentence() for each in near_bounds(trials, space)]
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
