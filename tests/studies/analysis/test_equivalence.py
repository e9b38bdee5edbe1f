"""Equivalence and power against published values, other routes, and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from studies.analysis.statistics.comparison import compare, compare_cells
from studies.analysis.statistics.equivalence import (
    decide,
    equivalence_power,
    equivalence_test,
    seeds_for_equivalence,
    seeds_for_power,
    spread_at_most,
)
from studies.analysis.statistics.multiplicity import adjusted_p

NOISE = np.array([0.01, -0.01, 0.02, -0.02, 0.0, 0.0])  # sd 0.01414, sem 0.00577


def test_two_one_sided_tests_by_hand() -> None:
    d = 0.004 + NOISE
    sem = math.sqrt(0.001 / 5 / 6)
    expected = max(stats.t.sf((0.004 + 0.03) / sem, 5), stats.t.sf((0.03 - 0.004) / sem, 5))
    assert equivalence_test(compare(d), 0.03) == pytest.approx(expected)


@settings(max_examples=25)
@given(
    arrays(float, st.integers(2, 9), elements=st.floats(-1, 1).map(lambda x: round(x, 3))),
    st.floats(0.01, 1.5),
)
def test_equivalence_three_ways(d: np.ndarray, margin: float) -> None:
    assume(np.ptp(d) > 0)
    p = equivalence_test(compare(d), margin)
    assert p == pytest.approx(ttost_paired(d, np.zeros(len(d)), -margin, margin)[0])
    above = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(d, margin, alternative="less").pvalue
    assert p == pytest.approx(max(above, below), abs=1e-12)
    interval = compare(d, level=0.9)
    assume(abs(p - 0.05) > 1e-9)
    assert (p < 0.05) == (-margin < interval.low and interval.high < margin)


@pytest.mark.parametrize(
    ("shift", "margin", "higher_is_better", "outcome"),
    [
        (0.1, None, True, "better"),
        (0.1, None, False, "worse"),
        (-0.1, None, True, "worse"),
        (-0.1, None, False, "better"),
        (0.01, None, True, "undecided"),
        (0.0, None, True, "undecided"),
        (0.0, 0.02, True, "equivalent"),
        (0.0, 0.01, True, "undecided"),
        (0.1, 0.05, True, "better"),
        (0.1, 0.10, True, "better"),  # as large as the margin: may or may not matter
        (0.1, 0.12, True, "better_within_margin"),  # significant, and too small to matter
        (0.1, 0.12, False, "worse_within_margin"),
        (-0.1, 0.12, True, "worse_within_margin"),
        (-0.1, 0.12, False, "better_within_margin"),
    ],
)
def test_the_outcome_follows_from_direction_and_margin(
    shift: float, margin: float | None, higher_is_better: bool, outcome: str
) -> None:
    found = decide(compare(shift + NOISE), margin, higher_is_better=higher_is_better)
    assert found.outcome == outcome
    assert found.margin == margin
    assert (found.p_equivalence is None) == (margin is None)
    if outcome != "undecided":
        assert found.seeds_needed is None


def test_one_of_many_is_decided_by_p_values_that_count_them_all() -> None:
    found = compare(0.1 + NOISE)
    alone = decide(found, 0.12, higher_is_better=True)
    assert alone.p_equivalence is not None
    adjusted = {(0.2, 0.01): "equivalent", (0.01, 0.2): "better", (0.2, 0.2): "undecided"}
    for (p, p_equivalence), outcome in adjusted.items():
        one = decide(found, 0.12, higher_is_better=True, p=p, p_equivalence=p_equivalence)
        assert one.outcome == outcome
        assert one.p_equivalence == alone.p_equivalence
    open_ = compare(0.01 + NOISE)
    few = decide(open_, higher_is_better=True).seeds_needed
    many = decide(open_, higher_is_better=True, p=min(1.0, 20 * open_.p_t)).seeds_needed
    assert few is not None
    assert many is not None
    assert many > few
    cut = decide(open_, higher_is_better=True, p=1.0, least_alpha=0.05 / 20).seeds_needed
    assert 20 * open_.p > 1
    assert cut == seeds_for_power(open_.sd, open_.mean, alpha=0.05 / 20)
    assert cut > many, "a p value that was cut at 1 hides most of the factor"


def test_p_values_of_several_comparisons() -> None:
    comparisons = [compare(shift + NOISE) for shift in (0.1, 0.012, 0.0, 0.001)]
    alone = [each.p_t for each in comparisons]
    for method, expected in (
        ("holm", multipletests(alone, method="holm")[1]),
        ("benjamini-hochberg", stats.false_discovery_control(alone)),
    ):
        assert adjusted_p(alone, method=method) == pytest.approx(list(expected))  # type: ignore[arg-type]
        second = adjusted_p(alone, method=method, look=2)  # type: ignore[arg-type]
        assert second == pytest.approx(np.minimum(1, 2 * np.array(expected)))


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=40), rounded=st.booleans())
def test_p_values_are_adjusted_as_statsmodels_does(p: list[float], rounded: bool) -> None:
    p = [round(value, 1) for value in p] if rounded else p
    for method, known in (("holm", "holm"), ("benjamini-hochberg", "fdr_bh")):
        found = adjusted_p(p, method=method)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, multipletests(p, method=known)[1], rtol=1e-12)
    assert adjusted_p([], method="holm") == []


def test_equal_differences_are_decided_by_sign_tests() -> None:
    assert decide(compare(np.zeros(5)), 0.01, higher_is_better=True).outcome == "equivalent"
    assert equivalence_test(compare(np.zeros(5)), 0.01) == 2**-5
    assert equivalence_test(compare(np.full(5, 0.01)), 0.01) == 1
    few = decide(compare(np.zeros(4)), 0.01, higher_is_better=True)
    assert (few.outcome, few.seeds_needed) == ("undecided", 5)
    assert decide(compare(np.zeros(50)), higher_is_better=True).seeds_needed is None
    five = decide(compare(np.full(5, 0.1)), higher_is_better=True)
    assert (five.outcome, five.seeds_needed) == ("undecided", 6)
    assert decide(compare(np.full(6, 0.1)), higher_is_better=True).outcome == "better"


def test_the_t_test_decides_and_the_signed_ranks_stand_beside() -> None:
    """Five pairs can never be significant by ranks: 2 / 2^5 is above 5%."""
    found = compare(np.array([0.10, 0.11, 0.12, 0.08, 0.09]))
    assert found.p_wilcoxon == 2 / 2**5
    assert decide(found, higher_is_better=True).outcome == "better"


def test_a_margin_that_is_not_above_zero_is_refused() -> None:
    for margin in (0.0, -0.01, np.nan):
        with pytest.raises(ValueError, match="not above 0"):
            decide(compare(NOISE), margin, higher_is_better=True)


@pytest.mark.parametrize(("sd", "rate"), [(0.02, 0.05), (0.1, 0.0)])
def test_equivalence_is_claimed_at_the_margin_no_more_often_than_alpha(
    sd: float, rate: float
) -> None:
    """A true difference of exactly the margin. With much noise the test is conservative."""
    draws = np.random.default_rng(0)
    claims = sum(
        equivalence_test(compare(draws.normal(0.03, sd, 12)), 0.03) < 0.05 for _ in range(1000)
    )
    assert stats.binomtest(claims, 1000, 0.05, alternative="greater").pvalue > 1e-3
    if rate:
        assert stats.binomtest(claims, 1000, rate).pvalue > 1e-3
        assert equivalence_power(12, sd, 0.03, 0.03) == pytest.approx(rate, abs=1e-3)


def test_no_difference_is_claimed_more_often_than_alpha() -> None:
    draws = np.random.default_rng(1)
    outcomes = [
        decide(compare(draws.normal(0, 0.03, 10)), 0.02, higher_is_better=True).outcome
        for _ in range(250)
    ]
    claims = sum(outcome in ("better", "worse") for outcome in outcomes)
    assert stats.binomtest(claims, 250, 0.05, alternative="greater").pvalue > 1e-3


def test_published_powers_of_equivalence() -> None:
    """Through degrees of freedom and standard error, on which alone the power depends."""
    # PowerTOST (R): power.TOST(CV = 0.3, n = 40) is 0.8158453: 38 degrees of freedom
    sd, sem = math.sqrt(math.log(1.09)), math.sqrt(2 / 40)
    power = equivalence_power(39, sd * sem * math.sqrt(39), math.log(0.95), math.log(1.25))
    assert power == pytest.approx(0.8158453, abs=5e-8)
    # PASS, equivalence of two means, n = 3 each: 0.0386, where simpler formulas go below 0
    power = equivalence_power(5, 18 * math.sqrt(2 / 3) * math.sqrt(5), -4, 19.2)
    assert power == pytest.approx(0.0386, abs=5e-5)


@pytest.mark.parametrize(("n", "effect"), [(2, 0.0), (8, 0.01), (30, -0.012), (400, 0.016)])
def test_power_of_equivalence_by_a_double_integral(n: int, effect: float) -> None:
    """Over chi-square and normal, in another order and by another rule."""
    sem, margin, critical = 0.04 / math.sqrt(n), 0.02, stats.t.isf(0.05, n - 1)

    def given_z(z: float) -> float:
        most = (margin - abs(effect + z * sem)) / (critical * sem)
        return float(stats.norm.pdf(z) * stats.chi2.cdf((n - 1) * max(most, 0.0) ** 2, n - 1))

    ends = ((-margin - effect) / sem, (margin - effect) / sem)
    expected = integrate.quad(given_z, *ends, points=[0, -effect / sem], epsabs=1e-11, limit=200)[0]
    assert equivalence_power(n, 0.04, effect, margin) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("effect", "power", "n"), [(0.2, 0.8, 199), (0.5, 0.8, 34), (0.8, 0.8, 15), (0.5, 0.9, 44)]
)
def test_seeds_of_the_textbook(effect: float, power: float, n: int) -> None:
    """Matched pairs at 5%, two-sided (G*Power 3; Faul et al. 2007, Behav. Res. Methods 39:175)."""
    assert seeds_for_power(1.0, effect, power) == n
    assert seeds_for_power(0.02, -0.02 * effect, power) == n
    assert math.ceil(TTestPower().solve_power(effect, power=power, alpha=0.05)) == n


@given(st.floats(0.02, 20), st.floats(0.5, 0.99), st.sampled_from([0.01, 0.05, 0.1]))
def test_seeds_are_the_fewest(size: float, power: float, alpha: float) -> None:
    n = seeds_for_power(1.0, size, power, alpha)
    assert n is not None
    reached = [TTestPower().power(size, k, alpha / 2, alternative="larger") for k in (n, n - 1)]
    assert reached[0] >= power
    assert n == 2 or reached[1] < power
    margin, effect = 1.5 * size, 0.5 * size
    n = seeds_for_equivalence(1.0, effect, margin, power, alpha)
    assert n is not None
    assert equivalence_power(n, 1.0, effect, margin, alpha) >= power
    assert n == 2 or equivalence_power(n - 1, 1.0, effect, margin, alpha) < power


@pytest.mark.parametrize("pilot", [4, 6, 24])
def test_a_plan_by_the_bound_of_the_spread_has_its_power_in_four_of_five(pilot: int) -> None:
    """With the pilot's own spread in fewer than half. True spread 1, effect and margin 0.6."""
    drawn = np.random.default_rng(pilot).chisquare(pilot - 1, 500)
    bounds, counts = [], []
    for sd in np.sqrt(drawn / (pilot - 1)):
        for kept, found in ((bounds, spread_at_most(sd, pilot)), (counts, sd)):
            n = seeds_for_equivalence(found, 0.0, 0.6)
            assert n is not None
            kept.append(equivalence_power(n, 1.0, 0.0, 0.6) >= 0.9)
    assert np.mean(bounds) > 0.8 - 3 * math.sqrt(0.8 * 0.2 / 500)
    assert np.mean(counts) < 0.5


