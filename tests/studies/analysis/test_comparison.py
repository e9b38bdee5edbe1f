"""Paired comparisons against textbooks, other routes, and simulations whose answer is known."""

from __future__ import annotations

import itertools
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dynloss_core import keys
from studies.analysis.statistics.comparison import compare, compare_cells
from studies.analysis.statistics.pairing import at_own_best, paired_by_seed

# Student (1908), The probable error of a mean, Biometrika 6:1: hours of sleep gained by one
# soporific over another, ten patients. R's t.test(extra ~ group, sleep, paired) prints
# t = 4.0621, p-value = 0.002833, interval 0.7001142 to 2.4598858.
SLEEP = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])

# Benjamini and Hochberg (1995), section 3.2: of these 15, four are rejected at 5%.
HOCHBERG = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
HOCHBERG += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]

values = st.floats(-1, 1).map(lambda x: round(x, 3))
ACCURACY, LOSS = keys.VALIDATION_ACCURACY, keys.VALIDATION_LOSS


def nominal(hits: int, trials: int, rate: float) -> bool:
    """Whether a count agrees with its rate; wrong once in a thousand by chance, but seeds are fixed."""
    return bool(stats.binomtest(int(hits), trials, rate).pvalue > 1e-3)


def test_students_sleep_data() -> None:
    found = compare(SLEEP)
    assert found.n == 10
    assert found.mean == pytest.approx(1.58)
    assert found.median == pytest.approx(1.3)
    assert found.mean / (found.sd / 10**0.5) == pytest.approx(4.0621, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=5e-8)
    assert found.p_t == pytest.approx(0.002833, abs=5e-7)
    assert found.effect_size == pytest.approx(4.0621 / 10**0.5, abs=5e-5), "d_z = t / sqrt(n)"


def test_signed_ranks_by_counting() -> None:
    """W- = 6: 14 of the 2^6 subsets of the ranks 1 to 6 sum to at most 6."""
    found = compare(np.array([1.0, 2.0, 3.0, 4.0, 5.0, -6.0]))
    assert found.p_wilcoxon == pytest.approx(2 * 14 / 64)


def test_equal_differences_have_a_point_for_an_interval() -> None:
    nothing = compare(np.zeros(20))
    assert (nothing.mean, nothing.low, nothing.high) == (0, 0, 0)
    assert (nothing.p_t, nothing.p_wilcoxon, nothing.effect_size) == (1, 1, None)
    static = np.random.default_rng(0).random(20)
    same = (static + 0.01) - static
    assert np.ptp(same) > 0, "equal but for rounding"
    found = compare(same)
    assert found.low == found.high == pytest.approx(0.01)
    assert (found.p_t, found.sd, found.effect_size) == (2.0**-19, 0, None)


def test_two_equal_differences_prove_nothing() -> None:
    assert compare(np.array([0.3, 0.3])).p_t == 0.5


