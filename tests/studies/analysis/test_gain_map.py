"""The gain map: known gains are found, none are invented, and the figure shows what it says."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from scipy import stats

from dynloss_core import keys
from studies.analysis.figures.gain_map import draw_gain_map
from studies.analysis.gains.gain_map import GainMap, gain_map
from tests.studies.analysis.gain_tables import METRIC, PERIODS, rows_of, search


def the_map(table: pd.DataFrame, **axes: str) -> GainMap:
    found = gain_map([table], METRIC, **axes)
    assert found is not None
    return found


def test_a_known_gain_over_both_baselines() -> None:
    found = the_map(search())
    assert [gain.baseline for gain in found.gains] == ["own best", "same learning rate"]
    own, same = found.gains
    assert (own.static_learning_rate, own.static_mean) == (1.0, pytest.approx(0.66))
    assert same.static_learning_rate is None, "it differs from cell to cell"
    for gain in (own, same):
        np.testing.assert_allclose(gain.gain[2:4], 0.2, atol=0.03)
        np.testing.assert_allclose(gain.gain[:2], 0.0, atol=0.03)
        assert gain.wins.tolist() == [[False] * 2] * 2 + [[True] * 2] * 2 + [[False] * 2]
        assert not gain.losses.any()
        assert gain.best() is not None
        assert gain.best()[0] in (2, 3)  # type: ignore[index]
    assert found.diverged.tolist() == [[False] * 2] * 4 + [[True] * 2]
    assert np.isnan(own.gain[4]).all()
    assert (found.n, own.n, same.n) == (16, 8, 16), "half of the seeds choose the static trial"
    assert (found.max_trials_per_cell, found.binned) == (2, False)
    edges = found.x_edges
    assert all(a < v < b for a, v, b in zip(edges[:-1], PERIODS, edges[1:], strict=True))


def test_at_its_own_best_and_at_the_same_learning_rate_are_two_questions() -> None:
    own, same = the_map(search(), x=keys.LEARNING_RATE).gains
    assert own.losses[0].all(), "at 0.1 even the best period loses to the static arm at 1"
    assert same.wins[0].all(), "but beats the static arm at 0.1"
    np.testing.assert_allclose(own.gain[0], -0.1, atol=0.03)
    np.testing.assert_allclose(same.gain[0], 0.2, atol=0.03)


def test_a_loss_is_a_gain_when_it_falls() -> None:
    table = search().rename(columns={METRIC: keys.VALIDATION_LOSS})
    table[keys.VALIDATION_LOSS] = 1 - table[keys.VALIDATION_LOSS]
    found = gain_map([table], keys.VALIDATION_LOSS)
    assert found is not None
    np.testing.assert_allclose(found.gains[0].gain, the_map(search()).gains[0].gain)


def test_scattered_trials_are_binned() -> None:
    table = search()
    table[keys.PERIOD] = table[keys.PERIOD] + table[keys.TRIAL]
    found = the_map(table)
    assert found.binned
    assert found.gains[0].gain.shape == (6, 6)
    assert np.isfinite(found.gains[0].gain).sum() > 3


def test_no_map_without_a_baseline_without_variation_or_over_several_problems() -> None:
    table = search()
    dynamical = table[keys.ARM] == keys.DYNAMICAL
    assert gain_map([table[dynamical]], METRIC) is None
    assert gain_map([table[~dynamical | (table[keys.AMPLITUDE] == 2.0)]], METRIC) is None
    widths = table.assign(**{"model.width": np.where(table[keys.TRIAL] % 2, 10, 20)})
    assert gain_map([widths], METRIC) is None
    assert gain_map([table.assign(**{"model.width": 10})], METRIC) is not None


def null_map(draws: np.random.Generator, settings: int) -> GainMap:
    """20 cells of `settings` trials each, where nothing differs but chance; the static arm has
    one trial, so that the baseline's own choice does not lean against a gain."""
    rows = rows_of(keys.STATIC, 0, draws.normal(0.7, 0.05, 10), **{keys.LEARNING_RATE: 1.0})
    cells = itertools.product(range(1, 6), range(1, 5), range(settings))
    for trial, (period, amplitude, index) in enumerate(cells):
        point = {
            keys.PERIOD: period,
            keys.AMPLITUDE: float(amplitude),
            keys.LEARNING_RATE: 1.0 + index,
        }
        rows += rows_of(keys.DYNAMICAL, trial, draws.normal(0.7, 0.05, 10), **point)
    return the_map(pd.DataFrame(rows))


