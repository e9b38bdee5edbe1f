"""Better, worse, equivalent or undecided, and how many seeds it takes to know.

A difference can be certain and still too small to matter: then the arm is better (or worse), but by
less than the margin, which is a separate outcome.

Symbols: n pairs; effect, the mean difference; sd of the differences; margin m > 0, the largest
difference that would not matter, in the metric's own unit and set before the data are seen;
alpha, the chance of a false claim (0.05 at level 0.95).

Failing to find a difference is not evidence that there is none: with three seeds hardly any is
found. Equivalence is claimed by two one-sided t tests (TOST; Schuirmann 1987, J. Pharmacokinet.
Biopharm. 15:657; Lakens 2017, Soc. Psychol. Personal. Sci. 8:355), one against effect <= -m and one
against effect >= m, both of which must reject at alpha. That is the same as the interval of level
1 - 2 alpha, 90% by convention, lying within (-m, m).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy import integrate, stats
from statsmodels.stats.power import TTestPower

from studies.analysis.statistics.comparison import Comparison

__all__ = [
    "Decision",
    "OUTCOME_IN_WORDS",
    "Outcome",
    "decide",
    "equivalence_power",
    "equivalence_test",
    "seeds_for_equivalence",
    "seeds_for_power",
    "spread_at_most",
]

Outcome = Literal[
    "better", "better_within_margin", "worse", "worse_within_margin", "equivalent", "undecided"
]

OUTCOME_IN_WORDS: dict[Outcome, str] = {
    "better": "better",
    "better_within_margin": "better, but by less than the margin",
    "worse": "worse",
    "worse_within_margin": "worse, but by less than the margin",
    "equivalent": "equivalent",
    "undecided": "undecided",
}

_MAX_PLANNED_SEEDS = 1_000_000  # a plan for more is not a plan


@dataclass(frozen=True)
class Decision:
    """What n pairs decide.

    Args:
        outcome: `better` or `worse`, seen from the first arm: the interval of level 1 - alpha
            excludes zero. `equivalent`: it does not, and the interval of level 1 - 2 alpha lies
            within the margin. `better_within_margin`, `worse_within_margin`: both hold, so there
            is a difference, but it is too small to matter. `undecided`: neither holds.
        p_equivalence: p value of the two one-sided tests; None without a margin.
        margin: largest difference that would not matter; None: equivalence was not tested.
        seeds_needed: only if undecided: how many seeds in total, instead of n, would give a power
            of 90% if the true effect and sd are those observed: the smaller of `seeds_for_power`
            and, if the effect is within the margin, `seeds_for_equivalence`. None: no number up to
            a million. It is as rough a guide as the observed effect, and a plan for fresh seeds:
            adding seeds until the answer pleases raises alpha.
    """

    outcome: Outcome
    p_equivalence: float | None
    margin: float | None
    seeds_needed: int | None


def decide(
    comparison: Comparison,
    margin: float | None = None,
    *,
    higher_is_better: bool,
    p: float | None = None,
    p_equivalence: float | None = None,
    alpha: float = 0.05,
    least_alpha: float | None = None,
    survivors_only: bool = False,
    plans: bool = True,
) -> Decision:
    """Decide between the arms.

    If all differences are equal, sign tests replace t tests (see `comparison`). One of several
    comparisons is decided by p values that count them all.

    Args:
        comparison: the first arm minus the second.
        margin: the margin of equivalence; None claims no equivalence.
        higher_is_better: whether the metric is maximised.
        p: adjusted p value of the difference; None: the comparison's own.
        p_equivalence: adjusted p value of the two one-sided tests; None: unadjusted.
        alpha: chance of a false claim of either kind.
        least_alpha: what one of several comparisons has left of it at least, for the number of
            seeds: an adjusted p value of 1 does not tell. None: unknown.
        survivors_only: whether diverged networks are missing because they have no value of this
            metric. The others are not a fair sample of either arm, so nothing is decided.
        plans: whether to say how many seeds an undecided comparison needs, which takes a while.

    Raises:
        ValueError: if the margin is not above 0.
    """
    effect, sd = comparison.mean, comparison.sd
    own = None if margin is None else equivalence_test(comparison, margin)
    counted = own if p_equivalence is None else p_equivalence
    if survivors_only:
        return Decision("undecided", own, margin, None)
    p = comparison.p if p is None else p
    same = counted is not None and counted < alpha
    if p < alpha:
        gain = (effect > 0) == higher_is_better
        outcome: Outcome = "better" if gain else "worse"
        if same:
            outcome = "better_within_margin" if gain else "worse_within_margin"
        return Decision(outcome, own, margin, None)
    if same:
        return Decision("equivalent", own, margin, None)
    if not plans:
        return Decision("undecided", own, margin, None)
    left = partial(_left, alpha, least_alpha or 0.0)
    alphas = [left(comparison.p, p), left(own, counted)]
    enough = [seeds_for_power(sd, effect, alpha=alphas[0])]
    if margin is not None:
        enough.append(seeds_for_equivalence(sd, effect, margin, alpha=alphas[1]))
    needed = min((n for n in enough if n is not None), default=None)
    return Decision("undecided", own, margin, needed)


def _left(alpha: float, least: float, own: float | None, counted: float | None) -> float:
    """What is left of alpha to one of several comparisons: divided by the factor by which its p
    value was adjusted, which is larger than it looks if that was cut at 1."""
    if not own or not counted:
        return alpha
    return least if least and counted >= 1 else max(least, alpha * own / counted)


def equivalence_test(comparison: Comparison, margin: float) -> float:
    """The p value of the two one-sided t tests: the larger of the two, each corrected for skewness
    as that of the difference is (see `comparison`).

    If all differences are equal, one-sided sign tests against both ends of the margin replace them:
    2^-n if the difference is within the margin.

    Raises:
        ValueError: if the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin {margin} is not above 0")
    n, mean, sd = comparison.n, comparison.mean, comparison.sd
    room = margin - abs(mean)  # to the nearer end, whose test has the larger p value
    if sd == 0:
        return 2.0**-n if room > 0 else 1.0
    p = float(stats.t.sf(room * math.sqrt(n) / sd, n - 1))
    skewness = comparison.skewness
    if skewness is None:
        return p
    above, below = (
        skewness.p_above((mean + margin) / sd, n),
        skewness.p_below((mean - margin) / sd, n),
    )
    return max(p, above, below)


