"""The ladder: what a gain is due to, one step at a time.

Each arm of a study's `ladder` has one thing more than the arm below, for instance: the
static loss, the static loss with a schedule, a loss that rises and falls as a whole, random groups
of samples that take turns, groups that each contain every class, classes. Every arm is at its own
best point, so a step is what that one thing adds. Steps are paired comparisons on fresh seeds;
neighbours are equivalent only within the margin that was set beforehand.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.setting_verdicts import SettingVerdict, verdicts_of
from studies.analysis.statistics.comparison import compare
from studies.analysis.statistics.equivalence import OUTCOME_IN_WORDS
from studies.analysis.statistics.verdict import interval_in_words
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair

__all__ = ["Ladder", "LadderArm", "cards", "ladders_of"]


@dataclass(frozen=True)
class LadderArm:
    """One arm of a ladder.

    Args:
        name: of the arm.
        mean: mean of the metric over fresh seeds; a diverged network has accuracy 0.
        low: lower end of the 95% t interval of that mean.
        high: upper end.
        n: number of seeds.
        step: the comparison with the arm below; None for the lowest.
    """

    name: str
    mean: float
    low: float
    high: float
    n: int
    step: SettingVerdict | None


@dataclass(frozen=True)
class Ladder:
    """A ladder at one scientific setting.

    Args:
        label: the setting in words; empty if the study has none.
        metric: what is compared.
        arms: the arms, from the lowest to the highest.
        whole: the comparison of the highest with the lowest; None if the study does not make it.
    """

    label: str
    metric: str
    arms: tuple[LadderArm, ...]
    whole: SettingVerdict | None

    @property
    def steps(self) -> list[SettingVerdict]:
        """The comparisons of neighbours, from the lowest up."""
        return [arm.step for arm in self.arms if arm.step is not None]

    def sentence(self) -> str:
        """What the gain is due to."""
        where = f"At {self.label}" if self.label else "Overall"
        top, bottom = self.arms[-1].name, self.arms[0].name
        metric = self.metric.replace("_", " ")
        text = f"{where}, {top} against {bottom} in {metric}: "
        if self.whole is not None:
            text += f"{self.whole.test.interval()} (n = {self.whole.test.n}). Step by step: "
        return text + "; ".join(_step(step) for step in self.steps) + "."


def _step(step: SettingVerdict) -> str:
    test = step.test
    words = OUTCOME_IN_WORDS[test.outcome]
    if test.outcome == "equivalent":
        words += f" within ±{test.margin:g}"
    if test.of_trained:
        some = test.trained
        own = "" if some is None else f": {interval_in_words(some.mean, some.low, some.high)}"
        words += f" (of {test.holds_for}{own})"
    text = f"{test.pair.arm} over {test.pair.reference} {test.interval()}, {words}"
    if test.outcome in ("equivalent", "undecided"):
        return text
    return f"{text}, p = {step.p_adjusted:.2g} over {step.counted}"


def cards(tables: Tables, draw: DrawFunction[Sequence[Ladder]]) -> Iterator[Card]:
    """The ladder at each setting; nothing in a study without one."""
    ladders = tables.cached(ladders_of)
    if not ladders:
        return
    headline = "What each step of the ladder adds"
    caption = (
        "First panel: each arm at its own best point, mean over fresh seeds and 95% t interval. "
        "Second: each arm minus the one below it, paired by seed; the band is the margin of "
        "equivalence. Filled: significant over all comparisons of the study (Holm, 5%)."
    )
    sentences = [ladder.sentence() for ladder in ladders]
    yield Card(
        "The ladder",
        [Drawing("ladder", headline, caption, partial(draw, ladders))],
        paragraphs=sentences,
        files={"ladder.csv": _table(ladders)},
        sentences=sentences,
        subject="winners",
    )


def ladders_of(tables: Tables) -> tuple[Ladder, ...]:
    """The ladder at each setting at which every arm was confirmed along with its neighbours."""
    question = tables.question
    if not question.ladder:
        return ()
    metric = keys.on_test_set(question.objective)
    verdicts, by_seed = tables.cached(verdicts_of)
    ladders = []
    for label in dict.fromkeys(verdict.label for verdict in verdicts):
        by_pair = {
            verdict.test.pair: (verdict, rows)
            for verdict, rows in zip(verdicts, by_seed, strict=True)
            if verdict.label == label
        }
        steps = [Pair(above, below) for below, above in itertools.pairwise(question.ladder)]
        if any(step not in by_pair for step in steps):
            continue
        arms = [_arm(by_pair[steps[0]][1], question.ladder[0], None)]
        arms += [_arm(by_pair[step][1], step.arm, by_pair[step][0]) for step in steps]
        whole, _ = by_pair.get(Pair(question.ladder[-1], question.ladder[0]), (None, None))
        ladders.append(Ladder(label, metric, tuple(arms), whole))
    return tuple(ladders)


def _arm(by_seed: pd.DataFrame, name: str, step: SettingVerdict | None) -> LadderArm:
    """An arm on the fresh seeds of its step; the lowest, on those of the step above it."""
    own = compare(by_seed[name].to_numpy(dtype=float))
    return LadderArm(name, own.mean, own.low, own.high, own.n, step)


def _table(ladders: Sequence[Ladder]) -> pd.DataFrame:
    """One row per arm."""
    return pd.DataFrame(
        [
            {
                "setting": ladder.label,
                "arm": arm.name,
                "metric": ladder.metric,
                "mean": arm.mean,
                "low": arm.low,
                "high": arm.high,
                "n": arm.n,
                "step": step and step.test.difference,
                "step_low": step and step.test.low,
                "step_high": step and step.test.high,
                "p_adjusted": step and step.p_adjusted,
                "outcome": step and step.test.outcome,
            }
            for ladder in ladders
            for arm in ladder.arms
            for step in [arm.step]
        ]
    )