@pytest.mark.parametrize("settings", [1, 3])
def test_a_map_of_nothing_shows_nothing(settings: int) -> None:
    """Any discovery at all in at most 5% of null maps, however many trials a cell holds."""
    draws, maps = np.random.default_rng(settings), 200
    found = [null_map(draws, settings).gains[0] for _ in range(maps)]
    discoveries = sum(bool(gain.significant.any()) for gain in found)
    assert stats.binomtest(discoveries, maps, 0.05, alternative="greater").pvalue > 1e-3
    if settings == 1:  # unbiased; with several settings too, for each seed chosen on the others
        assert discoveries > 0, "a test that never rejects controls nothing"
    mean = np.mean([gain.gain.mean() for gain in found])
    assert abs(mean) < 4 * 0.05 / np.sqrt(10 * maps)


def test_the_figure_says_what_the_map_found() -> None:
    found = the_map(search())
    figure = draw_gain_map(found)
    left, right, bar = figure.axes
    for axes in (left, right):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert axes.get_xlabel() == "period T (steps)"
        patches = [each for each in axes.patches if isinstance(each, Rectangle)]
        hatched = [each for each in patches if each.get_hatch() == "////"]
        black = [each for each in patches if each.get_facecolor() == (0, 0, 0, 1)]
        assert (len(hatched), len(black)) == (4, 2)
        (lines,) = (each for each in axes.collections if isinstance(each, LineCollection))
        assert len(lines.get_segments()) == 8  # around a block of 2 x 2 cells
    assert left.get_ylabel() == "amplitude A"
    assert "at its own best learning rate\n(learning rate 1: 0.660)" in left.get_title("left")
    assert "at the same learning rate" in right.get_title("left")
    assert bar.get_ylabel() == "gain in validation accuracy"
    low, high = left.collections[0].get_clim()
    assert low == -high
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "not significant (5% over all cells)" in labels
    assert "diverged" in labels
    assert "n = 8 and 16 seeds" in figure.get_suptitle()


def test_the_table_has_a_row_a_cell_and_baseline() -> None:
    found = the_map(search())
    table = found.table()
    assert len(table) == 2 * 5 * 2
    assert table.loc[table["significant"], "gain"].to_numpy() == pytest.approx(0.2, abs=0.03)


def test_a_partner_shares_momentum_too() -> None:
    """Both arms alike, momentum worth 0.3 in both: no gain at the same learning rate."""
    draws = np.random.default_rng(3)
    rows, trial = [], 0
    for momentum in (0.0, 0.9):
        values = 0.5 + 0.3 * momentum + draws.normal(0, 0.02, 8)
        static = {keys.LEARNING_RATE: 1.0, keys.MOMENTUM: momentum}
        rows += rows_of(keys.STATIC, int(momentum > 0), values, **static)
        for period, amplitude in itertools.product((10, 20), (2.0, 4.0)):
            point = {**static, keys.PERIOD: period, keys.AMPLITUDE: amplitude}
            rows += rows_of(keys.DYNAMICAL, trial, values + draws.normal(0, 0.02, 8), **point)
            trial += 1
    _, same = the_map(pd.DataFrame(rows)).gains
    assert not same.wins.any()
    np.testing.assert_allclose(same.gain, 0.0, atol=0.05)


def test_a_map_of_several_searches_is_the_mean_of_theirs_and_claims_nothing() -> None:
    one, other = search(), search()
    other[keys.SEED] += 100
    other[METRIC] += 0.1 * (other[keys.ARM] == keys.DYNAMICAL)
    alone, both = the_map(one), gain_map([one, other], METRIC)
    assert both is not None
    assert (both.searches, both.is_tested) == (2, False)
    for mine, theirs in zip(both.gains, alone.gains, strict=True):
        np.testing.assert_allclose(mine.gain, theirs.gain + 0.05)
        assert not mine.significant.any()
        assert np.isnan(mine.p).all()
    np.testing.assert_array_equal(both.trials, 2 * alone.trials)
    np.testing.assert_array_equal(both.diverged, alone.diverged)
    assert "2 searches of 8 and 16 seeds" in both.headline()
    assert "nothing is claimed" in both.notes()[0]
    assert "is ahead in 8 of 8 cells" in both.sentences()[0]
    patches = [each for axes in draw_gain_map(both).axes for each in axes.patches]
    assert not [each for each in patches if each.get_hatch() == "////"]


def test_a_cell_that_one_search_tried_is_that_search_alone() -> None:
    one, other = search(), search()
    other[METRIC] += 0.1 * (other[keys.ARM] == keys.DYNAMICAL)
    dynamical = other[keys.ARM] == keys.DYNAMICAL
    longest = other.loc[dynamical, keys.PERIOD] == PERIODS[2]
    other = other.drop(other.index[dynamical][longest])
    both = gain_map([one, other], METRIC)
    assert both is not None
    mine, theirs = both.gains[0].gain, the_map(one).gains[0].gain
    np.testing.assert_allclose(mine[2], theirs[2])
    np.testing.assert_allclose(mine[3], theirs[3] + 0.05)
