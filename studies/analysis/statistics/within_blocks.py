"""Settings compared within blocks that share seed, data and learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

__all__ = ["largest_difference", "p_value_of_settings", "power_law"]


def largest_difference(settings: Sequence[pd.Series]) -> float | None:
    """An upper bound on the difference between the means of any two settings: the largest end of
    the 90% t intervals of the differences within blocks.

    If it is within a margin, all settings are equivalent within that margin at the 5% level: for
    every pair both one-sided tests must reject, which needs no correction (Berger 1982,
    Technometrics 24:295).

    Args:
        settings: the values of each setting, indexed by block; a pair is compared on its common
            blocks.

    Returns:
        None with one setting, or if two settings share fewer than two blocks.
    """
    most = []
    for one, other in combinations(settings, 2):
        difference = (one - other).dropna()
        if len(difference) < 2:
            return None
        half = float(stats.t.ppf(0.95, len(difference) - 1) * stats.sem(difference))
        most.append(abs(float(difference.mean())) + half)
    return max(most, default=None)


def p_value_of_settings(
    values: NDArray[np.float64], blocks: NDArray[np.intp], settings: NDArray[np.intp]
) -> float | None:
    """p of an F test between nested least-squares fits: blocks alone, and with settings added.

    Blocks need not be complete. None without degrees of freedom left to test.

    Args:
        values: (n,) the values.
        blocks: (n,) the block of each value, numbered from 0.
        settings: (n,) the setting of each value, likewise.
    """
    small, large = _indicators([blocks]), _indicators([blocks, settings])
    (less, few), (more, many) = _residual(small, values), _residual(large, values)
    left = len(values) - many
    if left < 1 or many == few or more <= 0:
        return None
    return float(stats.f.sf(((less - more) / (many - few)) / (more / left), many - few, left))


def power_law(x: pd.Series, y: pd.Series) -> tuple[float, float, float]:
    """The exponent b of y ~ x^b, fitted to the logarithms, and its 95% interval."""
    fit = stats.linregress(np.log(x), np.log(y))
    half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def _indicators(factors: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([np.eye(factor.max() + 1)[factor] for factor in factors], axis=1)


def _residual(design: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, int]:
    """The residual sum of squares of a least-squares fit, and the rank of the design."""
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return float(((values - design @ solution) ** 2).sum()), int(rank)
