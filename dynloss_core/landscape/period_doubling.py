"""The segments of a trace, window by window: period 1, 2, 4, ..., or aperiodic.

Symbols
    n      steps of the trace
    w      windows
    t      step: updates done so far
    F      weighted loss, (n,)
    d      d(t) = F(t) - F(t-1)
    r_p    return residual at lag p, r_p(t) = (d(t-p) - 2 d(t) + d(t+p)) / 4: how far (d(t), d(t+p))
           lies from the diagonal of the return map, a steady drift removed; 0 in period p
    rho_p  rms r_p / rms r_1 in a window
    c_p    -<r_p(t) r_p(t+p)> / <r_p^2> in a window: 1 if the residual r_p alternates in sign, as
           in period 2p

Sources: R. M. May, Nature 261, 459 (1976), and M. J. Feigenbaum, J. Stat. Phys. 19, 25 (1978),
period doubling; S. Strogatz, *Nonlinear Dynamics and Chaos*, ch. 10, return maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ROUNDING", "WINDOW", "Segment", "cascade", "finite_head", "segments"]

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

TINY = float(np.finfo(np.float64).tiny)

ROUNDING = 1e-6
"""Smallest amplitude of a turn, in units of max(F, 1): in float32, cross-entropy from logits of 16
is resolved to 16 * 2^-24 = 1e-6. Losses are of order 1; one far below 1 is resolved no better."""

WINDOW = 64
"""Steps of a window, over which a segment is recognised: four returns at the longest period."""

HOP = 16
"""Steps between two windows: the resolution of the bounds of a segment."""

MAX_PERIOD = 16
"""Longest period searched for: all later doublings of the logistic map span 0.0012 of r."""

MAX_CLOSING_RHO = 0.05
"""Largest rho_p of a period p. Over the windows of the reference runs the least rho_p has two
humps, jitter near 0.01 and chaos near 0.35, with a valley at 0.05 to 0.07. Chaos in narrower bands
passes for a period: in the logistic map, up to r = 3.58."""

MIN_SPLIT_RHO = 0.005
"""rho_p from which a consistent alternation of r_p is a doubled period, not rounding."""

MIN_CONSISTENCY = 0.9
"""c_p from which r_p alternates: 1 for a split, 2/3 with a standard error of 0.08 in a window for
white jitter. Chaos that keeps to two bands passes 0.9 too, but does not close at 2p."""


@dataclass(frozen=True)
class Segment:
    """Steps of one kind of oscillation.

    Args:
        start: first step.
        end: one past the last.
        period: 1 (no oscillation), 2, 3, ... 16; None if aperiodic: chaos, a slowly modulated
            orbit as at the edge of stability, or a burst that changes within a window.
        residual: median over its windows of rho_p at that period, or of the least rho_p if
            aperiodic; 0 for period 1, infinite where the trace is too short for one return.
    """

    start: int
    end: int
    period: int | None
    residual: float


def segments(trace: ArrayLike, *, first_step: int = 0) -> tuple[Segment, ...]:
    """The segments of a whole trace (n,), of F or any other observable, up to its first value that
    is not finite; none if that leaves fewer than 3 steps."""
    values = finite_head(np.asarray(trace, dtype=np.float64))
    return cascade(values, 0, len(values), first_step) if len(values) > 2 else ()


def finite_head(trace: Floats) -> Floats:
    """A trace up to its first value that is not finite."""
    broken = np.flatnonzero(~np.isfinite(trace))
    return trace[: broken[0]] if len(broken) else trace


def cascade(trace: Floats, start: int, end: int, first_step: int) -> tuple[Segment, ...]:
    """Segments of the steps [start, end) of a trace; the steps around them help at the ends."""
    edges = np.arange(start, max(end - HOP // 2, start + 1), HOP)  # (w,) each stands for HOP steps
    low = np.clip(edges + (HOP - WINDOW) // 2, start, max(start, end - WINDOW))
    high = np.minimum(low + WINDOW, end)
    first = max(start - 2 * MAX_PERIOD, 0)
    around = trace[first : end + 2 * MAX_PERIOD]
    scale = max(float(np.abs(around).max()), 1.0)  # a run about to diverge has huge squares
    rho, alternating, swing = _returns(np.diff(around) / scale, low - first, high - first)
    splits = (rho > MIN_SPLIT_RHO) & (alternating >= MIN_CONSISTENCY)
    closes = (rho < MAX_CLOSING_RHO) & ~splits  # (MAX_PERIOD, w)
    for p in range(4, MAX_PERIOD + 1):
        for q in (q for q in range(2, p) if p % q == 0):  # where q closes up to jitter, so does p
            closes[p - 1] &= splits[q - 1] | (rho[p - 1] < rho[q - 1] / 2)
    closes[0] = swing < ROUNDING
    rho[0] = np.where(closes[0], 0, np.inf)
    periods = np.where(closes.any(0), closes.argmax(0) + 1, 0)  # (w,), 0: aperiodic
    residual = np.where(periods > 0, rho[periods - 1, np.arange(len(edges))], np.nanmin(rho, 0))
    for index in range(1, len(edges) - 1):
        if periods[index - 1] != periods[index] != periods[index + 1]:
            periods[index] = periods[index - 1]  # a single window is not a segment
    bounds = [0, *(np.flatnonzero(np.diff(periods)) + 1), len(edges)]
    return tuple(
        Segment(
            start=first_step + int(edges[a]),
            end=first_step + (int(edges[b]) if b < len(edges) else end),
            period=int(periods[a]) or None,
            residual=float(np.median(residual[a:b])),
        )
        for a, b in pairwise(bounds)
    )


def _returns(d: Floats, low: Integers, high: Integers) -> tuple[Floats, Floats, Floats]:
    """rho_p and c_p (MAX_PERIOD, w) in the windows of steps [low, high), NaN where a window holds
    less than one return; and the rms amplitude (w,)."""
    power = np.full((MAX_PERIOD, len(low)), np.nan)
    alternating = power.copy()
    for p in range(1, MAX_PERIOD + 1):
        r = (d[: -2 * p] - 2 * d[p:-p] + d[2 * p :]) / 4  # entry j is r_p at step j + p + 1
        pairs = r[:-p] ** 2 + r[p:] ** 2, -2 * r[:-p] * r[p:]
        windows = low - p - 1, high - p - 1, p
        power[p - 1] = _means(r**2, *windows)
        alternating[p - 1] = _means(pairs[1], *windows) / np.maximum(
            _means(pairs[0], *windows), TINY
        )
    rms = np.sqrt(power)
    return rms / np.maximum(rms[0], TINY), alternating, rms[0] / 2


def _means(values: Floats, low: Integers, high: Integers, least: int) -> Floats:
    """Means of values[low:high], (w,); NaN of fewer than `least` values."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    low, high = np.clip(low, 0, len(values)), np.clip(high, 0, len(values))
    count = high - low
    means = (sums[high] - sums[low]) / np.maximum(count, 1)
    return np.where(count >= least, means, np.nan)
