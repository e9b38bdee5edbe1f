r"""Instabilities of gradient descent, found in the trace of the weighted loss alone.

Where the sharpness lambda_max of the loss passes 2 / learning rate, a step overshoots the valley:
F rises and falls in turn (period 2), and may double its period on the way to chaos. Here an
instability is a stretch of steps in which that alternation is dense, above rounding, and at some
point large.

Symbols
    n      steps of the trace
    m      curvature samples
    w      windows
    t      step: updates done so far
    F      weighted loss, (n,)
    d      d(t) = F(t) - F(t-1)
    turn   a step at which d changes sign: F has a peak or a trough
    a      local amplitude, a(t) = |F(t-1) - 2 F(t) + F(t+1)| / 4: exactly |A| for a straight line
           plus A (-1)^t, whatever the slope of the line
    T, k   period of the class weights in steps; number of a period, t // T
    r_p    return residual at lag p, r_p(t) = (d(t-p) - 2 d(t) + d(t+p)) / 4: how far (d(t), d(t+p))
           lies from the diagonal of the return map, a steady drift removed; 0 in period p
    rho_p  rms r_p / rms r_1 in a window
    c_p    -<r_p(t) r_p(t+p)> / <r_p^2> in a window: 1 if what keeps p from closing alternates, as
           in period 2p

Two limits. Batch noise turns F at two steps of three: full-batch training only. And where a loss
is symmetric about its valley, both sides of a period-2 orbit have the same F: it cannot be seen.

Sources: R. M. May, Nature 261, 459 (1976), and M. J. Feigenbaum, J. Stat. Phys. 19, 25 (1978),
period doubling; S. Strogatz, *Nonlinear Dynamics and Chaos*, ch. 10, return maps; J. M. Cohen et
al., ICLR 2021, arXiv:2103.00065, the edge of stability; M. Ruiz-Garcia et al., ICML 2021,
arXiv:2102.03793, instabilities at the ends of the periods.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "SHORTEST_PERIOD",
    "CurvatureSamples",
    "Instability",
    "Regime",
    "Sample",
    "find_instabilities",
    "regimes",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Quantity = Literal["hessian_lambda_max", "ntk_lambda_max"]

TINY = float(np.finfo(np.float64).tiny)

ALTERNATIONS = 10
"""Turns in a row that make an onset: the definition of the reference trajectories. An isolated kink
(a ReLU that switches, the class weights at T/2 and T) turns F once or twice."""

LINK = 4
"""Longest distance between two turns of one stretch. Period 2 turns at every step, period 3 at two
steps of three, and chaos, where it sometimes pauses for longer, is merged again."""

SHORTEST_PERIOD = 2 * LINK + 1
"""Of the class weights, in steps: with a shorter one they alone turn F as an instability does."""

MERGE = 300
"""Stretches at most this many steps apart, or a quarter of a period if that is less, are one
instability, if each is large or within WINDOW of one that is: weak alternation may go on for
thousands of steps. In 16 runs of the paper's setting the pauses last up to 222 steps, then none up
to 457; the quarter keeps the instabilities of neighbouring periods apart."""

ROUNDING = 1e-6
"""Smallest amplitude of a turn, in units of max(F, 1): cross-entropy in float32 from logits of 16
is known to 16 * 2^-24 = 1e-6. Losses are of order 1; one far below 1 is known no better."""

EMERGENCE = 1e-4
"""Amplitude over F that marks the onset by amplitude: above the kinks of a ReLU network's trace
(1e-6 to 1e-5 of F), below what an instability must reach."""

PEAK = 1e-3
"""Amplitude over F that an instability must reach once. Those of the reference runs reach 1e-2; the
kink of the class weights at T/2 has 2e-4 at T = 5000."""

WINDOW = 64
"""Steps over which a regime is recognised: four returns at the longest period."""

HOP = 16
"""Steps between two windows: the resolution of the ends of a regime."""

LONGEST = 16
"""Longest period looked for: beyond it the doublings of the logistic map span 0.0012 of r."""

CLOSES = 0.05
"""Largest rho_p of a period p. Over the windows of those runs the least rho_p has two humps, jitter
near 0.01 and chaos near 0.35, with the valley at 0.05 to 0.07. Chaos in bands narrower than that
passes for a period: that of the logistic map up to r = 3.58."""

SPLITS = 0.005
"""rho_p from which a consistent alternation of r_p is a doubled period, not rounding."""

CONSISTENT = 0.9
"""c_p from which r_p alternates: 1 for a split, 2/3 with a standard error of 0.08 in a window for
white jitter. Chaos that keeps to two bands passes 0.9 too, but does not close at 2p."""


@dataclass(frozen=True)
class Sample:
    """A measured value.

    Args:
        step: updates done when it was measured.
        value: what was measured.
    """

    step: int
    value: float


@dataclass(frozen=True, eq=False)
class CurvatureSamples:
    """Curvature along a run, measured now and then. A value that is not finite is left out.

    Args:
        steps: (m,) updates done, ascending.
        hessian_lambda_max: (m,) largest eigenvalue of the Hessian of F; None: not measured.
        ntk_lambda_max: (m,) largest eigenvalue of the NTK; None: not measured.

    Raises:
        ValueError: for lengths that differ, or steps that do not ascend.
    """

    steps: ArrayLike
    hessian_lambda_max: ArrayLike | None = None
    ntk_lambda_max: ArrayLike | None = None

    def __post_init__(self) -> None:
        steps = np.asarray(self.steps)
        if steps.ndim != 1 or bool((np.diff(steps) <= 0).any()):
            raise ValueError("curvature steps must ascend along one axis")
        for name in ("hessian_lambda_max", "ntk_lambda_max"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != steps.shape:
                raise ValueError(f"{name} has shape {np.shape(values)}, its steps {steps.shape}")

    def last(self, quantity: Quantity, step: int) -> Sample | None:
        """The last finite value measured at or before a step."""
        early = [each for each in self._measured(quantity) if each.step <= step]
        return early[-1] if early else None

    def first(self, quantity: Quantity, step: int) -> Sample | None:
        """The first finite value measured at or after a step."""
        late = [each for each in self._measured(quantity) if each.step >= step]
        return late[0] if late else None

    def at(self, quantity: Quantity, step: int) -> float | None:
        """A step's value on the line between the samples around it; None without one on a side."""
        before, after = self.last(quantity, step), self.first(quantity, step)
        if before is None or after is None:
            return None
        return float(np.interp(step, [before.step, after.step], [before.value, after.value]))

    def _measured(self, quantity: Quantity) -> list[Sample]:
        values = getattr(self, quantity)
        if values is None:
            return []
        pairs = zip(np.asarray(self.steps), np.asarray(values, dtype=np.float64), strict=True)
        return [Sample(int(step), float(each)) for step, each in pairs if np.isfinite(each)]


