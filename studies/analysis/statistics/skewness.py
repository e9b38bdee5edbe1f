r"""Means of skewed differences: a correction of the t test, and of its interval.

Where a few networks end far below the others, differences are skewed, and the t test errs on one
side more often than it says: with one peak in five pairs, or an exponential tail, three times as
often at 24 pairs. Hall's transformation removes the error of first order (Hall 1992, J. R. Stat.
Soc. B 54:221). With S = (mean - mu) / sd over n values of skewness g, it compares with Student's t

.. math::
    T(S) = \sqrt{n} \left( S + \frac{g S^2}{3} + \frac{g^2 S^3}{27} + \frac{g}{6 n} \right)
         = \sqrt{n} \left( \frac{(1 + g S / 3)^3 - 1}{g} + \frac{g}{6 n} \right),

which grows with S and can be inverted. Far out in the tails it turns flat, and says nothing: beyond
the critical value of a two-sided test at 5%, T grows in proportion to S. A sample seldom shows all
the skewness of its distribution, so g is moved by its standard error, :math:`\sqrt{6/n}`, to the
side that weakens a claim. The larger of this p value and that of the t test then errs no more often
than it says, from 30 pairs on (`make calibrate`).

Means of several searches are too few to have a skewness of their own. It is that of the pairs
within the searches, less by the root of their number, as for any mean; and the less, the more the
searches differ by their luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["Skewness", "skewness_of"]

_PART = 0.025


@dataclass(frozen=True)
class Skewness:
    """The skewness of n values with a mean and a standard deviation.

    Args:
        value: g, estimated.
        error: its standard error.
    """

    value: float
    error: float

    def p_above(self, size: float, n: int) -> float:
        """The one-sided p value of the claim that the true mean is above `mu`.

        Args:
            size: S, the distance of the mean from `mu` in standard deviations.
            n: number of values.
        """
        return _p(size, n, self.value - self.error)

    def p_below(self, size: float, n: int) -> float:
        """The same of the claim that it is below; `size` is S, negative if the mean is."""
        return _p(-size, n, -self.value - self.error)

    def reach(self, n: int, part: float) -> tuple[float, float]:
        """How far the interval of the mean reaches down and up, in standard deviations.

        Args:
            n: number of values.
            part: the error at each end.
        """
        return (
            _inverse(n, part, self.value - self.error),
            _inverse(n, part, -self.value - self.error),
        )


def skewness_of(groups: Sequence[np.ndarray], sd: float) -> Skewness | None:
    """The skewness of what is compared.

    Args:
        groups: differences of the pairs: of one group, which are compared themselves; or of several
            searches, whose means are compared.
        sd: standard deviation of what is compared.

    Returns:
        None where pairs do not scatter, or are too few to have a skewness.
    """
    centred = [group - group.mean() for group in groups if len(group)]
    pairs = sum(len(group) for group in centred)
    free = pairs - len(centred)
    if free < 2 or not sd > 0:
        return None
    variance = sum(float((group**2).sum()) for group in centred) / free
    if not variance > 0:
        return None
    cubes = sum(float((group**3).sum()) for group in centred)
    each = pairs / len(centred)
    cubes *= each**2 / ((each - 1) * (each - 2)) if each > 2 else 1.0  # unbiased for equal groups
    value, error = cubes / pairs / variance**1.5, math.sqrt(6 / pairs)
    if len(groups) == 1:
        return Skewness(value, error)
    share = min(1.0, math.sqrt(variance / each) / sd) ** 3 / math.sqrt(each)
    return Skewness(share * value, share * error)


def _p(size: float, n: int, g: float) -> float:
    edge = _critical(n, _PART)
    t = _hall(size, n, g) if size <= edge else size * _hall(edge, n, g) / edge
    return float(stats.t.sf(math.sqrt(n) * t, n - 1))


def _hall(size: float, n: int, g: float) -> float:
    """T over the root of n."""
    return size + g * size**2 / 3 + g**2 * size**3 / 27 + g / (6 * n)


def _inverse(n: int, part: float, g: float) -> float:
    """The S whose p value is `part`."""
    x, edge = _critical(n, part), _critical(n, _PART)
    at_edge = _hall(edge, n, g)
    if 0 < at_edge < x:
        return x * edge / at_edge
    x -= g / (6 * n)
    return 3 / g * (math.copysign(abs(1 + g * x) ** (1 / 3), 1 + g * x) - 1) if g else x


def _critical(n: int, part: float) -> float:
    """Student's critical value over the root of n."""
    return float(stats.t.isf(part, n - 1)) / math.sqrt(n)
