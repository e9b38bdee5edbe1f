"""Summaries of several comparisons: how likely an arm is to improve, and its typical gain.

Over n comparisons (studies, settings, arms), each with its own pairs:

probability of improvement
    the share of pairs in which the arm is better, ties counting half, averaged over comparisons;
interquartile mean
    the mean of the middle half of the gains of all pairs, each comparison with the same weight.

Both have an interval by the stratified bootstrap, which resamples pairs within each comparison
(Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS,
sections 4.1 to 4.3). They summarise what was compared, and say nothing about anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Pooled", "pooled"]

_POINTS = 101  # quantiles of each comparison, so that all have the same weight


@dataclass(frozen=True)
class Pooled:
    """Several comparisons together.

    Args:
        comparisons: number of comparisons.
        improves: the probability of improvement.
        improves_low: lower end of its interval.
        improves_high: upper end.
        middle: the interquartile mean of the gains.
        middle_low: lower end.
        middle_high: upper end.
    """

    comparisons: int
    improves: float
    improves_low: float
    improves_high: float
    middle: float
    middle_low: float
    middle_high: float

    def sentence(self) -> str:
        """Both numbers with their intervals."""
        return (
            f"Over {self.comparisons} comparisons the probability of improvement is "
            f"{self.improves:.2f} [{self.improves_low:.2f}, {self.improves_high:.2f}], and the "
            f"interquartile mean of the gains {self.middle:+.4f} [{self.middle_low:+.4f}, "
            f"{self.middle_high:+.4f}] (stratified bootstrap over pairs, 95%)."
        )


def pooled(gains: Sequence[np.ndarray], *, resamples: int = 2000) -> Pooled:
    """Several comparisons together.

    Args:
        gains: gains of the pairs of each comparison, oriented so that positive is a gain.
        resamples: number of bootstrap resamples.

    Raises:
        ValueError: without comparisons, or if one has no pairs.
    """
    if not gains or any(len(comparison) == 0 for comparison in gains):
        raise ValueError("give at least one comparison; each needs pairs")
    draws = np.random.default_rng(0)
    drawn = [
        comparison[draws.integers(len(comparison), size=(resamples, len(comparison)))]
        for comparison in gains
    ]
    improves = np.mean([_share(resampled) for resampled in drawn], axis=0)
    middle = _middle(drawn)
    improves_low, improves_high = np.quantile(improves, [0.025, 0.975])
    middle_low, middle_high = np.quantile(middle, [0.025, 0.975])
    own = [comparison[np.newaxis] for comparison in gains]
    return Pooled(
        comparisons=len(gains),
        improves=float(np.mean([_share(comparison) for comparison in own])),
        improves_low=float(improves_low),
        improves_high=float(improves_high),
        middle=float(_middle(own)[0]),
        middle_low=float(middle_low),
        middle_high=float(middle_high),
    )


def _share(gains: np.ndarray) -> np.ndarray:
    """(B,) share of the pairs (B, n) that gain, ties counting half."""
    share: np.ndarray = ((gains > 0) + 0.5 * (gains == 0)).mean(axis=1)
    return share


def _middle(gains: Sequence[np.ndarray]) -> np.ndarray:
    """(B,) interquartile mean over comparisons, pairs (B, n) each."""
    shares = (np.arange(_POINTS) + 0.5) / _POINTS
    points = np.concatenate([np.quantile(comparison, shares, axis=1) for comparison in gains])
    points.sort(axis=0)
    cut = len(points) // 4
    middle: np.ndarray = points[cut : len(points) - cut].mean(axis=0)
    return middle
