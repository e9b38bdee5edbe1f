"""Instabilities are checked against dynamics whose cascade and onset are known in closed form, then
on the reference trajectories."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynloss_core.landscape.curvature_samples import CurvatureSamples, Sample
from dynloss_core.landscape.instabilities import (
    MERGE,
    PEAK,
    Instability,
    find_instabilities,
)
from dynloss_core.landscape.period_doubling import ROUNDING, Segment, segments
from tests.golden.reference_runs import GOLDEN, first_instability

SEEDS = st.integers(0, 2**32 - 1)


def burst(steps: int, start: int, stop: int, size: float = 0.02, growth: float = 0.2) -> np.ndarray:
    """F = 1 with an alternation that grows from nothing to `size` and dies again."""
    t = np.arange(steps)
    envelope = np.minimum(t - start, stop - t) * growth + np.log(1e-6)
    return np.asarray(1 + size * np.exp(np.minimum(envelope, 0)) * (-1.0) ** t)


# Onset: gradient descent whose curvature crosses 2 / learning rate


def descent(
    learning_rate: float, crossing: int, steps: int, kick: float
) -> tuple[np.ndarray, np.ndarray]:
    """F and the curvature along gradient descent on F = 1 + h(t) log cosh x, x = w - c(t).

    log cosh x = x^2 / 2 - x^4 / 12 + ...: a quadratic valley whose softer walls hold the
    oscillation. The valley moves steadily, so that w trails it and F sees on which side w is. Its
    curvature h rises linearly through 2 / learning rate at `crossing`, where w is kicked once; from
    there on the kick alternates and grows.
    """
    speed = 0.05  # w trails by speed / (learning rate h), 0.025 at the crossing
    curvature = (2 + 4e-4 * (np.arange(steps) - crossing)) / learning_rate
    trace, x = np.empty(steps), speed / (learning_rate * curvature[0])
    for t in range(steps):
        x += kick if t == crossing else 0
        trace[t] = 1 + curvature[t] * np.log(np.cosh(x))
        x -= learning_rate * curvature[t] * np.tanh(x) - speed
    return trace, curvature


@pytest.mark.parametrize("learning_rate", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("kick", [1e-4, 1e-3])
def test_the_onset_is_where_curvature_crosses_two_over_the_learning_rate(
    learning_rate: float, kick: float
) -> None:
    crossing, steps = 900, 1400
    trace, curvature = descent(learning_rate, crossing, steps, kick)
    at = np.arange(0, steps, 100)
    (found,) = find_instabilities(trace, curvature=CurvatureSamples(at, curvature[at]))
    assert abs(found.onset - crossing) <= 3
    assert found.continues
    assert found.cascade[-1].period == 2
    assert found.hessian_before is not None
    assert found.hessian_before.step in (800, 900)
    assert found.hessian_at_onset == pytest.approx(2 / learning_rate, rel=1e-3)


def test_below_the_crossing_a_kick_dies_out() -> None:
    trace, _ = descent(1.0, crossing=900, steps=890, kick=0)
    assert find_instabilities(trace) == ()
    assert find_instabilities(trace[500:]) == ()


# What is measured


@settings(max_examples=40, deadline=None)
@given(size=st.floats(0.01, 0.2), slope=st.floats(-1e-3, 1e-3))
def test_an_alternation_is_found_whatever_the_slope(size: float, slope: float) -> None:
    t = np.arange(200)
    (found,) = find_instabilities(2 + slope * t + size * (-1.0) ** t)
    assert found.begins_before
    assert found.continues
    assert dataclasses.replace(found.cascade[0], residual=0.0) == Segment(0, 200, 2, 0.0)
    assert found.cascade[0].residual < 1e-6


def test_a_trend_hides_an_alternation_that_is_smaller() -> None:
    t = np.arange(600)
    trace = burst(600, 100, 500, growth=0.1) + 1e-3 * t
    (found,) = find_instabilities(trace)
    turns = 100 + np.log(0.5e-3 / 0.02 / 1e-6) / 0.1  # 2 a = 1e-3, the slope
    assert found.onset == pytest.approx(turns, abs=2)


def test_an_onset_from_rounding_level_precedes_the_amplitude() -> None:
    (found,) = find_instabilities(burst(800, 100, 700))
    assert found.onset == pytest.approx(100 + np.log(ROUNDING / 0.02 / 1e-6) / 0.2, abs=3)
    assert found.end == pytest.approx(800 - found.onset, abs=6)
    assert not found.begins_before
    assert not found.continues


def test_the_period_and_the_distance_to_its_end() -> None:
    trace = burst(1000, 500, 800)
    (found,) = find_instabilities(trace, first_step=4000, period=900)
    assert found.period_number == 5
    assert found.boundary_offset == found.onset - 4500
    (early,) = find_instabilities(trace, first_step=3900, period=900)
    assert (early.period_number, early.boundary_offset) == (4, early.onset - 4500)
    (rest,) = find_instabilities(trace, first_step=4000, period=900, stop=4500)
    assert rest.onset == found.onset
    assert (rest.period_number, rest.boundary_offset) == (None, None)


def test_curvature_around_an_instability() -> None:
    trace = burst(1000, 300, 700)
    steps = np.arange(0, 1000, 100)
    hessian = np.where(steps < 600, 1 + steps / 400, 3.0)
    ntk = np.array([100, 200, 300, 400, 350, 200, 100, 150, 160, np.nan])
    samples = CurvatureSamples(steps, hessian, ntk)
    (found,) = find_instabilities(trace, curvature=samples)
    assert 300 < found.onset < 400 < found.end < 700
    assert found.hessian_before == Sample(300, 1.75)
    assert found.hessian_at_onset == pytest.approx(1 + found.onset / 400)
    assert found.ntk_before == Sample(300, 400.0)
    assert found.ntk_after == Sample(700, 150.0)
    (bare,) = find_instabilities(trace, curvature=CurvatureSamples(steps[:3], None, ntk[:3]))
    assert (bare.hessian_before, bare.hessian_at_onset) == (None, None)
    assert (bare.ntk_before, bare.ntk_after) == (Sample(200, 300.0), None)


# One, two or none


@pytest.mark.parametrize(("gap", "count"), [(MERGE // 2, 1), (MERGE + 150, 2)])
def test_close_instabilities_are_one(gap: int, count: int) -> None:
    alternation = 0.02 * (-1.0) ** np.arange(200)
    trace = 1 + np.concatenate([np.zeros(300), alternation, np.zeros(gap), alternation])
    found = find_instabilities(np.concatenate([trace, np.ones(300)]))
    assert len(found) == count
    # a quarter of a short period keeps neighbours apart
    assert len(find_instabilities(np.concatenate([trace, np.ones(300)]), period=160)) == 2
    assert found[0].onset == pytest.approx(300, abs=2)
    assert found[-1].end == pytest.approx(700 + gap, abs=2)


def test_weak_alternation_extends_an_instability_only_if_it_is_next_to_it() -> None:
    alternation = (-1.0) ** np.arange(200)
    quiet, weak, large = np.zeros(150), PEAK / 2 * alternation, 0.02 * alternation
    (found,) = find_instabilities(1 + np.concatenate([quiet, weak, quiet, large, quiet, weak]))
    assert abs(found.onset - 500) <= 2
    assert abs(found.end - 700) <= 2
    (longer,) = find_instabilities(1 + np.concatenate([quiet, weak, quiet[:40], large, weak]))
    assert abs(longer.onset - 150) <= 2
    assert longer.end == 790
    assert find_instabilities(1 + np.concatenate([quiet, weak, quiet])) == ()


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(250, 600))
def test_a_trace_may_begin_or_end_inside(cut: int) -> None:
    trace = burst(900, 150, 750)
    (whole,) = find_instabilities(trace)
    (head,) = find_instabilities(trace[:cut])
    assert (head.onset, head.end, head.begins_before, head.continues) == (
        whole.onset,
        cut,
        False,
        True,
    )
    (tail,) = find_instabilities(trace[cut:], first_step=cut)
    assert (tail.onset, tail.end, tail.begins_before, tail.continues) == (
        cut,
        whole.end,
        True,
        False,
    )
    assert tail.hessian_before is None


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    level=st.floats(1e-4, 10),
    slopes=st.lists(st.floats(-1e-3, 1e-3), min_size=2, max_size=8),
    noise=st.sampled_from([0.0, 1e-9, 5e-8]),
)
def test_smooth_kinked_and_noisy_traces_have_no_instability(
    seed: int, level: float, slopes: list[float], noise: float
) -> None:
    """Straight and curved stretches with kinks between, in float32, on a noise of a few units in
    its last place."""
    draws = np.random.default_rng(seed)
    t = np.arange(500) / 500
    slope = np.repeat(slopes, 500) + 1e-3 * np.tile(
        np.sin(2 * np.pi * (t + draws.random())), len(slopes)
    )
    trend = level * np.exp(np.clip(np.cumsum(slope), -4, 4))
    noisy = trend + noise * np.maximum(trend, 1) * draws.standard_normal(len(trend))
    assert find_instabilities(noisy.astype(np.float32)) == ()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, calm=st.integers(MERGE + 10, 400))
def test_noise_and_kinks_before_an_instability_leave_its_onset(seed: int, calm: int) -> None:
    (clean,) = find_instabilities(burst(900, 150, 750))
    draws = np.random.default_rng(seed)
    kinks = np.maximum(np.arange(calm) - draws.integers(0, calm, 3)[:, None], 0).sum(0) * 1e-3
    trace = np.concatenate([kinks - kinks[-1] + 1, burst(900, 150, 750)])
    noisy = trace + 5e-8 * draws.standard_normal(len(trace))
    (found,) = find_instabilities(noisy, first_step=-calm)
    assert abs(found.onset - clean.onset) <= 3
    assert abs(found.end - clean.end) <= 3


# The reference trajectories


def golden(name: str) -> np.ndarray:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return np.asarray(file["weighted_loss"], dtype=np.float64)


@pytest.mark.parametrize(
    ("name", "onset"), [("golden_w100_A70_T5000", 4213), ("golden_w100_A1", 423)]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_onset_is_the_reference_s_first_instability(
    name: str, onset: int, dtype: type[np.floating]
) -> None:
    trace = golden(name)
    assert first_instability(trace) == onset
    (found,) = find_instabilities(trace.astype(dtype))
    assert abs(found.onset - onset) <= (0 if dtype is np.float64 else 3)
    assert found.continues


def test_the_dynamical_reference_doubles_its_period_once_near_the_end_of_the_first() -> None:
    (found,) = find_instabilities(golden("golden_w100_A70_T5000"), first_step=1, period=5001)
    assert found.period_number == 0
    assert found.onset == 4214
    assert {each.period for each in found.cascade} == {2}
    assert found.relative_amplitude == pytest.approx(0.018, abs=0.004)


def test_the_static_reference_stays_at_the_edge_of_stability() -> None:
    (found,) = find_instabilities(golden("golden_w100_A1"))
    assert (found.period_number, found.begins_before) == (None, False)
    assert found.end == 800
    assert found.relative_amplitude > PEAK


# Broken and short traces


def without_end(found: Instability) -> dict[str, object]:
    return {k: v for k, v in dataclasses.asdict(found).items() if k not in ("continues", "cascade")}


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_what_follows_a_divergence_is_left_out(broken: float) -> None:
    trace = burst(900, 100, 600)
    (whole,) = find_instabilities(trace)
    tail = np.concatenate([trace, np.full(50, broken), burst(900, 100, 600)])
    assert find_instabilities(tail) == (whole,)
    trace[300:] = broken
    (cut,) = find_instabilities(trace)
    assert (cut.onset, cut.end, cut.continues) == (whole.onset, 300, True)


def test_a_run_that_diverges_to_overflow_raises_no_warning() -> None:
    t = np.arange(800)
    exponent = np.minimum(0.9 * np.maximum(t - 100, 0) + np.log(1e-10), 709)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = find_instabilities(1 + np.exp(exponent) * (1 + 0.5 * (-1.0) ** t))
    assert found.onset == pytest.approx(115, abs=8)


@pytest.mark.parametrize("steps", range(15))
@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_short_and_constant_traces_have_none(steps: int, value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_instabilities(np.full(steps, value)) == ()
        segments(np.full(steps, value))


def test_twelve_steps_are_enough() -> None:
    trace = 1 + 0.1 * (-1.0) ** np.arange(12)
    assert find_instabilities(trace[:11]) == ()
    (found,) = find_instabilities(trace)
    assert (found.onset, found.end) == (0, 12)


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="one-dimensional"):
        find_instabilities(np.ones((3, 4)))
    with pytest.raises(ValueError, match="a period of 8 steps"):
        find_instabilities(np.ones(100), period=8)
    with pytest.raises(ValueError, match="ascend"):
        CurvatureSamples([3, 2], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"ntk_lambda_max has shape \(1,\)"):
        CurvatureSamples([2, 3], [1.0, 1.0], [1.0])
