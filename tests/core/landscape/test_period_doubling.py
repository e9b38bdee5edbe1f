"""Segments and cascades of the logistic map, which are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynloss_core.landscape.instabilities import find_instabilities
from dynloss_core.landscape.period_doubling import segments


def logistic(rates: np.ndarray, start: float = 0.4) -> np.ndarray:
    """The orbit of x -> r x (1 - x), each step with its own r."""
    orbit, x = np.empty(len(rates)), start
    for index, rate in enumerate(rates):
        x = rate * x * (1 - x)
        orbit[index] = x
    return orbit


@pytest.mark.parametrize(
    ("rate", "period"),
    [
        (2.9, 1),
        (3.1, 2),
        (3.44, 2),
        (3.46, 4),
        (3.54, 4),
        (3.55, 8),
        (3.5665, 16),
        (3.6, None),
        (3.627, 6),
        (3.65, None),
        (3.739, 5),
        (3.83, 3),
        (3.845, 6),
        (3.9, None),
        (4.0, None),
    ],
)
@pytest.mark.parametrize("steps", [96, 512])
def test_a_stationary_orbit_of_the_logistic_map_has_its_period(
    rate: float, period: int | None, steps: int
) -> None:
    orbit = logistic(np.full(8000, rate))[-steps:]
    assert [(each.start, each.end, each.period) for each in segments(orbit)] == [(0, steps, period)]


def test_the_logistic_map_driven_through_r_shows_its_cascade() -> None:
    rates = np.linspace(2.95, 3.86, 200_000)
    (found,) = find_instabilities(logistic(rates, start=1 - 1 / rates[0]))
    assert found.continues
    assert not found.begins_before
    reached: dict[int | None, float] = {}
    for segment in found.cascade:
        reached.setdefault(segment.period, float(rates[segment.start]))
    expected = {2: 3.0, 4: 1 + 6**0.5, 8: 3.54409, None: 3.56995, 3: 1 + 8**0.5}
    assert list(reached)[:3] == [2, 4, 8]
    for period, rate in expected.items():
        # a slow passage is late: the doubled orbit has to grow out of what is left of it
        assert -1e-3 < reached[period] - rate < 0.015, (period, reached[period])
    assert all(a.end == b.start for a, b in zip(found.cascade, found.cascade[1:], strict=False))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    period=st.sampled_from([2, 4, 3, 8]),
    slope=st.floats(-1e-4, 1e-4),
)
def test_a_regime_survives_jitter_and_a_slow_drift(seed: int, period: int, slope: float) -> None:
    rate = {2: 3.3, 4: 3.5, 3: 3.83, 8: 3.55}[period]
    orbit = logistic(np.full(4000, rate))[-400:]
    t = np.arange(400)
    noise = 2e-3 * np.ptp(orbit) * np.random.default_rng(seed).standard_normal(400)
    drifting = (1 + 2e-4 * t) * orbit + slope * t + noise
    assert [each.period for each in segments(drifting)] == [period]
