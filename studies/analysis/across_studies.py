"""Several studies side by side: one row per study and setting, with its gain and its uncertainty.

Each row uses the best evidence in its study: a verdict on fresh seeds; else the half of the
search's seeds that took no part in choosing each arm's setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.question import Question
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
    return list(_of_verdicts(study) if study.analysis.verdicts else _of_search(study))


def _of_verdicts(study: ComparedStudy) -> Iterator[AcrossRow]:
    """The verdicts against the reference, setting by setting."""
    analysis, shown = study.analysis, against_reference(study.question.pairs)
    at = dict(_by_label(analysis.compared, study.question.scientific))
    labels = list(dict.fromkeys(verdict.label for verdict in analysis.verdicts))
    both = sorted(
        zip(analysis.verdicts, analysis.by_seed, strict=True),
        key=lambda one: labels.index(one[0].label),
    )
    for verdict, by_seed in both:
        test = verdict.test
        if test.pair not in shown:
            continue
        yield _row(
            study,
            verdict.label,
            test.pair,
            at.get(verdict.label),
            by_seed,
            test.metric,
            (test.difference, test.low, test.high),
            n=test.n,
            fresh=True,
            outcome=test.outcome,
            warnings=verdict.warnings,
            holds_for=test.holds_for,
            unit="seeds" if test.luck is None else "searches",
        )


def _of_search(study: ComparedStudy) -> Iterator[AcrossRow]:
    """Without fresh seeds: each arm, at its best on half of the search's seeds, on the others."""
    question, metric = study.question, study.question.objective
    searched = study.members[keys.PHASE] == keys.SEARCH
    search = study.members[searched & ~is_stopped(study.members)]
    by = [*question.scientific, keys.ARM]
    try:
        members = at_own_best(search, metric, by, choosing="half")
    except ValueError:  # one seed per point
        return
    split = [ONE_SPLIT] if question.one_split else []
    for label, at in _by_label(members, question.scientific):
        for pair in against_reference(question.pairs):
            rows = at[at[keys.ARM].isin(pair)]
            if set(rows[keys.ARM]) != set(pair) or len(paired_by_seed(rows, metric)) < 2:
                continue
            up = keys.higher_is_better(metric)
            evidence = evidence_of_rows(
                rows, metric, pair, below=question.fails_below, chance=question.chance
            )
            claim = claim_of(
                evidence,
                question.margin,
                higher_is_better=up,
                survivors_only=not up and bool(rows[keys.DIVERGED].any()),
            )
            everyone = evidence.everyone
            yield _row(
                study,
                label,
                pair,
                rows,
                paired_by_seed(rows, metric),
                metric,
                (everyone.mean, everyone.low, everyone.high),
                n=everyone.n,
                fresh=False,
                outcome=claim.decision.outcome,
                warnings=(*study.analysis.warnings(), *split),
                holds_for=claim.holds_for,
            )


def _row(
    study: ComparedStudy,
    label: str,
    pair: Pair,
    rows: pd.DataFrame | None,
    by_seed: pd.DataFrame,
    metric: str,
    difference: tuple[float, float, float],
    **what: Any,
) -> AcrossRow:
    """A row whose numbers are oriented so that positive is a gain."""
    mean, low, high = difference
    gains = (by_seed[pair.arm] - by_seed[pair.reference]).to_numpy(dtype=float)
    if not keys.higher_is_better(metric):
        mean, low, high, gains = -mean, -high, -low, -gains
    return AcrossRow(
        study=study.name,
        data=study.data,
        model=study.model,
        setting=", ".join(filter(None, (label, "" if pair == Pair() else str(pair)))),
        parameters_per_sample=None if rows is None else _ratio(rows),
        metric=metric,
        gain=mean,
        low=low,
        high=high,
        gains=tuple(float(value) for value in gains),
        **what,
    )


def _by_label(rows: pd.DataFrame, scientific: Sequence[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows of each setting, with its label."""
    yield from ((label_of(setting), own) for setting, own in by_setting(rows, scientific))


def _ratio(rows: pd.DataFrame) -> float | None:
    needed = [keys.PARAMETERS, keys.TRAIN_SAMPLES]
    if not set(needed) <= set(rows.columns) or rows[needed].isna().any(axis=None):
        return None
    return float(rows[keys.PARAMETERS].iloc[0] / rows[keys.TRAIN_SAMPLES].iloc[0])
