"""Sign flips: exact on what can be counted, blind to distributions, right on maps of nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from studies.analysis.statistics.sign_flips import flipped_p


def counted(differences: np.ndarray) -> np.ndarray:
    """The same by its definition, in a few lines."""

    def t(d: np.ndarray) -> np.ndarray:
        return np.asarray(d.mean(axis=1) / stats.sem(d, axis=1))

    flips = itertools.product((1, -1), repeat=differences.shape[1])
    most = np.array([t(differences * np.array(signs)).max() for signs in flips])
    own = t(differences)
    return np.array([(most >= each - 1e-9).mean() for each in own])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5), n=st.integers(3, 7))
def test_it_is_what_its_definition_says(seed: int, k: int, n: int) -> None:
    d = np.random.default_rng(seed).normal(0.3, 1, (k, n))
    above, below = flipped_p(d)
    np.testing.assert_allclose(above, counted(d))
    np.testing.assert_allclose(below, flipped_p(-d)[0])


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1e6))
def test_units_and_the_order_of_seeds_play_no_part(seed: int, scale: float) -> None:
    draws = np.random.default_rng(seed)
    d = draws.normal(size=(4, 8))
    np.testing.assert_allclose(flipped_p(d)[0], flipped_p(scale * d)[0])
    np.testing.assert_allclose(flipped_p(d)[0], flipped_p(d[:, draws.permutation(8)])[0])


def test_equal_differences_are_a_sign_test() -> None:
    above, below = flipped_p(np.full((1, 6), 0.01))
    assert (above[0], below[0]) == (2.0**-6, 1.0)
    assert flipped_p(np.zeros((3, 6)))[0].tolist() == [1.0] * 3


@pytest.mark.parametrize("n", [9, 40])
def test_a_clear_gain_among_nothing_is_found_alone(n: int) -> None:
    d = np.random.default_rng(0).normal(size=(50, n))
    d[7] += 4
    above, below = flipped_p(d)
    assert np.flatnonzero(above < 0.025).tolist() == [7]
    assert (below > 0.025).all()


@pytest.mark.parametrize("deaths", [0.0, 0.02, 0.1])
def test_maps_of_nothing_stay_empty_where_networks_die(deaths: float) -> None:
    """200 cells over one baseline of 10 seeds: a false cell in at most 5% of maps."""
    draws, maps, n = np.random.default_rng(int(100 * deaths)), 150, 10

    def accuracy(rows: int) -> np.ndarray:
        dead = draws.random((rows, n)) < deaths
        return 0.9 + 0.02 * draws.standard_normal((rows, n)) - 0.5 * dead

    found = 0
    for _ in range(maps):
        above, below = flipped_p(accuracy(200) - accuracy(1))
        found += bool(min(above.min(), below.min()) < 0.025)
    assert stats.binomtest(found, maps, 0.05, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize("bad", [np.zeros((0, 5)), np.zeros((2, 1)), np.array([[0.1, np.nan]])])
def test_what_cannot_be_compared_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"missing|K >= 1"):
        flipped_p(bad)
