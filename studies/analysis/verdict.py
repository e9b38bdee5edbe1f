"""Did the dynamical loss beat the static one? A paired comparison on fresh seeds.

Both arms of a seed share data, initialisation and batch order, so the difference is taken within
each seed and its interval is that of a paired t test. Wilcoxon's signed-rank test, which assumes no
normal distribution, is the check beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core import keys

__all__ = ["ArmSummary", "Verdict", "judge", "paired_by_seed"]

Outcome = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class ArmSummary:
    """One arm over the fresh seeds.

    Args:
        mean: of the metric.
        sd: standard deviation over seeds.
        diverged: how many of the networks diverged.
    """

    mean: float
    sd: float
    diverged: int


@dataclass(frozen=True)
class Verdict:
    """The paired comparison of both arms.

    Args:
        outcome: `better` or `worse` says which side of zero the whole interval lies on, seen from
            the dynamical arm; `undecided` that it holds zero, or that a loss was compared and some
            networks diverged: the survivors alone would not be a fair sample.
        metric: what was compared.
        difference: mean of dynamical - static over pairs.
        low: lower end of the interval of that mean.
        high: upper end.
        level: of the interval.
        n: pairs, one a seed.
        p_wilcoxon: two-sided p value of the signed-rank test.
        dynamical: that arm alone.
        static: that arm alone.
    """

    outcome: Outcome
    metric: str
    difference: float
    low: float
    high: float
    level: float
    n: int
    p_wilcoxon: float
    dynamical: ArmSummary
    static: ArmSummary

    def sentence(self) -> str:
        """The verdict in words, with its uncertainty."""
        claims = {
            "better": "The dynamical loss beats the static one",
            "worse": "The dynamical loss loses to the static one",
            "undecided": "Undecided",
        }
        lost = ""
        if self.dynamical.diverged or self.static.diverged:
            lost = (
                f"; {self.dynamical.diverged} dynamical and {self.static.diverged} static "
                "networks diverged"
            )
        return (
            f"{claims[self.outcome]}: {self.metric.replace('_', ' ')} {self.dynamical.mean:.3f} "
            f"against {self.static.mean:.3f}, difference {self.interval()} "
            f"({self.level:.0%} interval, n = {self.n} fresh seeds, paired{lost})"
        )

    def interval(self) -> str:
        """The difference and its interval, with decimals to suit the interval's width."""
        decimals = 3 if self.high - self.low > 0.01 else 5
        values = (f"{value:+.{decimals}f}" for value in (self.difference, self.low, self.high))
        return "{} [{}, {}]".format(*values)


def paired_by_seed(members: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row a seed, a column an arm.

    A diverged network classifies nothing: its accuracy counts as 0. It has no loss, so for a loss
    its seed is left out, and the verdict must not claim a direction (see `judge`).
    """
    table = members.pivot(index=keys.SEED, columns=keys.ARM, values=metric)
    if keys.higher_is_better(metric):
        table = table.fillna(0.0)
    return table.dropna()


def judge(members: pd.DataFrame, metric: str, *, level: float = 0.95) -> Verdict:
    """The verdict on the members of a confirmation.

    Args:
        members: rows of the members table, one for each arm and seed.
        metric: column to compare.
        level: of the interval.

    Raises:
        ValueError: without both arms, or with fewer than two pairs.
    """
    missing = {keys.DYNAMICAL, keys.STATIC} - set(members[keys.ARM])
    if missing:
        raise ValueError(f"a verdict needs both arms; there is no {' and no '.join(missing)} one")
    pairs = paired_by_seed(members, metric)
    if len(pairs) < 2:
        raise ValueError(f"a verdict needs at least two pairs, there are {len(pairs)}")
    difference = (pairs[keys.DYNAMICAL] - pairs[keys.STATIC]).to_numpy(dtype=float)
    mean, low, high = mean_interval(difference, level)
    gain_low, gain_high = (low, high) if keys.higher_is_better(metric) else (-high, -low)
    survivors_only = not keys.higher_is_better(metric) and bool(members[keys.DIVERGED].any())
    outcome: Outcome = "undecided"
    if gain_low > 0 and not survivors_only:
        outcome = "better"
    elif gain_high < 0 and not survivors_only:
        outcome = "worse"
    return Verdict(
        outcome=outcome,
        metric=metric,
        difference=mean,
        low=low,
        high=high,
        level=level,
        n=len(difference),
        p_wilcoxon=_wilcoxon(difference),
        dynamical=_summary(members, pairs, keys.DYNAMICAL),
        static=_summary(members, pairs, keys.STATIC),
    )


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of n >= 2 values and its t interval."""
    mean = float(values.mean())
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return mean, mean - float(half), mean + float(half)


def _wilcoxon(difference: np.ndarray) -> float:
    if not np.any(difference):
        return 1.0
    return float(stats.wilcoxon(difference, zero_method="zsplit").pvalue)


def _summary(members: pd.DataFrame, pairs: pd.DataFrame, arm: str) -> ArmSummary:
    diverged = int(members.loc[members[keys.ARM] == arm, keys.DIVERGED].sum())
    return ArmSummary(float(pairs[arm].mean()), float(pairs[arm].std(ddof=1)), diverged)
