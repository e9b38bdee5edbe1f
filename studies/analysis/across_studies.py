"""Several studies side by side: one row per study and setting, with its gain and its uncertainty.

Each row uses the best evidence in its study: a verdict on fresh seeds; else the half of the
search's seeds that took no part in choosing each arm's setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.question import Question
from studies.analysis.setting_verdicts import SettingVerdict
from studies.analysis.settings import by_setting, label_of
from studies.analysis.statistics.equivalence import (
    OUTCOME_IN_WORDS,
    Outcome,
)
from studies.analysis.statistics.evidence import claim_of
from studies.analysis.statistics.judge import evidence_of_rows
from studies.analysis.statistics.pairing import at_own_best, paired_by_seed
from studies.analysis.statistics.pooled import Pooled, pooled
from studies.analysis.study_analysis import Analysis
from studies.analysis.verdict_warnings import ONE_SPLIT
from studies.definition.arms import Pair, against_reference
from studies.definition.early_stopping import is_stopped

__all__ = ["AcrossRow", "ComparedStudy", "across", "across_table", "together"]


@dataclass(frozen=True, eq=False)
class ComparedStudy:
    """What this comparison needs of a study.

    Args:
        name: the name of the study.
        data: the name of its data set.
        model: the name of its network.
        members: its members table.
        question: its question.
        analysis: its analysis.
    """

    name: str
    data: str
    model: str
    members: pd.DataFrame
    question: Question
    analysis: Analysis


@dataclass(frozen=True)
class AcrossRow:
    """One comparison.

    Args:
        study: the name of the study.
        data: the data set.
        model: the network.
        setting: the scientific setting in words, and the arms if they are not called dynamical and
            static; empty if there is neither.
        parameters_per_sample: trainable parameters over training samples; None if not recorded.
        metric: what was compared.
        gain: mean paired difference, oriented so that positive is a gain.
        low: lower end of its 95% interval.
        high: upper end.
        n: number of pairs.
        fresh: whether the seeds are fresh.
        outcome: the outcome of the study's verdict, which counts all of its comparisons; without a
            verdict, that of this comparison alone.
        warnings: reasons to doubt it.
        holds_for: what the outcome is about (see `Verdict.holds_for`).
        unit: what `n` counts: `seeds` or `searches`.
        gains: the gains of the pairs, of networks or of searches.
    """

    study: str
    data: str
    model: str
    setting: str
    parameters_per_sample: float | None
    metric: str
    gain: float
    low: float
    high: float
    n: int
    fresh: bool
    outcome: Outcome
    warnings: tuple[str, ...] = ()
    holds_for: str = "all networks"
    unit: str = "seeds"
    gains: tuple[float, ...] = field(default=(), repr=False)

    @property
    def is_published(self) -> bool:
        """Whether its arms are called dynamical and static; others are named in `setting`."""
        return " against " not in self.setting

    @property
    def verdict(self) -> str:
        """The outcome, and whether there are warnings about it."""
        words = OUTCOME_IN_WORDS[self.outcome]
        if self.holds_for != "all networks":
            words += f" (of {self.holds_for})"
        return f"{words}, with warnings" if self.warnings else words

    @property
    def gain_name(self) -> str:
        """What the numbers are, such as `gain in test accuracy` or `fall of test loss`."""
        better = "gain in" if keys.higher_is_better(self.metric) else "fall of"
        return f"{better} {self.metric.replace('_', ' ')}"

    @property
    def label(self) -> str:
        """Study and setting."""
        return f"{self.study}, {self.setting}" if self.setting else self.study


def across(studies: Sequence[ComparedStudy]) -> list[AcrossRow]:
    """One row per study and scientific setting, in the order given."""
    return [row for study in studies for row in _rows(study)]


def across_table(rows: Sequence[AcrossRow]) -> pd.DataFrame:
    """The rows as a table."""
    table = pd.DataFrame([{**vars(row), "warnings": "; ".join(row.warnings)} for row in rows])
    return table.drop(columns="gains", errors="ignore")


def together(rows: Sequence[AcrossRow]) -> Pooled | None:
    """A summary of the rows; None with fewer than two, or with several metrics."""
    if len(rows) < 2 or len({row.gain_name for row in rows}) > 1:
        return None
    return pooled([np.array(row.gains) for row in rows])


def _rows(study: ComparedStudy) -> list[AcrossRow]:
    scientific = list(study.question.scientific)
    if study.analysis.verdicts:
        members = study.analysis.compared
        metric = keys.on_test_set(study.question.objective)
    else:
        searched = study.members[keys.PHASE] == keys.SEARCH
        search = study.members[searched & ~is_stopped(study.members)]
        metric = study.question.objective
        try:
            members = at_own_best(search, metric, [*scientific, keys.ARM], choosing="half")
        except ValueError:  # one seed per point
            return []
    entries = []
    for setting, rows in by_setting(members, scientific):
        for pair in against_reference(study.question.pairs):
            row = _row(study, metric, label_of(setting), pair, rows)
            if row is not None:
                entries.append(row)
    return entries


def _row(
    study: ComparedStudy, metric: str, setting: str, pair: Pair, members: pd.DataFrame
) -> AcrossRow | None:
    rows = members[members[keys.ARM].isin(pair)]
    if set(rows[keys.ARM]) != set(pair):
        return None
    pairs = paired_by_seed(rows, metric)
    if len(pairs) < 2:
        return None
    up = keys.higher_is_better(metric)
    first, second = pair if up else reversed(pair)
    gains = (pairs[first] - pairs[second]).to_numpy(dtype=float)
    question = study.question
    evidence = evidence_of_rows(
        rows, metric, pair, below=question.fails_below, chance=question.chance
    )
    claim = claim_of(
        evidence,
        question.margin,
        higher_is_better=up,
        survivors_only=not up and bool(rows[keys.DIVERGED].any()),
    )
    known = {
        (setting_verdict.label, setting_verdict.test.pair): setting_verdict
        for setting_verdict in study.analysis.verdicts
    }
    verdict, everyone = known.get((setting, pair)), evidence.everyone
    gain = (everyone.mean, everyone.low, everyone.high)
    if verdict is not None:
        gain = (verdict.test.difference, verdict.test.low, verdict.test.high)
    gain = gain if up else (-gain[0], -gain[2], -gain[1])
    return AcrossRow(
        study=study.name,
        data=study.data,
        model=study.model,
        setting=", ".join(filter(None, (setting, "" if pair == Pair() else str(pair)))),
        parameters_per_sample=_ratio(rows),
        metric=metric,
        gain=gain[0],
        low=gain[1],
        high=gain[2],
        n=everyone.n if verdict is None else verdict.test.n,
        fresh=bool(study.analysis.verdicts),
        outcome=claim.decision.outcome if verdict is None else verdict.test.outcome,
        warnings=_warnings(study, verdict),
        holds_for=claim.holds_for if verdict is None else verdict.test.holds_for,
        gains=tuple(float(value) for value in gains),
        unit="seeds" if verdict is None or verdict.test.luck is None else "searches",
    )


def _warnings(study: ComparedStudy, verdict: SettingVerdict | None) -> tuple[str, ...]:
    """Reasons to doubt a row: its verdict, or without one the search that it comes from."""
    if study.analysis.verdicts:
        return () if verdict is None else verdict.warnings
    split = [ONE_SPLIT] if study.question.one_split else []
    return (*study.analysis.warnings(), *split)


def _ratio(rows: pd.DataFrame) -> float | None:
    needed = [keys.PARAMETERS, keys.TRAIN_SAMPLES]
    if not set(needed) <= set(rows.columns) or rows[needed].isna().any(axis=None):
        return None
    return float(rows[keys.PARAMETERS].iloc[0] / rows[keys.TRAIN_SAMPLES].iloc[0])