def test_the_bound_of_a_spread_in_closed_form() -> None:
    """Six differences: sqrt(5 / 2.3425) (the 20% point of chi-squared with 5 degrees)."""
    assert spread_at_most(1.0, 6) == pytest.approx(math.sqrt(5 / 2.342534), rel=1e-6)
    assert spread_at_most(0.0, 6) == 0
    with pytest.raises(ValueError, match="at least two"):
        spread_at_most(1.0, 1)


def test_no_number_of_seeds_is_enough() -> None:
    assert seeds_for_power(1.0, 0.0) is None
    assert seeds_for_power(1.0, 1e-5) is None
    assert seeds_for_equivalence(1.0, 0.1, 0.1) is None
    assert seeds_for_equivalence(0.0, 0.2, 0.1) is None


@settings(max_examples=25)
@given(
    arrays(float, st.integers(2, 9), elements=st.floats(-0.1, 0.1).map(lambda x: round(x, 3))),
    st.one_of(st.none(), st.sampled_from([0.01, 0.05])),
)
def test_the_undecided_need_more_seeds(d: np.ndarray, margin: float | None) -> None:
    found = decide(compare(d), margin, higher_is_better=True)
    if found.seeds_needed is not None:
        assert found.outcome == "undecided"
        assert found.seeds_needed > len(d)


@pytest.mark.parametrize(("effect", "margin"), [(0.012, None), (0.004, 0.02)])
def test_the_seeds_needed_settle_it_nine_times_in_ten(effect: float, margin: float | None) -> None:
    """If the truth is what was seen: by a difference in one case, by equivalence in the other."""
    draws = np.random.default_rng(2)
    sd = 0.03
    seen = draws.normal(0, 1, 10)
    seen = effect + sd * (seen - seen.mean()) / seen.std(ddof=1)
    found = decide(compare(seen), margin, higher_is_better=True)
    assert found.outcome == "undecided"
    n = found.seeds_needed
    assert n is not None
    fresh = draws.normal(effect, sd, (3000, n))
    if margin is None:
        settled = compare_cells(fresh).p < 0.05
    else:
        interval = compare_cells(fresh, level=0.9)
        settled = (interval.low > -margin) & (interval.high < margin)
    assert stats.binomtest(int(settled.sum()), 3000, 0.9).pvalue > 1e-3