def test_differences_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        compare(np.array([0.1]))
    with pytest.raises(ValueError, match="at least two"):
        compare(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="missing or infinite"):
        compare(np.array([0.1, np.nan, 0.2]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        compare(SLEEP, level=95)
    with pytest.raises(ValueError, match="infinite"):
        compare_cells(np.array([[0.1, np.inf]]))


@settings(max_examples=25)
@given(arrays(float, st.integers(2, 9), elements=values), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_comparison_has_the_symmetries_of_its_question(d: np.ndarray, level: float) -> None:
    found, turned = compare(d, level=level), compare(-d, level=level)
    np.testing.assert_allclose([turned.low, turned.high], [-found.high, -found.low], atol=1e-12)
    assert turned.p_t == pytest.approx(found.p_t)
    assert turned.p_wilcoxon == pytest.approx(found.p_wilcoxon)
    others = compare_cells(np.array([1000 * d, d[::-1]]), level=level)
    np.testing.assert_allclose(others.p, found.p_t)
    np.testing.assert_allclose(others.low, [1000 * found.low, found.low], atol=1e-9)
    if found.sd > 0:
        assert (found.low > 0 or found.high < 0) == (found.p_t < 1 - level)
        assert found.p_t == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


@given(
    arrays(float, st.tuples(st.integers(1, 6), st.integers(2, 8)), elements=values),
    st.data(),
)
def test_cells_are_compared_as_one_by_one(d: np.ndarray, data: st.DataObject) -> None:
    missing = data.draw(arrays(bool, d.shape))
    d[missing] = np.nan
    found = compare_cells(d)
    for k, row in enumerate(d):
        known = row[~np.isnan(row)]
        assert found.n[k] == len(known)
        if len(known) < 2:
            assert np.isnan([found.p[k], found.sem[k], found.low[k], found.p_adjusted[k]]).all()
            np.testing.assert_allclose(found.mean[k], known.mean() if len(known) else np.nan)
            continue
        alone = compare(known)
        cell = [found.mean[k], found.low[k], found.high[k], found.p[k]]
        expected = [alone.mean, alone.low, alone.high, alone.p_t]
        np.testing.assert_allclose(cell, expected, rtol=1e-9, atol=1e-12)
        assert found.sem[k] * len(known) ** 0.5 == pytest.approx(alone.sd)
    tested = np.isfinite(found.p)
    if tested.any():
        second = multipletests(found.p[tested], method="fdr_bh")[1]
        np.testing.assert_allclose(found.p_adjusted[tested], second)


def test_false_discoveries_of_benjamini_and_hochbergs_example() -> None:
    t = stats.t.isf(np.array(HOCHBERG) / 2, 4)
    noise = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    found = compare_cells(noise + t[:, np.newaxis] * noise.std(ddof=1) / 5**0.5)
    np.testing.assert_allclose(found.p, HOCHBERG, atol=1e-12)
    assert (found.p_adjusted < 0.05).tolist() == [True] * 4 + [False] * 11


def test_false_positives_of_both_tests() -> None:
    draws = np.random.default_rng(2)
    found = [compare(draws.normal(0, 0.03, 10)) for _ in range(1000)]
    assert nominal(sum(each.p_t < 0.05 for each in found), 1000, 0.05)
    # of the 2^10 sign patterns, those with W <= 8: 2 * 25 = 50 of 1024
    assert nominal(sum(each.p_wilcoxon < 0.05 for each in found), 1000, 50 / 1024)


def test_coverage_of_the_t_interval() -> None:
    d = np.random.default_rng(3).normal(0.02, 0.1, (4000, 10))
    for level in (0.9, 0.95):
        found = compare_cells(d, level=level)
        covered = (found.low <= 0.02) & (found.high >= 0.02)
        assert nominal(covered.sum(), 4000, level)


def shared_baseline(draws: np.random.Generator, gains: np.ndarray) -> np.ndarray:
    """Differences of many cells to one static trial: the cells depend on each other through it."""
    return draws.normal(gains[:, np.newaxis], 0.03, (len(gains), 10)) - draws.normal(0, 0.03, 10)


def test_no_discovery_in_a_map_of_nothing() -> None:
    draws = np.random.default_rng(5)
    maps = [compare_cells(shared_baseline(draws, np.zeros(200))) for _ in range(400)]
    assert np.mean([(found.p < 0.05).any() for found in maps]) > 0.9, "unadjusted"
    discovered = sum((found.p_adjusted < 0.05).any() for found in maps)
    assert stats.binomtest(discovered, 400, 0.05, alternative="greater").pvalue > 1e-3


def test_false_discoveries_in_a_mixed_map() -> None:
    draws = np.random.default_rng(6)
    gains = np.zeros(200)
    gains[:30] = 0.06
    shares, powers = [], []
    for _ in range(300):
        found = compare_cells(shared_baseline(draws, gains)).p_adjusted < 0.05
        shares.append(found[30:].sum() / max(found.sum(), 1))
        powers.append(found[:30].mean())
    assert np.mean(shares) < 0.05 + 3 * np.std(shares) / 300**0.5
    assert np.mean(powers) > 0.6


def table(matrix: np.ndarray, arm: str = keys.DYNAMICAL, metric: str = ACCURACY) -> pd.DataFrame:
    """Members of K trials x n seeds; NaN is a diverged one."""
    k, n = matrix.shape
    return pd.DataFrame(
        {
            keys.ARM: arm,
            keys.TRIAL: np.repeat(np.arange(k), n),
            keys.SEED: np.tile(np.arange(n), k),
            keys.DIVERGED: np.isnan(matrix).ravel(),
            metric: matrix.ravel(),
        }
    )


def test_own_best_by_hand() -> None:
    """Trial 0 is best but for its last seed; the others choose it there, and choose 1 elsewhere."""
    members = table(np.array([[0.9, 0.9, 0.0], [0.6, 0.7, 0.8]]))
    found = at_own_best(members.sample(frac=1, random_state=0), ACCURACY)
    assert found[keys.SEED].tolist() == [0, 1, 2]
    assert found[keys.TRIAL].tolist() == [1, 1, 0]
    assert found[ACCURACY].tolist() == [0.6, 0.7, 0.0]
    halved = at_own_best(members, ACCURACY, choosing="half")
    assert halved[[keys.SEED, keys.TRIAL]].to_numpy().tolist() == [[1, 1]], "seeds 0 and 2 chose"


def test_a_loss_is_best_where_it_is_smallest_and_ties_go_to_the_first() -> None:
    members = table(np.array([[0.3, 0.3], [0.2, 0.2], [0.2, 0.2]]), metric=LOSS)
    assert at_own_best(members, LOSS)[keys.TRIAL].tolist() == [1, 1]
    for base in ((0.1, 0.2, 0.3), (0.1, 0.7, 0.3), (0.13, 0.57, 0.91)):
        orders = np.array([[*order, 0.5] for order in permutations(base)])
        for rows in (orders, orders[::-1]):
            found = at_own_best(table(rows), ACCURACY)
            assert found[keys.TRIAL].iloc[3] == 0, "sums in another order differ by rounding"


def test_a_diverged_setting_cannot_be_chosen_but_can_be_met() -> None:
    members = table(np.array([[0.9, 0.9, np.nan], [0.5, 0.5, 0.5]]))
    found = at_own_best(members, ACCURACY)
    assert found[keys.TRIAL].tolist() == [1, 1, 0]
    assert found[ACCURACY].tolist() == [0.5, 0.5, 0.0], "it counts as accuracy 0"
    assert found[keys.DIVERGED].tolist() == [False, False, True]
    lost = at_own_best(table(np.array([[0.1, 0.1, np.nan]]), metric=LOSS), LOSS)
    assert lost[keys.SEED].tolist() == [2], "nothing can be chosen for the others"
    assert np.isnan(lost[LOSS].iloc[0])
    incomplete = members[(members[keys.TRIAL] == 0) | (members[keys.SEED] != 1)]
    assert at_own_best(incomplete, ACCURACY)[keys.TRIAL].tolist() == [0]


def test_groups_choose_for_themselves_and_bring_their_rows() -> None:
    draws = np.random.default_rng(7)
    parts = []
    for arm in (keys.DYNAMICAL, keys.STATIC):
        part = table(draws.random((12, 4)), arm)
        parts.append(part.assign(**{"model.width": part[keys.TRIAL] % 3, "test_loss": 1.5}))
    members = pd.concat(parts)
    by = ["model.width", keys.ARM]
    found = at_own_best(members, ACCURACY, by)
    assert list(found.columns) == list(members.columns)
    assert found.groupby(by).size().tolist() == [4] * 6
    for labels, group in members.groupby(by):
        alone = at_own_best(group, ACCURACY)
        rows = found[(found["model.width"] == labels[0]) & (found[keys.ARM] == labels[1])]
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), alone)
    assert len(paired_by_seed(found[found["model.width"] == 0], ACCURACY)) == 4


@given(arrays(float, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=values), st.data())
def test_own_best_as_written_down(matrix: np.ndarray, data: st.DataObject) -> None:
    """The definition in loops."""
    matrix[
        data.draw(arrays(bool, matrix.shape, elements=st.sampled_from([False] * 4 + [True])))
    ] = np.nan
    expected = []
    for seed in range(matrix.shape[1]):
        others = np.delete(matrix, seed, axis=1)
        means = [-np.inf if np.isnan(row).any() else round(row.mean(), 9) for row in others]
        if max(means) > -np.inf:
            trial = means.index(max(means))
            expected.append([seed, trial, np.nan_to_num(matrix[trial, seed])])
    found = at_own_best(table(matrix), ACCURACY)
    assert found[[keys.SEED, keys.TRIAL, ACCURACY]].to_numpy().tolist() == expected


def test_two_networks_of_one_seed_or_a_single_seed_have_no_own_best() -> None:
    members = pd.concat([table(np.ones((2, 3))), table(np.ones((2, 3)), keys.STATIC)])
    members["model.width"] = 10
    with pytest.raises(ValueError, match=r"two networks of one seed.*model\.width"):
        at_own_best(members, ACCURACY, ["model.width"])
    with pytest.raises(ValueError, match="one seed"):
        at_own_best(members[members[keys.SEED] == 0], ACCURACY)
    assert at_own_best(members.iloc[:0], ACCURACY).empty


def test_the_winners_curse_and_how_it_is_lifted() -> None:
    """No setting is better than another, and one arm tried ten times as many."""
    draws = np.random.default_rng(8)
    naive, others, p_others, p_half = [], [], [], []
    for _ in range(200):
        seed_effect = draws.normal(0, 0.05, 10)
        dynamical = 0.7 + seed_effect + draws.normal(0, 0.03, (50, 10))
        static = 0.7 + seed_effect + draws.normal(0, 0.03, (5, 10))
        naive.append(dynamical.mean(axis=1).max() - static.mean(axis=1).max())
        members = pd.concat([table(dynamical), table(static, keys.STATIC)])
        for choosing, p in (("others", p_others), ("half", p_half)):
            pairs = paired_by_seed(at_own_best(members, ACCURACY, choosing=choosing), ACCURACY)  # type: ignore[arg-type]
            difference = (pairs[keys.DYNAMICAL] - pairs[keys.STATIC]).to_numpy()
            p.append(compare_cells(difference[np.newaxis]).p[0])
            if choosing == "others":
                others.append(difference.mean())
    error = np.std(others) / 200**0.5
    assert np.mean(naive) > 0.008, "the best of many looks better"
    assert abs(np.mean(others)) < 3 * error
    assert nominal((np.array(p_half) < 0.05).sum(), 200, 0.05)
    assert np.mean(np.array(p_others) < 0.05) > 0.1, "why leave-one-out values are not tested"


def test_an_untrained_network_is_not_a_diverged_one() -> None:
    """Half of a confirmation: seeds that one arm still lacks are left out, not counted as 0."""
    members = pd.concat(
        [table(np.array([[0.9, 0.8, np.nan]])), table(np.array([[0.5]]), keys.STATIC)]
    )
    assert paired_by_seed(members, ACCURACY).to_numpy().tolist() == [[0.9, 0.5]]


@given(
    st.lists(st.integers(-4, 4), min_size=2, max_size=13).filter(lambda found: any(found)),
)
def test_the_rank_test_counts_every_choice_of_signs(steps: list[int]) -> None:
    differences = np.array(steps) / 100
    found = compare(differences).p_wilcoxon
    count, of_all = 0.0, list(itertools.product([-1, 1], repeat=len(steps)))
    ranks = stats.rankdata(np.abs(steps))
    seen = float(np.sign(steps) @ ranks)
    sums = [float(np.array(signs) * (np.array(steps) != 0) @ ranks) for signs in of_all]
    count = min(sum(s <= seen + 1e-9 for s in sums), sum(s >= seen - 1e-9 for s in sums))
    assert found == pytest.approx(min(1.0, 2 * count / len(sums)))


def test_the_rank_test_with_ties_is_scipys() -> None:
    differences = np.array([0.0, 0.01, 0.01, -0.01, 0.02, 0.03, 0.02, 0.0, 0.04])
    method = stats.PermutationMethod(n_resamples=np.inf)
    expected = stats.wilcoxon(differences, zero_method="zsplit", method=method).pvalue
    assert compare(differences).p_wilcoxon == pytest.approx(expected)
