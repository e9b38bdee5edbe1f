r"""Networks that fail: how often in each arm, and how unseen failures may change a mean.

A network fails if it diverges, or if its final accuracy is below a limit. By default the limit is
half-way from chance to the median of the better arm: networks that learn scatter around a median,
those that do not learn stay near chance, and there are few in between.

Symbols
    n         pairs
    a, r      share of pairs in which only the arm's, or only the reference's, network fails
    b         share of pairs in which both fail
    mu        mean difference of the pairs in which both train
    g_a, g_r  mean gap of a pair in which only one network fails

The mean difference over all pairs is

.. math:: (1 - a - r - b) \mu - a g_a + r g_r.

A t interval knows only the failures that were seen. If one network in a hundred fails, most rounds
see none, and a 95% t interval covers the mean in 73% of cases at worst (`make calibrate`). So this
interval uses the lower limits of mu and r and the upper limit of a for its lower end, each at a
third of the error (Clopper and Pearson 1934, Biometrika 26:404, for the shares), and the reverse
for its upper end. The gap of an unseen failure is taken as the whole way from the other arm's mean
to chance. In simulations it errs in 0% to 0.5% of cases instead of 5%, and is half as wide as an
interval that assumes nothing but the bounds of an accuracy (hedged betting; Waudby-Smith and Ramdas
2024, J. R. Stat. Soc. B 86:1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from studies.definition.arms import Pair

__all__ = ["Failures", "failures"]


@dataclass(frozen=True)
class Failures:
    """The failures among n pairs.

    Args:
        below: the accuracy below which a network counts as failed.
        n: number of pairs.
        arm: number of networks of the first arm that failed.
        reference: number of networks of the second arm that failed.
        arm_most: 95% upper limit of the share of the first arm's networks that fail.
        reference_most: the same for the second arm.
        p: two-sided p value of the exact paired test that both fail equally often (McNemar).
        trained: number of pairs in which neither failed.
        trained_difference: their mean difference; None with fewer than two.
        low: lower end of the interval of the mean difference over all networks, including failures
            that were not seen.
        high: upper end.
    """

    below: float
    n: int
    arm: int
    reference: int
    arm_most: float
    reference_most: float
    p: float
    trained: int
    trained_difference: float | None
    low: float
    high: float


def failures(
    pairs: pd.DataFrame,
    pair: Pair,
    *,
    below: float | None = None,
    chance: float = 0.0,
    level: float = 0.95,
) -> Failures:
    """The failures among pairs.

    Args:
        pairs: accuracies, one row per seed, one column per arm; 0 where a network diverged.
        pair: the arms.
        below: accuracy below which a network failed; None: half-way from chance to the median of
            the better arm.
        chance: accuracy of guessing.
        level: the level of the interval.
    """
    arm, reference = (pairs[name].to_numpy(dtype=float) for name in pair)
    if below is None:
        below = (chance + max(float(np.median(arm)), float(np.median(reference)))) / 2
    n, difference = len(pairs), arm - reference
    arm_failed, reference_failed = arm < below, reference < below
    trained = ~arm_failed & ~reference_failed
    alone = arm_failed & ~reference_failed, reference_failed & ~arm_failed
    few, many = (int(mask.sum()) for mask in alone)
    part = (1 - level) / 2 / 3
    (least_few, most_few), (least_many, most_many) = (
        _limits(count, n, part) for count in (few, many)
    )
    failed = int(arm_failed.sum()), int(reference_failed.sum())
    limits = [_limits(count, n, 1 - level)[1] for count in failed]
    low, high = _mean_interval(difference[trained], part)
    gaps = [
        float(np.abs(difference[mask]).mean())
        if mask.any()
        else max(0.0, float(other[trained].mean()) - chance if trained.any() else 1.0)
        for mask, other in zip(alone, (reference, arm), strict=True)
    ]
    whole = float((arm_failed & reference_failed).mean())

    def mean(mu: float, only_arm: float, only_reference: float) -> float:
        rest = max(0.0, 1 - only_arm - only_reference - whole)
        return rest * mu - only_arm * gaps[0] + only_reference * gaps[1]

    return Failures(
        below=below,
        n=n,
        arm=failed[0],
        reference=failed[1],
        arm_most=float(limits[0]),
        reference_most=float(limits[1]),
        p=_as_often(few, many),
        trained=int(trained.sum()),
        trained_difference=float(difference[trained].mean()) if trained.sum() > 1 else None,
        low=max(-1.0, float(mean(low, most_few, least_many))),
        high=min(1.0, float(mean(high, least_few, most_many))),
    )


@lru_cache(maxsize=4096)
def _limits(count: int, n: int, part: float) -> tuple[float, float]:
    """Limits of a share, each end at an error of `part`."""
    low, high = proportion_confint(count, n, alpha=2 * part, method="beta")
    return float(low), float(high)


@lru_cache(maxsize=4096)
def _as_often(few: int, many: int) -> float:
    """The exact two-sided p value that both are as likely."""
    return float(stats.binomtest(few, few + many).pvalue) if few + many else 1.0


@lru_cache(maxsize=4096)
def _critical(n: int, part: float) -> float:
    """Student's critical value over the root of n."""
    return float(stats.t.isf(part, n - 1)) / math.sqrt(n)


def _mean_interval(differences: np.ndarray, part: float) -> tuple[float, float]:
    """The t interval of a mean, each end at an error of `part`; -1 to 1 with fewer than two."""
    if len(differences) < 2:
        return -1.0, 1.0
    mean = float(differences.mean())
    half = _critical(len(differences), part) * float(differences.std(ddof=1))
    return mean - half, mean + half