def equivalence_power(
    n: int, sd_of_differences: float, effect: float, margin: float, alpha: float = 0.05
) -> float:
    r"""The chance that n pairs show equivalence, exactly.

    With :math:`s = \sigma \chi_\nu / \sqrt{\nu}`, :math:`\nu = n - 1` and :math:`t` the critical
    value of both tests, the mean must fall between :math:`\pm(m - t s / \sqrt{n})`. It is normal
    and independent of s:

    .. math::
        \int \Big[\Phi\Big(\frac{m - \delta}{\sigma / \sqrt{n}} - t \frac{s}{\sigma}\Big)
        - \Phi\Big(\frac{-m - \delta}{\sigma / \sqrt{n}} + t \frac{s}{\sigma}\Big)\Big]_+ dP(s)

    (Phillips 1990, J. Pharmacokinet. Biopharm. 18:137.)
    """
    nu = n - 1
    sem = sd_of_differences / math.sqrt(n)
    critical = float(stats.t.isf(alpha, nu))
    most = margin / sem / critical * math.sqrt(nu)  # no chi above this leaves room in the margin

    def density(chi: np.ndarray) -> np.ndarray:
        reach = critical * chi / math.sqrt(nu)
        inside = stats.norm.cdf((margin - effect) / sem - reach) - stats.norm.cdf(
            (-margin - effect) / sem + reach
        )
        return np.asarray(inside * stats.chi.pdf(chi, nu))

    start = float(stats.chi.ppf(1e-12, nu))
    stop = min(most, float(stats.chi.isf(1e-12, nu)))
    return float(integrate.fixed_quad(density, start, stop, n=100)[0]) if stop > start else 0.0


def spread_at_most(sd: float, n: int, confidence: float = 0.8) -> float:
    """An upper bound on a spread estimated from n differences.

    A few differences often scatter less than later ones: a plan based on the sd of six reaches its
    power in fewer than half of all cases. With this bound it does so in a share `confidence` of
    them, 80% by convention (Browne 1995, Stat. Med. 14:1933).

    Raises:
        ValueError: with fewer than two differences.
    """
    if n < 2:
        raise ValueError(f"the spread of {n} differences: at least two are needed")
    return sd * math.sqrt((n - 1) / float(stats.chi2.ppf(1 - confidence, n - 1)))


def seeds_for_power(
    sd_of_differences: float, effect: float, power: float = 0.9, alpha: float = 0.05
) -> int | None:
    """The fewest seeds whose paired two-sided t test finds the effect with this power.

    The power is that of the noncentral t distribution (Cohen 1988, chapter 2), not counting
    rejections in the wrong direction. Without spread, the sign test must be able to reject. None if
    no number up to a million is enough.
    """
    if effect == 0:
        return None
    if sd_of_differences == 0:
        return math.floor(1 - math.log2(alpha)) + 1
    size = abs(effect) / sd_of_differences
    return _fewest(
        lambda n: float(TTestPower().power(size, n, alpha / 2, alternative="larger")), power
    )


def seeds_for_equivalence(
    sd_of_differences: float,
    effect: float,
    margin: float,
    power: float = 0.9,
    alpha: float = 0.05,
) -> int | None:
    """The fewest seeds that show equivalence with this power, if `effect` is the true difference.

    None if it is not within the margin, or no number up to a million is enough.
    """
    if abs(effect) >= margin:
        return None
    if sd_of_differences == 0:
        return math.floor(-math.log2(alpha)) + 1
    return _fewest(lambda n: equivalence_power(n, sd_of_differences, effect, margin, alpha), power)


def _fewest(power_of: Callable[[int], float], power: float) -> int | None:
    """The smallest n >= 2 with this power, which grows with n."""
    if power_of(_MAX_PLANNED_SEEDS) < power:
        return None
    high = 2
    while power_of(high) < power:
        high *= 2
    low = high // 2
    while high - low > 1 and high > 2:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high
