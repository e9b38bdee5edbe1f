"""Regimes, and studies side by side: tables whose answer is known."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from dynloss_core import keys
from studies.analysis.figures.regimes import draw_regimes
from studies.analysis.gains.regimes import Regimes, regimes
from studies.analysis.gains.swept_sizes import sweep_of
from tests.studies.analysis.width_sweep import ATTAINABLE, SEEDS, WIDTH, WIDTHS, sweep


def found(search: pd.DataFrame, confirm: pd.DataFrame | None = None, **options: object) -> Regimes:
    nothing = search.iloc[:0]
    options = {"attainable": ATTAINABLE, **options}
    fresh = nothing if confirm is None else confirm
    one = sweep_of(search, fresh, WIDTH, keys.VALIDATION_ACCURACY, **options)  # type: ignore[arg-type]
    assert one is not None
    (made,) = regimes([one])
    return made


def test_the_threshold_and_both_claims() -> None:
    result = found(sweep())
    assert [size.value for size in result.sizes] == list(WIDTHS)
    assert interpolating(result) == [False, False, True, True]
    assert result.threshold == 50
    assert (result.n, result.fresh) == (SEEDS // 2, False)
    assert result.sizes[0].ratio == pytest.approx(63 / 300)
    train = [size.gains[0] for size in result.sizes]
    assert [gain.wins for gain in train] == [True, True, False, False]
    assert train[0].comparison.mean == pytest.approx(0.2, abs=0.02)
    where, under, over = result.sentences()
    assert where.startswith(
        "The static arm interpolates from width 50 on: 30 of 30 networks [88%, 100%] there, 0 of "
        "30 networks [0%, 12%] at 20 fit their training data, of which 90% make interpolation"
    )
    assert "The dynamical arm interpolates from width 50 on" in where
    assert under.startswith("Underparametrized networks train better: holds here")
    assert re.search(r"10 \(\+0\.[12]\d\d \[", under)
    assert over.startswith("Overparametrized networks generalise better: is not shown here")


def test_a_confirmation_on_fresh_seeds_takes_over() -> None:
    result = found(sweep(), sweep(keys.CONFIRM, first_seed=50_000))
    assert (result.n, result.fresh) == (SEEDS, True)
    assert result.sizes[0].gains[1].metric == keys.TEST_ACCURACY


def test_nothing_interpolates_where_perfection_is_asked_of_the_impossible() -> None:
    result = found(sweep(), attainable=1.0)
    assert result.threshold is None
    where, under, over = result.sentences()
    assert where.startswith("The static arm interpolates at no width up to 100: at most 0 of 30 ")
    assert "holds in part" in under
    assert over.endswith("not tested; no size lies on that side of the threshold.")


@pytest.mark.parametrize(("missing", "share"), [(6, 54 / 60), (7, 53 / 60)])
def test_nine_networks_in_ten_make_interpolation(missing: int, share: float) -> None:
    search, fresh = sweep(), sweep(keys.CONFIRM, first_seed=50_000)
    few = fresh[keys.SEED] < 50_000 + missing
    static = (fresh[WIDTH] == 100) & (fresh[keys.ARM] == keys.STATIC)
    fresh.loc[static & few, keys.TRAIN_ACCURACY] -= 1 / 300
    result = found(search, fresh)
    assert interpolating(result) == [False, False, True, share >= 0.9]
    assert result.threshold == (50 if share >= 0.9 else None)
    fit = result.sizes[-1].interpolation[keys.STATIC]
    assert fit.share == pytest.approx(share)
    assert fit.low < share < fit.high
    assert result.sizes[-1].interpolation[keys.DYNAMICAL].share == 1
    columns = result.table().set_index([WIDTH, "metric"]).loc[(100, keys.TRAIN_ACCURACY)]
    assert columns["static_interpolating"] == pytest.approx(share)
    assert columns["static_interpolates"] == (share >= 0.9)


def test_a_network_that_diverged_does_not_interpolate() -> None:
    search, fresh = sweep(), sweep(keys.CONFIRM, first_seed=50_000)
    seven = fresh[keys.SEED] < 50_007
    fresh.loc[seven & (fresh[WIDTH] == 50) & (fresh[keys.ARM] == keys.STATIC), keys.DIVERGED] = True
    assert interpolating(found(search, fresh)) == [False, False, False, True]


def test_of_several_searches_every_network_counts() -> None:
    fresh = sweep(keys.CONFIRM, first_seed=50_000)
    missing = (fresh[keys.SEED] == 50_000) & (fresh[WIDTH] == 50)
    networks = fresh.copy()
    networks.loc[missing, keys.TRAIN_ACCURACY] = 0.5
    result = found(sweep(), fresh, networks=networks)
    assert result.searches
    fit = result.sizes[2].interpolation[keys.STATIC]
    assert (fit.reached, fit.n) == (SEEDS - 1, SEEDS)


def interpolating(result: Regimes) -> list[bool]:
    """Whether the static arm interpolates, size by size."""
    return [size.interpolation[keys.STATIC].holds for size in result.sizes]


def test_no_regimes_without_two_sizes_or_two_arms() -> None:
    table = sweep()
    nothing = table.iloc[:0]
    one = table[table[WIDTH] == 10]
    alone = table[table[keys.ARM] == keys.STATIC]
    for rows in (one, alone):
        assert sweep_of(rows, nothing, WIDTH, keys.VALIDATION_ACCURACY) is None


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
    generalises = table[table["metric"] == keys.VALIDATION_ACCURACY]
    assert set(generalises["outcome"]) == {"equivalent"}
    assert generalises["of_trained"].all(), "of so few, as many may fail as would undo it"


@pytest.mark.parametrize(("seeds", "claimed"), [(29, False), (30, True)])
def test_few_seeds_claim_nothing_that_unseen_networks_could_undo(seeds: int, claimed: bool) -> None:
    fresh = sweep(keys.CONFIRM, first_seed=50_000)
    fresh.loc[fresh[keys.ARM] == keys.DYNAMICAL, keys.TEST_ACCURACY] += 0.03
    result = found(sweep(), fresh[fresh[keys.SEED] < 50_000 + seeds])
    for gain in (size.gains[1] for size in result.sizes):
        assert gain.p_adjusted < 1e-6
        assert gain.claim.withheld == (None if claimed else "better")
        assert (gain.wins, gain.claim.of_trained) == (claimed, claimed)
    *_, over = result.sentences()
    assert ("holds here" in over, "of networks that train" in over) == (claimed, claimed)
    assert ("a difference that networks not seen could undo at width" in over) == (not claimed)


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
