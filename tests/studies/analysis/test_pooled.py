"""Several comparisons in one number: closed forms, weights, and intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from studies.analysis.statistics.pooled import pooled


def test_shares_are_averaged_and_ties_count_half() -> None:
    found = pooled([np.array([1.0, 1.0, -1.0, 0.0]), np.array([-1.0, -1.0])])
    assert found.improves == pytest.approx((2.5 / 4 + 0) / 2)
    assert found.improves_low <= found.improves <= found.improves_high


def test_the_middle_is_that_of_scipy_where_there_is_one_comparison() -> None:
    gains = np.random.default_rng(0).standard_cauchy(4000)
    expected = stats.trim_mean(gains, 0.25)
    assert pooled([gains], resamples=50).middle == pytest.approx(expected, abs=0.02)


def test_a_comparison_counts_once_however_many_pairs_it_has() -> None:
    few, many = np.full(5, 0.0), np.full(500, 1.0)
    assert pooled([few, many], resamples=50).middle == pytest.approx(0.5, abs=0.01)
    assert pooled([few, many], resamples=50).improves == pytest.approx(0.75)


def test_its_intervals_hold_the_truth() -> None:
    draws, inside, repeats = np.random.default_rng(1), np.zeros(2), 200
    for _ in range(repeats):
        found = pooled([draws.normal(0.5, 1, 40) for _ in range(3)], resamples=300)
        inside[0] += found.improves_low <= stats.norm.cdf(0.5) <= found.improves_high
        inside[1] += found.middle_low <= 0.5 <= found.middle_high
    assert (inside / repeats > 0.9).all()


def test_nothing_is_refused() -> None:
    for bad in ([], [np.array([1.0]), np.array([])]):
        with pytest.raises(ValueError, match="needs pairs"):
            pooled(bad)
