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
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import special, stats

from studies.definition.arms import Pair

__all__ = ["Failures", "UnseenFailures", "failures"]

_ERROR = 0.05
_LEAST = 1e-12  # error that is told apart from none


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


@dataclass(frozen=True)
class UnseenFailures:
    """What n pairs say of failures that they may not show (the symbols are above).

    Args:
        n: number of pairs.
        alone: how many pairs there are in which only the arm's, or only the reference's, network
            failed.
        both: share of pairs in which both did.
        gaps: g_a and g_r.
        trained: number of pairs in which neither failed.
        mean: mean difference of those pairs; 0 without any.
        sd: standard deviation of their differences; None with fewer than two.
    """

    n: int
    alone: tuple[int, int]
    both: float
    gaps: tuple[float, float]
    trained: int
    mean: float
    sd: float | None

    def interval(self, error: float) -> tuple[float, float]:
        """The ends of the interval of the mean difference over all networks, which errs this
        often."""
        part = error / 2 / 3
        (least_a, most_a), (least_r, most_r) = (_limits(k, self.n, part) for k in self.alone)
        half = 1.0  # accuracies differ by no more
        if self.sd is not None:
            half = -float(special.stdtrit(self.trained - 1, part))
            half *= self.sd / math.sqrt(self.trained)
        low = self._mean(self.mean - half, most_a, least_r)
        high = self._mean(self.mean + half, least_a, most_r)
        return max(-1.0, low), min(1.0, high)

    def _mean(self, mu: float, only_arm: float, only_reference: float) -> float:
        rest = max(0.0, 1 - only_arm - only_reference - self.both)
        return rest * mu - only_arm * self.gaps[0] + only_reference * self.gaps[1]

    def p_of_difference(self, *, positive: bool) -> float:
        """The least error with which the interval lies above 0, or below."""

        def excludes(error: float) -> bool:
            low, high = self.interval(error)
            return low > 0 if positive else high < 0

        return _least_error(excludes)

    def p_within(self, margin: float) -> float:
        """The least error with which the interval lies within a margin."""
        return _least_error(lambda error: max(map(abs, self.interval(error))) < margin)


def _least_error(holds: Callable[[float], bool]) -> float:
    """The least error at which something holds, to a thousandth of it and from above; 1 if it never
    does."""
    low, high = math.log(_LEAST), 0.0
    if not holds(1.0):
        return 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(math.exp(middle)) else (middle, high)
    return math.exp(high)


def failures(
    pairs: pd.DataFrame,
    pair: Pair,
    *,
    below: float | None = None,
    chance: float = 0.0,
) -> tuple[Failures, UnseenFailures]:
    """The failures among pairs, with an interval of 95%, and what they say of those not seen.

    Args:
        pairs: accuracies, one row per seed, one column per arm; 0 where a network diverged.
        pair: the arms.
        below: accuracy below which a network failed; None: half-way from chance to the median of
            the better arm.
        chance: accuracy of guessing.
    """
    arm, reference = (pairs[name].to_numpy(dtype=float) for name in pair)
    if below is None:
        below = (chance + max(float(np.median(arm)), float(np.median(reference)))) / 2
    n, difference = len(pairs), arm - reference
    arm_failed, reference_failed = arm < below, reference < below
    trained = ~arm_failed & ~reference_failed
    alone = arm_failed & ~reference_failed, reference_failed & ~arm_failed
    few, many = (int(mask.sum()) for mask in alone)
    failed = int(arm_failed.sum()), int(reference_failed.sum())
    gaps = [
        float(np.abs(difference[mask]).mean())
        if mask.any()
        else max(0.0, float(other[trained].mean()) - chance if trained.any() else 1.0)
        for mask, other in zip(alone, (reference, arm), strict=True)
    ]
    among, several = difference[trained], trained.sum() > 1
    unseen = UnseenFailures(
        n=n,
        alone=(few, many),
        both=float((arm_failed & reference_failed).mean()),
        gaps=(gaps[0], gaps[1]),
        trained=int(trained.sum()),
        mean=float(among.mean()) if several else 0.0,
        sd=float(among.std(ddof=1)) if several else None,
    )
    low, high = unseen.interval(_ERROR)
    return Failures(
        below=below,
        n=n,
        arm=failed[0],
        reference=failed[1],
        arm_most=_limits(failed[0], n, _ERROR)[1],
        reference_most=_limits(failed[1], n, _ERROR)[1],
        p=_as_often(few, many),
        trained=unseen.trained,
        trained_difference=unseen.mean if several else None,
        low=low,
        high=high,
    ), unseen


def _limits(count: int, n: int, part: float) -> tuple[float, float]:
    """Clopper and Pearson's limits of a share, each end at an error of `part`."""
    low = float(special.betaincinv(count, n - count + 1, part)) if count else 0.0
    high = 1 - float(special.betaincinv(n - count, count + 1, part)) if count < n else 1.0
    return low, high


@lru_cache(maxsize=4096)
def _as_often(few: int, many: int) -> float:
    """The exact two-sided p value that both are as likely."""
    return float(stats.binomtest(few, few + many).pvalue) if few + many else 1.0
