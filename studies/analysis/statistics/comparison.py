"""Paired comparisons: how large and how certain a difference is, alone or over a map of cells.

Symbols: d (n,) differences of n pairs, one per seed; mean and sd over them (n - 1 in the
denominator); sem = sd / sqrt(n); t = mean / sem with n - 1 degrees of freedom; K cells of a map.

If all differences are equal there is no spread to estimate, and t does not exist. The interval is
then that one value, and the p value is the sign test's: 1 if it is 0, else 2^(1 - n), the chance
that n fair coins all land alike. So two equal differences prove nothing, and six are significant at
5%.

A t test errs where differences are skewed. What decides is therefore the larger of its p value and
of one that is corrected (see `skewness`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from studies.analysis.statistics.skewness import Skewness, skewness_of
from studies.definition.confirm_seeds import FEWEST_PAIRS

__all__ = ["CellComparison", "Comparison", "compare", "compare_cells"]

_DECIMALS = 12
_ENUMERATED = 13  # most pairs for which all 8,192 choices of signs are enumerated, even with ties
_SAME = 1e-9  # relative: differences of equal accuracies differ by rounding, about 1e-14


@dataclass(frozen=True)
class Comparison:
    """Differences of n pairs.

    Args:
        n: number of pairs.
        mean: the mean of the differences.
        sd: standard deviation of the differences, 0 if they are all equal.
        median: the median of the differences.
        low: lower end of the interval of the mean. Of one group of pairs the interval is the wider
            of Student's and the one corrected for skewness; over searches Student's covers.
        high: upper end.
        level: the level of the interval.
        effect_size: Cohen's d_z = mean / sd (Cohen 1988, Statistical Power Analysis, p. 48; Lakens
            2013, Front. Psychol. 4:863, eq. 6); None if all differences are equal.
        p_t: two-sided p value of the paired t test.
        p_wilcoxon: two-sided p value of the signed-rank test, a second check, which assumes
            symmetry but no normal distribution. Zeros are split between the signs. It is exact for
            few pairs, which takes up to a second for 13 pairs with ties.
        p: two-sided p value that decides: the larger of that of the t test and the one corrected
            for skewness.
        skewness: of the differences; None without `pairs`, or where they do not scatter.
        pairs: number of pairs of networks behind the differences.
    """

    n: int
    mean: float
    sd: float
    median: float
    low: float
    high: float
    level: float
    effect_size: float | None
    p_t: float
    p_wilcoxon: float
    p: float
    skewness: Skewness | None
    pairs: int

    @property
    def is_small(self) -> bool:
        """Whether it is of so few pairs of networks that all may miss a part of what they show."""
        return self.pairs < FEWEST_PAIRS


@dataclass(frozen=True, eq=False)
class CellComparison:
    """Differences of the pairs in each of K cells.

    Args:
        n: (K,) number of known differences.
        mean: (K,) their mean; NaN where none is known.
        sem: (K,) standard error of the mean; this and all below are NaN where n < 2.
        low: (K,) lower end of the t interval of the mean, for each cell by itself.
        high: (K,) upper end.
        level: the level of the intervals.
        p: (K,) two-sided p values of the paired t test.
        p_adjusted: (K,) the same, adjusted for the number of cells tested (Benjamini and Hochberg
            1995, J. R. Stat. Soc. B 57:289): calling the cells below q significant keeps the
            expected share of false ones among them below q. In simulations that also holds for
            cells that share a baseline, which the theorem does not cover.
    """

    n: np.ndarray
    mean: np.ndarray
    sem: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    p: np.ndarray
    p_adjusted: np.ndarray


def compare(
    differences: np.ndarray, *, level: float = 0.95, pairs: Sequence[np.ndarray] | None = None
) -> Comparison:
    """The paired comparison of two arms.

    Args:
        differences: (n,) one per seed or search.
        level: the level of the interval.
        pairs: differences of the pairs of networks behind them, one array per search: their
            skewness corrects the p value, and in one search the interval. None: pairs are the
            differences, and nothing is corrected, as for a mean that is only quoted.

    Raises:
        ValueError: with fewer than two differences, or a missing one.
    """
    n = len(differences)
    if differences.ndim != 1 or n < 2:
        raise ValueError(f"differences of shape {differences.shape}: at least two are needed")
    if not np.isfinite(differences).all():
        raise ValueError("a difference is missing or infinite: leave its seed out beforehand")
    alone = compare_cells(differences[np.newaxis], level=level)
    mean, sd = float(alone.mean[0]), float(alone.sem[0]) * n**0.5
    low, high, p = float(alone.low[0]), float(alone.high[0]), float(alone.p[0])
    skewness = None if pairs is None else skewness_of(pairs, sd)
    if skewness is not None:
        claim = skewness.p_above if mean > 0 else skewness.p_below
        p = min(1.0, max(p, 2 * claim(mean / sd, n)))
        if pairs is not None and len(pairs) == 1:
            down, up = skewness.reach(n, (1 - level) / 2)
            low, high = min(low, mean - down * sd), max(high, mean + up * sd)
    return Comparison(
        n=n,
        mean=mean,
        sd=sd,
        median=float(np.median(differences)),
        low=low,
        high=high,
        level=level,
        effect_size=mean / sd if sd > 0 else None,
        p_t=float(alone.p[0]),
        p_wilcoxon=_wilcoxon(differences),
        p=p,
        skewness=skewness,
        pairs=n if pairs is None else sum(len(group) for group in pairs),
    )


def compare_cells(differences: np.ndarray, *, level: float = 0.95) -> CellComparison:
    """The paired comparison in every cell of a map at once.

    Args:
        differences: (K, n) one row per cell, one column per seed; NaN where a pair is missing.
        level: the level of the intervals.

    Raises:
        ValueError: if a difference is infinite, or `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1")
    if np.isinf(differences).any():
        raise ValueError("a difference is infinite: leave its pair out as NaN beforehand")
    known = ~np.isnan(differences)
    n = known.sum(axis=1)
    tested = n >= 2
    values = np.where(known, differences, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = values.sum(axis=1) / n
        deviations = np.where(known, differences - mean[:, np.newaxis], 0.0)  # (K, n)
        sem = np.sqrt((deviations**2).sum(axis=1) / (n - 1) / n)
        equal = tested & (np.abs(deviations).max(axis=1) <= _SAME * np.abs(values).max(axis=1))
        sem = np.where(equal, 0.0, np.where(tested, sem, np.nan))
        p = 2 * stats.t.sf(np.abs(mean) / sem, n - 1)
    p[equal] = np.where(mean[equal] == 0, 1.0, 2.0 ** (1 - n[equal]))
    counts, inverse = np.unique(n, return_inverse=True)
    half = stats.t.isf((1 - level) / 2, np.maximum(counts - 1, 1))[inverse] * sem
    adjusted = np.full(len(p), np.nan)
    adjusted[tested] = stats.false_discovery_control(p[tested]) if tested.any() else np.nan
    return CellComparison(n, mean, sem, mean - half, mean + half, level, p, adjusted)


def _wilcoxon(differences: np.ndarray) -> float:
    exact = np.round(differences, _DECIMALS)  # equal accuracies differ by 1e-17, which breaks ties
    if not exact.any():
        return 1.0
    if len(exact) > _ENUMERATED:
        return float(stats.wilcoxon(exact, zero_method="zsplit").pvalue)
    twice = np.round(2 * stats.rankdata(np.abs(exact))).astype(int)  # midranks of ties as integers
    ranks, total = twice[exact != 0], int(twice[exact > 0].sum())
    flips = np.arange(2 ** len(ranks))[:, np.newaxis] >> np.arange(len(ranks)) & 1
    sums = flips @ ranks  # for every choice of signs
    return float(min(1.0, 2 * min(np.mean(sums <= total), np.mean(sums >= total))))
