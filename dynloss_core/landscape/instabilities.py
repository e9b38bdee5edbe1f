r"""Instabilities of gradient descent, found in the trace of the weighted loss alone.

Where the sharpness lambda_max of the loss exceeds 2 / learning rate, a step overshoots the valley:
F rises and falls in turn (period 2), and its period may double again and again on the way to chaos.
Here an instability is a stretch of steps in which that alternation is dense, above rounding, and
large at least once.

Symbols
    n      steps of the trace
    t      step: updates done so far
    F      weighted loss, (n,)
    d      d(t) = F(t) - F(t-1)
    turn   a step at which d changes sign: F has a peak or a trough
    a      local amplitude, a(t) = |F(t-1) - 2 F(t) + F(t+1)| / 4: exactly |A| for a straight line
           plus A (-1)^t, whatever the slope of the line
    T, k   period of the class weights in steps; number of a period, t // T

Two limits. Batch noise turns F at two steps of three, so this is for full-batch training only. And
where a loss is symmetric about its valley, both sides of a period-2 orbit have the same F, and the
orbit cannot be seen.

Sources: R. M. May, Nature 261, 459 (1976), and M. J. Feigenbaum, J. Stat. Phys. 19, 25 (1978),
period doubling; S. Strogatz, *Nonlinear Dynamics and Chaos*, ch. 10, return maps; J. M. Cohen et
al., ICLR 2021, arXiv:2103.00065, the edge of stability; M. Ruiz-Garcia et al., ICML 2021,
arXiv:2102.03793, instabilities at the ends of the periods.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynloss_core.landscape.curvature_samples import CurvatureSamples, Sample
from dynloss_core.landscape.period_doubling import ROUNDING, WINDOW, Segment, cascade, finite_head

__all__ = [
    "SHORTEST_PERIOD",
    "Instability",
    "find_instabilities",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

ALTERNATIONS = 10
"""Turns in a row that make an onset, as defined for the reference trajectories. An isolated kink
(a ReLU that switches, the class weights at T/2 and T) turns F once or twice."""

LINK = 4
"""Longest distance between two turns of one stretch. Period 2 turns at every step, period 3 at two
steps of three; chaos sometimes pauses for longer, and MERGE joins its stretches."""

SHORTEST_PERIOD = 2 * LINK + 1
"""Shortest period of the class weights, in steps: shorter ones alone turn F as an instability does.
"""

MERGE = 300
"""Stretches at most this many steps apart, or a quarter of a period if that is less, are one
instability, provided that each is large or within WINDOW of one that is: weak alternation can go on
for thousands of steps. In 16 runs of the paper's setting pauses last up to 222 steps, and there are
none between 222 and 457. The quarter keeps instabilities of neighbouring periods apart."""

PEAK = 1e-3
"""Amplitude over F that an instability must reach once. Those of the reference runs reach 1e-2; the
kink of the class weights at T/2 has 2e-4 at T = 5000."""


@dataclass(frozen=True)
class Instability:
    """One instability. Steps are counted as in the trace; None means unknown.

    Args:
        onset: the step from which F rises and falls in turn ten times running; the first turn if
            that never happens, or if the trace begins inside the instability.
        end: one past the last step that alternates.
        begins_before: the trace begins inside it.
        continues: the trace ends, or diverges, inside it.
        period_number: k = onset // T.
        boundary_offset: steps from the nearest start of a period to the onset, negative before it.
        relative_amplitude: largest a / F.
        cascade: its segments, in order and without gaps.
        hessian_before: last Hessian lambda_max at or before the onset.
        hessian_at_onset: linearly interpolated; None without a value on either side.
        ntk_before: last NTK lambda_max at or before the onset.
        ntk_after: first NTK lambda_max at or after the end. (The lowest inside would be biased: the
            least of many values lies below the first even if nothing falls.)
    """

    onset: int
    end: int
    begins_before: bool
    continues: bool
    period_number: int | None
    boundary_offset: int | None
    relative_amplitude: float
    cascade: tuple[Segment, ...]
    hessian_before: Sample | None = None
    hessian_at_onset: float | None = None
    ntk_before: Sample | None = None
    ntk_after: Sample | None = None


def find_instabilities(
    weighted_loss: ArrayLike,
    *,
    first_step: int = 0,
    period: int | None = None,
    stop: int | None = None,
    curvature: CurvatureSamples | None = None,
) -> tuple[Instability, ...]:
    """All instabilities of a trace, in order.

    Args:
        weighted_loss: (n,) F at consecutive steps. The run has diverged at the first value that is
            not finite; values from there on are ignored.
        first_step: the step of the first value.
        period: T in steps; None for the static loss.
        stop: the step from which the class weights are constant, so that steps lie in no period.
        curvature: samples along the run.

    Raises:
        ValueError: if the trace is not one-dimensional, or the period is so short that the class
            weights alone turn F as an instability does.
    """
    trace = np.asarray(weighted_loss, dtype=np.float64)
    if trace.ndim != 1:
        raise ValueError(f"a trace must be one-dimensional, got shape {trace.shape}")
    if period is not None and period < SHORTEST_PERIOD:
        raise ValueError(
            f"with a period of {period} steps, the class weights alone make F alternate"
        )
    trace = finite_head(trace)
    turning = _TurningPoints.of(trace)
    after = curvature or CurvatureSamples([])
    instabilities = []
    for turns in turning.stretches(MERGE if period is None else min(MERGE, period // 4)):
        begins_before = bool(turns[0] <= LINK)
        start = int(turns[0]) if begins_before else _first_run(turns)
        end = int(turns[-1]) + 3
        stretch, onset = slice(start, end - 2), first_step + start
        before = CurvatureSamples([]) if begins_before else after
        place: tuple[int | None, int | None] = (None, None)
        if period is not None and (stop is None or onset < stop):
            number, tau = divmod(onset, period)
            place = (number, tau if 2 * tau < period else tau - period)
        instabilities.append(
            Instability(
                onset=onset,
                end=first_step + end,
                begins_before=begins_before,
                continues=bool(len(trace) - end <= LINK),
                period_number=place[0],
                boundary_offset=place[1],
                relative_amplitude=float(turning.relative[stretch].max()),
                cascade=cascade(trace, start, end, first_step),
                hessian_before=before.last("hessian_lambda_max", onset),
                hessian_at_onset=before.at("hessian_lambda_max", onset),
                ntk_before=before.last("ntk_lambda_max", onset),
                ntk_after=after.first("ntk_lambda_max", first_step + end),
            )
        )
    return tuple(instabilities)


@dataclass(frozen=True, eq=False)
class _TurningPoints:
    """Where a trace turns, and how strongly; entry j belongs to F(j), F(j+1), F(j+2).

    Args:
        turns: (n-2,) d changes sign, with an amplitude above rounding.
        relative: (n-2,) a over the mean of F there.
    """

    turns: NDArray[np.bool_]
    relative: Floats

    @classmethod
    def of(cls, trace: Floats) -> _TurningPoints:
        quarters = trace / 4  # so that the sums of a run about to diverge do not overflow
        rises = np.diff(quarters)
        amplitude = np.abs(np.diff(rises))
        level = np.abs(quarters[:-2] + 2 * quarters[1:-1] + quarters[2:])
        rounding = ROUNDING * np.maximum(level, 1)
        turns = (np.sign(rises[1:]) * np.sign(rises[:-1]) < 0) & (amplitude > rounding)
        return cls(turns, amplitude / np.maximum(level, rounding))

    def stretches(self, pause: int) -> list[Integers]:
        """The turns of each instability, pauses of up to `pause` steps included."""
        linked = _split(np.flatnonzero(self.turns), LINK)
        dense = [stretch for stretch in linked if len(stretch) >= ALTERNATIONS]
        if not dense:
            return []
        close = _split(np.concatenate(dense), min(WINDOW, pause))
        large = [stretch for stretch in close if self.relative[stretch].max() >= PEAK]
        return _split(np.concatenate(large), pause) if large else []


def _split(ascending: Integers, gap: int) -> list[Integers]:
    """Parts whose neighbours are at most `gap` apart."""
    return np.split(ascending, np.flatnonzero(np.diff(ascending) > gap) + 1)


def _first_run(turns: Integers) -> int:
    """The first of ten turns at consecutive steps; the first turn of all if there are no ten."""
    span = turns[ALTERNATIONS - 1 :] - turns[: 1 - ALTERNATIONS]
    return int(turns[np.argmax(span == ALTERNATIONS - 1)])
