"""The test and the interval that decide, written again from scipy's t test and the formula of Hall
(1992, J. R. Stat. Soc. B 54:221)."""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

__all__ = ["p_that_decides", "p_that_they_are_the_same", "wider_interval"]


def p_that_decides(differences: np.ndarray) -> float:
    """Two-sided, of the claim that the mean is not 0."""
    up = differences if differences.mean() > 0 else -differences
    return min(1.0, 2 * _p_above(up, 0.0))


def p_that_they_are_the_same(differences: np.ndarray, margin: float) -> float:
    """Of the claim that the mean is between -margin and margin."""
    return max(_p_above(differences, -margin), _p_above(-differences, -margin))


def wider_interval(differences: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The means whose claim `above` and `below` have a p value of half of what is left."""
    part, spread = (1 - level) / 2, float(differences.std(ddof=1))
    low, high = (
        optimize.brentq(
            lambda mean, d=d: _p_above(d, mean) - part, d.mean() - 9 * spread, d.mean(), xtol=1e-14
        )
        for d in (differences, -differences)
    )
    return low, -high


def _p_above(differences: np.ndarray, mean: float) -> float:
    """The larger of the one-sided p values of both tests."""
    n = len(differences)
    s = (differences.mean() - mean) / differences.std(ddof=1)
    g = stats.skew(differences, bias=False) - np.sqrt(6 / n)
    edge = stats.t.isf(0.025, n - 1) / np.sqrt(n)  # beyond, T grows in proportion to s
    least = min(s, edge)
    hall = np.sqrt(n) * (least + g * least**2 / 3 + g**2 * least**3 / 27 + g / (6 * n))
    hall *= max(s / edge, 1.0)
    t = stats.ttest_1samp(differences, mean, alternative="greater").pvalue
    return float(max(t, stats.t.sf(hall, n - 1)))
