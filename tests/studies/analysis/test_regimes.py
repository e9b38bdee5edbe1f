"""Regimes, and studies side by side: tables whose answer is known."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from dynloss_core import keys
from studies.analysis.figures.regimes import draw_regimes
from studies.analysis.gains.regimes import Regimes, regimes
from tests.studies.analysis.width_sweep import ATTAINABLE, SEEDS, WIDTH, WIDTHS, sweep


def found(search: pd.DataFrame, confirm: pd.DataFrame | None = None, **options: object) -> Regimes:
    nothing = search.iloc[:0]
    options = {"attainable": ATTAINABLE, **options}
    made = regimes(
        search, nothing if confirm is None else confirm, WIDTH, keys.VALIDATION_ACCURACY, **options
    )  # type: ignore[arg-type]
    assert made is not None
    return made


def test_the_threshold_and_both_claims() -> None:
    result = found(sweep())
    assert [size.value for size in result.sizes] == list(WIDTHS)
    assert [size.interpolates for size in result.sizes] == [False, False, True, True]
    assert result.threshold == 50
    assert (result.n, result.fresh) == (SEEDS // 2, False)
    assert result.sizes[0].ratio == pytest.approx(63 / 300)
    train = [size.gains[0] for size in result.sizes]
    assert [gain.wins for gain in train] == [True, True, False, False]
    assert train[0].comparison.mean == pytest.approx(0.2, abs=0.02)
    where, under, over = result.sentences()
    assert where.startswith("The static arm interpolates from width 50 on: ")
    assert under.startswith("Underparametrized networks train better: holds here")
    assert re.search(r"10 \(\+0\.[12]\d\d \[", under)
    assert over.startswith("Overparametrized networks generalise better: does not hold here")


def test_a_confirmation_on_fresh_seeds_takes_over() -> None:
    result = found(sweep(), sweep(keys.CONFIRM, first_seed=50_000))
    assert (result.n, result.fresh) == (SEEDS, True)
    assert result.sizes[0].gains[1].metric == keys.TEST_ACCURACY


def test_nothing_interpolates_where_perfection_is_asked_of_the_impossible() -> None:
    result = found(sweep(), attainable=1.0)
    assert result.threshold is None
    where, under, over = result.sentences()
    assert where.startswith("No static setting up to width 100 interpolates on every seed.")
    assert "holds in part" in under
    assert over.endswith("not tested; no size lies on that side of the threshold.")


def test_one_seed_that_misses_is_no_interpolation() -> None:
    table = sweep()
    mine = (table[WIDTH] == 100) & (table[keys.ARM] == keys.STATIC) & (table[keys.SEED] == 3)
    table.loc[mine, keys.TRAIN_ACCURACY] -= 1 / 300
    assert [size.interpolates for size in found(table).sizes] == [False, False, True, False]
    assert found(table).threshold is None


def test_no_regimes_without_two_sizes_or_two_arms() -> None:
    table = sweep()
    nothing = table.iloc[:0]
    one = table[table[WIDTH] == 10]
    alone = table[table[keys.ARM] == keys.STATIC]
    for rows in (one, alone):
        assert regimes(rows, nothing, WIDTH, keys.VALIDATION_ACCURACY) is None


def test_the_figure_shows_sizes_threshold_and_significance() -> None:
    figure = draw_regimes(found(sweep()))
    train, _, gains = figure.axes[:3]
    assert train.get_xlabel() == "width"
    assert train.get_ylabel() == "train accuracy"
    assert gains.get_ylabel() == "gain: dynamical − static"
    assert {text.get_text() for text in train.get_legend().get_texts()} == {"static", "dynamical"}
    dashed = [line for line in gains.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [50.0]
    open_points = [line for line in gains.lines if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in open_points] == [2, 4]
    assert [tick.get_text() for tick in train.get_xticklabels()] == ["10", "20", "50", "100"]


def test_the_table_has_a_row_a_size_and_metric() -> None:
    table = found(sweep(), margin=0.05).table()
    assert len(table) == 2 * len(WIDTHS)
    assert set(table.loc[table["metric"] == keys.VALIDATION_ACCURACY, "outcome"]) == {"equivalent"}


@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ((50, 100), "holds by less than the margin of 0.05 here"),
        ((50,), "holds by less than the margin of 0.05 in part here"),
    ],
)
def test_a_sure_gain_below_the_margin_is_neither_a_gain_nor_nothing(
    widths: tuple[int, ...], words: str
) -> None:
    fresh = sweep(keys.CONFIRM, first_seed=50_000)
    gains = fresh[WIDTH].isin(widths) & (fresh[keys.ARM] == keys.DYNAMICAL)
    fresh.loc[gains, keys.TEST_ACCURACY] += 0.03
    *_, over = found(sweep(), fresh, margin=0.05).sentences()
    assert over.startswith(f"Overparametrized networks generalise better: {words}")
    assert "gain of less than 0.05 at width 50 (+0.0" in over