@dataclass(frozen=True)
class Regime:
    """Steps of one kind of oscillation.

    Args:
        start: first step.
        end: one past the last.
        period: 1 (no oscillation), 2, 3, ... 16; None: aperiodic, which is chaos, a slowly
            modulated orbit as on the edge of stability, or a burst that changes within a window.
        residual: median over its windows of rho_p at that period, of the least rho_p if aperiodic;
            0 for period 1, infinite where the trace is too short for one return.
    """

    start: int
    end: int
    period: int | None
    residual: float


@dataclass(frozen=True)
class Instability:
    """One instability. Steps count as in the trace; None is what is not known.

    Args:
        onset: the step from which F rises and falls in turn ten times running; the first turn
            where ten never follow each other, or where the trace begins inside.
        emergence: the step from which the amplitude stays above 1e-4 of F until it is first large.
            Before `onset` where a steep trend hides the alternation, after it where that grows
            from less.
        end: one past the last step that alternates.
        begins_before: the trace begins inside it.
        continues: the trace ends, or diverges, inside it.
        period_number: k = onset // T.
        before_period_end: steps from the onset to the next period.
        boundary_offset: steps from the nearest start of a period to the onset, negative before it.
        amplitude: largest a, in units of F.
        relative_amplitude: largest a / F.
        cascade: regimes inside, in order and without gaps.
        hessian_before: last Hessian lambda_max at or before the onset.
        hessian_at_onset: linearly interpolated; None without a value on either side.
        ntk_before: last NTK lambda_max at or before the onset.
        ntk_after: first NTK lambda_max at or after the end. (The lowest inside would be biased: the
            least of many values lies below the first even if nothing falls.)
    """

    onset: int
    emergence: int
    end: int
    begins_before: bool
    continues: bool
    period_number: int | None
    before_period_end: int | None
    boundary_offset: int | None
    amplitude: float
    relative_amplitude: float
    cascade: tuple[Regime, ...]
    hessian_before: Sample | None = None
    hessian_at_onset: float | None = None
    ntk_before: Sample | None = None
    ntk_after: Sample | None = None

    @property
    def duration(self) -> int:
        """Steps from the onset to the end."""
        return self.end - self.onset

    @property
    def ntk_drop(self) -> float | None:
        """NTK lambda_max before minus after; None unless both are known."""
        if self.ntk_before is None or self.ntk_after is None:
            return None
        return self.ntk_before.value - self.ntk_after.value


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
        weighted_loss: (n,) F at consecutive steps. From the first value that is not finite on the
            run has diverged, and is left out.
        first_step: the step of the first value.
        period: T in steps; None for the static loss.
        stop: the step from which the class weights rest, and steps lie in no period.
        curvature: samples along the run.

    Raises:
        ValueError: if the trace has not one axis, or the period is so short that the class weights
            by themselves turn F as an instability does.
    """
    trace = np.asarray(weighted_loss, dtype=np.float64)
    if trace.ndim != 1:
        raise ValueError(f"a trace has one axis, got shape {trace.shape}")
    if period is not None and period < SHORTEST_PERIOD:
        raise ValueError(f"with a period of {period} steps the class weights alone turn F")
    trace = _finite_head(trace)
    turning = _Turning.of(trace)
    after = curvature or CurvatureSamples([])
    found = []
    for turns in turning.stretches(MERGE if period is None else min(MERGE, period // 4)):
        begins_before = bool(turns[0] <= LINK)
        start = int(turns[0]) if begins_before else _first_run(turns)
        end = int(turns[-1]) + 3
        stretch, onset = slice(start, end - 2), first_step + start
        before = CurvatureSamples([]) if begins_before else after
        place: tuple[int | None, int | None, int | None] = (None, None, None)
        if period is not None and (stop is None or onset < stop):
            number, tau = divmod(onset, period)
            place = (number, period - tau, tau if 2 * tau < period else tau - period)
        found.append(
            Instability(
                onset=onset,
                emergence=first_step + turning.emergence(start),
                end=first_step + end,
                begins_before=begins_before,
                continues=bool(len(trace) - end <= LINK),
                period_number=place[0],
                before_period_end=place[1],
                boundary_offset=place[2],
                amplitude=float(turning.amplitude[stretch].max()),
                relative_amplitude=float(turning.relative[stretch].max()),
                cascade=_cascade(trace, start, end, first_step),
                hessian_before=before.last("hessian_lambda_max", onset),
                hessian_at_onset=before.at("hessian_lambda_max", onset),
                ntk_before=before.last("ntk_lambda_max", onset),
                ntk_after=after.first("ntk_lambda_max", first_step + end),
            )
        )
    return tuple(found)


def regimes(trace: ArrayLike, *, first_step: int = 0) -> tuple[Regime, ...]:
    """The regimes of a whole trace (n,), of F or any other observable, up to its first value that
    is not finite; none of fewer than 3 steps."""
    values = _finite_head(np.asarray(trace, dtype=np.float64))
    return _cascade(values, 0, len(values), first_step) if len(values) > 2 else ()


@dataclass(frozen=True, eq=False)
class _Turning:
    """Where a trace turns, and how strongly; entry j belongs to F(j), F(j+1), F(j+2).

    Args:
        turns: (n-2,) d changes sign, with an amplitude above rounding.
        amplitude: (n-2,) a.
        relative: (n-2,) a over the mean of F there.
    """

    turns: NDArray[np.bool_]
    amplitude: Floats
    relative: Floats

    @classmethod
    def of(cls, trace: Floats) -> _Turning:
        quarters = trace / 4  # so that the sums of a run about to diverge do not overflow
        rises = np.diff(quarters)
        amplitude = np.abs(np.diff(rises))
        level = np.abs(quarters[:-2] + 2 * quarters[1:-1] + quarters[2:])
        rounding = ROUNDING * np.maximum(level, 1)
        turns = (np.sign(rises[1:]) * np.sign(rises[:-1]) < 0) & (amplitude > rounding)
        return cls(turns, amplitude, amplitude / np.maximum(level, rounding))

    def stretches(self, pause: int) -> list[Integers]:
        """The turns of each instability, pauses of up to `pause` steps included."""
        linked = _split(np.flatnonzero(self.turns), LINK)
        dense = [each for each in linked if len(each) >= ALTERNATIONS]
        if not dense:
            return []
        close = _split(np.concatenate(dense), min(WINDOW, pause))
        large = [each for each in close if self.relative[each].max() >= PEAK]
        return _split(np.concatenate(large), pause) if large else []

    def emergence(self, onset: int) -> int:
        """See `Instability.emergence`."""
        large = onset + int(np.argmax(self.relative[onset:] >= PEAK))
        quiet = self.relative[: large + 1] < EMERGENCE
        silence = np.flatnonzero(np.convolve(quiet, np.ones(LINK), "valid") == LINK)
        return int(silence[-1]) + LINK if len(silence) else 0


def _finite_head(trace: Floats) -> Floats:
    broken = np.flatnonzero(~np.isfinite(trace))
    return trace[: broken[0]] if len(broken) else trace


def _split(ascending: Integers, gap: int) -> list[Integers]:
    """Parts whose neighbours are at most `gap` apart."""
    return np.split(ascending, np.flatnonzero(np.diff(ascending) > gap) + 1)


def _first_run(turns: Integers) -> int:
    """The first turn that nine more follow at once; the first of all if there is none."""
    span = turns[ALTERNATIONS - 1 :] - turns[: 1 - ALTERNATIONS]
    return int(turns[np.argmax(span == ALTERNATIONS - 1)])


def _cascade(trace: Floats, start: int, end: int, first_step: int) -> tuple[Regime, ...]:
    """Regimes of the steps [start, end) of a trace; what lies around them helps at the ends."""
    edges = np.arange(start, max(end - HOP // 2, start + 1), HOP)  # (w,) each speaks for HOP steps
    low = np.clip(edges + (HOP - WINDOW) // 2, start, max(start, end - WINDOW))
    high = np.minimum(low + WINDOW, end)
    first = max(start - 2 * LONGEST, 0)
    around = trace[first : end + 2 * LONGEST]
    scale = max(float(np.abs(around).max()), 1.0)  # a run about to diverge has huge squares
    rho, alternating, swing = _returns(np.diff(around) / scale, low - first, high - first)
    splits = (rho > SPLITS) & (alternating >= CONSISTENT)
    closes = (rho < CLOSES) & ~splits  # (LONGEST, w)
    for p in range(4, LONGEST + 1):
        for q in (q for q in range(2, p) if p % q == 0):  # where q closes but for jitter, so does p
            closes[p - 1] &= splits[q - 1] | (rho[p - 1] < rho[q - 1] / 2)
    closes[0] = swing < ROUNDING
    rho[0] = np.where(closes[0], 0, np.inf)
    periods = np.where(closes.any(0), closes.argmax(0) + 1, 0)  # (w,), 0: aperiodic
    residual = np.where(periods > 0, rho[periods - 1, np.arange(len(edges))], np.nanmin(rho, 0))
    for index in range(1, len(edges) - 1):
        if periods[index - 1] != periods[index] != periods[index + 1]:
            periods[index] = periods[index - 1]  # one window alone is no regime
    bounds = [0, *(np.flatnonzero(np.diff(periods)) + 1), len(edges)]
    return tuple(
        Regime(
            start=first_step + int(edges[a]),
            end=first_step + (int(edges[b]) if b < len(edges) else end),
            period=int(periods[a]) or None,
            residual=float(np.median(residual[a:b])),
        )
        for a, b in pairwise(bounds)
    )


def _returns(d: Floats, low: Integers, high: Integers) -> tuple[Floats, Floats, Floats]:
    """rho_p and c_p (LONGEST, w) in the windows of steps [low, high), NaN where a window holds less
    than one return; and the rms amplitude (w,)."""
    power = np.full((LONGEST, len(low)), np.nan)
    alternating = power.copy()
    for p in range(1, LONGEST + 1):
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
