"""Means of skewed differences: the formula, its inverse, and what it must not change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from studies.analysis.statistics.comparison import compare
from studies.analysis.statistics.equivalence import equivalence_test
from studies.analysis.statistics.skewness import Skewness, skewness_of
from tests.studies.analysis.hall import (
    p_that_decides,
    p_that_they_are_the_same,
    wider_interval,
)

numbers = st.integers(3, 300)
parts = st.floats(0.001, 0.4)
sizes = st.floats(-3, 3)
skewnesses = st.builds(
    Skewness,
    st.floats(-3, 3).map(lambda value: round(value, 3)),
    st.floats(0, 1).map(lambda value: round(value, 3)),
)
differences = arrays(
    float, st.integers(3, 40), elements=st.floats(-1, 1).map(lambda value: round(value, 3))
)


@given(skewnesses, numbers, parts)
def test_an_end_of_the_interval_has_its_p_value(skewness: Skewness, n: int, part: float) -> None:
    down, up = skewness.reach(n, part)
    assert skewness.p_above(down, n) == pytest.approx(part, rel=1e-6)
    assert skewness.p_below(-up, n) == pytest.approx(part, rel=1e-6)


@given(sizes, numbers, parts)
def test_without_skewness_it_is_students(size: float, n: int, part: float) -> None:
    nothing = Skewness(0.0, 0.0)
    assert nothing.p_above(size, n) == pytest.approx(stats.t.sf(n**0.5 * size, n - 1))
    assert nothing.p_below(size, n) == pytest.approx(stats.t.cdf(n**0.5 * size, n - 1))
    assert nothing.reach(n, part) == pytest.approx([stats.t.isf(part, n - 1) / n**0.5] * 2)


@given(skewnesses, sizes, numbers, parts)
def test_it_is_mirrored_with_the_arms(skewness: Skewness, size: float, n: int, part: float) -> None:
    mirrored = Skewness(-skewness.value, skewness.error)
    assert mirrored.p_below(-size, n) == skewness.p_above(size, n)
    assert mirrored.reach(n, part) == skewness.reach(n, part)[::-1]


@given(skewnesses, sizes, sizes, numbers)
def test_what_is_further_away_is_surer(
    skewness: Skewness, size: float, other: float, n: int
) -> None:
    near, far = sorted((size, other))
    assert skewness.p_above(far, n) <= skewness.p_above(near, n) + 1e-12
    assert skewness.p_below(near, n) <= skewness.p_below(far, n) + 1e-12


@given(skewnesses, st.floats(0, 3), numbers)
def test_its_error_weakens_a_claim(skewness: Skewness, size: float, n: int) -> None:
    """Up to a skewness of 4.5 standard deviations, where the cube of the formula takes over."""
    assume((abs(skewness.value) + skewness.error) * size < 4.5)
    known = Skewness(skewness.value, 0.0)
    assert skewness.p_above(size, n) >= known.p_above(size, n) - 1e-12
    assert skewness.p_below(-size, n) >= known.p_below(-size, n) - 1e-12


@given(differences, st.sampled_from([0.9, 0.95, 0.99]), st.floats(-2, 2), st.floats(0.1, 10))
def test_a_comparison_has_the_symmetries_of_its_question(
    d: np.ndarray, level: float, shift: float, scale: float
) -> None:
    assume(np.ptp(d) > 0.01)
    found = compare(d, level=level, pairs=[d])
    student = compare(d, level=level)
    assert found.p >= found.p_t == student.p_t == student.p
    assert found.low <= student.low
    assert found.high >= student.high
    for changed, low, high in (
        (-d, -found.high, -found.low),
        (d + shift, found.low + shift, found.high + shift),
        (scale * d, scale * found.low, scale * found.high),
    ):
        other = compare(changed, level=level, pairs=[changed])
        assert (other.low, other.high) == pytest.approx((low, high), abs=1e-9)
    for factor in (scale, -scale) if abs(found.mean) > 1e-9 else ():
        assert compare(factor * d, pairs=[factor * d]).p == pytest.approx(found.p, rel=1e-6)
    if abs(found.p - (1 - level)) > 1e-6:
        assert (found.low > 0 or found.high < 0) == (found.p < 1 - level)


@pytest.mark.parametrize("n", [5, 12, 30, 100])
def test_what_decides_is_what_the_formula_says(n: int) -> None:
    draws = np.random.default_rng(n)
    for sign in (-1, 1):
        d = sign * draws.exponential(size=n) + draws.normal(0, 0.5)
        found = compare(d, level=0.97, pairs=[d])
        assert found.p == pytest.approx(p_that_decides(d))
        assert (found.low, found.high) == pytest.approx(wider_interval(d, 0.97))
        assert equivalence_test(found, 1.2) == pytest.approx(p_that_they_are_the_same(d, 1.2))


def test_skewed_differences_need_more_than_a_t_test() -> None:
    """The mean of an exponential distribution is 1: what is said to be below it errs."""
    draws, said = np.random.default_rng(0), {"t": 0, "corrected": 0}
    repeats, n = 2000, 30
    for d in draws.exponential(size=(repeats, n)) - 1:
        found = compare(d, pairs=[d])
        said["t"] += found.p_t < 0.05 and found.mean < 0
        said["corrected"] += found.p < 0.05 and found.mean < 0
    assert said["t"] > 2 * 0.025 * repeats
    assert stats.binomtest(said["corrected"], repeats, 0.025, "greater").pvalue > 1e-3


def test_the_skewness_of_one_group_is_scipys() -> None:
    draws = np.random.default_rng(0)
    for n in (3, 10, 60):
        d = draws.exponential(size=n)
        found = skewness_of([d], float(d.std(ddof=1)))
        assert found is not None
        assert found.value == pytest.approx(stats.skew(d, bias=False))
        assert found.error == pytest.approx(np.sqrt(6 / n))


def test_means_of_searches_are_less_skewed_than_their_pairs() -> None:
    """The mean of m values has their skewness over the root of m."""
    draws, each = np.random.default_rng(0), 20
    groups = list(draws.exponential(size=(2000, each)))
    found = skewness_of(groups, each**-0.5)
    assert found is not None
    assert found.value == pytest.approx(2 / each**0.5, rel=0.1)
    means = np.mean(groups, axis=1)
    assert found.value == pytest.approx(stats.skew(means), rel=0.3)
    luck = [group + draws.normal(0, 1) for group in groups]
    lucky = skewness_of(luck, float(np.mean(luck, axis=1).std(ddof=1)))
    assert lucky is not None
    assert 0 < lucky.value < 0.1 * found.value, "luck has no skewness here"
    assert lucky.error < found.error


def test_over_searches_the_interval_stays_students() -> None:
    groups = list(np.random.default_rng(0).exponential(size=(6, 8)))
    means = np.mean(groups, axis=1)
    found, student = compare(means, pairs=groups), compare(means)
    assert (found.low, found.high) == (student.low, student.high)
    assert found.p >= student.p
    assert (found.n, found.pairs, student.pairs) == (6, 48, 6)


def test_what_does_not_scatter_has_no_skewness() -> None:
    d = np.array([0.1, 0.2, 0.4])
    assert skewness_of([d], 0.0) is None
    assert skewness_of([d[:2]], 0.1) is None, "two values are always symmetric"
    assert skewness_of([np.full(5, 0.25), np.full(5, 0.5)], 0.1) is None
    assert skewness_of([], 0.1) is None
    equal = compare(np.full(30, 0.01), pairs=[np.full(30, 0.01)])
    assert (equal.skewness, equal.p) == (None, 2.0**-29)
    assert equal.low == equal.high == pytest.approx(0.01)
