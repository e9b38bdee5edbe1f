"""Many comparisons at once, by flipping signs: for any distribution, corrected for their number.

Symbols: K comparisons, all on the same n seeds; d (K, n) their differences.

If two arms do not differ, a pair's difference is as likely to be d as -d, whatever its
distribution, and pairs of different seeds are independent. So the signs of whole seeds are flipped,
for all K comparisons together, which preserves what they share (a baseline, failed networks of one
seed). Each t is compared with the largest of the K t values in every flip (Westfall and Young 1993,
Resampling-Based Multiple Testing, section 2.4; Romano and Wolf 2005, J. Am. Stat. Assoc. 100:94).
The chance of any false claim at all is then at most alpha.

With up to 12 seeds all flips are made, so no p value is below 2^-n: five seeds show nothing at 5%.
With more, some thousands are drawn.
"""

from __future__ import annotations

import numpy as np

__all__ = ["flipped_p"]

_MAX_EXHAUSTIVE_SEEDS = 12  # up to this many, all flips are made
_DRAWN = 4095
_CHUNK = 256


def flipped_p(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-sided p values of K comparisons, corrected for all of them: that the mean is above 0, and
    that it is below.

    Args:
        differences: (K, n) one row per comparison, one column per seed, without missing values.

    Raises:
        ValueError: without comparisons, with fewer than two seeds, or a missing difference.
    """
    if differences.ndim != 2 or not len(differences) or differences.shape[1] < 2:
        raise ValueError(f"differences of shape {differences.shape}: K >= 1 rows of n >= 2 seeds")
    if not np.isfinite(differences).all():
        raise ValueError("a difference is missing or infinite: leave its comparison out beforehand")
    n = differences.shape[1]
    signs = _flips(n)  # (B, n), the first of them all ones
    squares = (differences**2).sum(axis=1, keepdims=True)  # (K, 1), the same in every flip
    own = _t(differences, squares, signs[:1])[:, 0]
    most, least = np.empty(len(signs)), np.empty(len(signs))
    for start in range(0, len(signs), _CHUNK):
        flipped = _t(differences, squares, signs[start : start + _CHUNK])  # (K, B)
        most[start : start + _CHUNK] = flipped.max(axis=0)
        least[start : start + _CHUNK] = flipped.min(axis=0)
    most.sort()
    least.sort()
    as_large = len(signs) - np.searchsorted(most, own, side="left")
    as_small = np.searchsorted(least, own, side="right")
    return as_large / len(signs), as_small / len(signs)


def _flips(n: int) -> np.ndarray:
    """(B, n) signs: all combinations, or the unflipped one and randomly drawn others."""
    if n <= _MAX_EXHAUSTIVE_SEEDS:
        bits = (np.arange(2**n)[:, np.newaxis] >> np.arange(n)) & 1
        return 1.0 - 2.0 * bits
    drawn = np.random.default_rng(0).integers(0, 2, (_DRAWN, n))
    return np.concatenate([np.ones((1, n)), 1.0 - 2.0 * drawn])


def _t(differences: np.ndarray, squares: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """(K, B) the t value of each comparison in each flip; infinite where all differences are equal.
    Rounded, so that flips with the same differences in another order give the same value."""
    n = differences.shape[1]
    mean = differences @ signs.T / n
    variance = np.maximum(squares - n * mean**2, 0.0) / (n - 1)
    variance = np.where(variance <= 1e-12 * squares / n, 0.0, variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / np.sqrt(variance / n)
    return np.round(np.where(mean == 0, 0.0, t), 9)
