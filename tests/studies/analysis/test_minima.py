"""The sharpness of minima: known ratios and correlations come back, in pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dynloss_core import keys
from studies.analysis.figures.landscape.minima import draw_minima
from studies.analysis.landscape.minima import cards, minima
from studies.analysis.question import Question
from studies.analysis.study_tables import Tables

WIDTH = "model.width"


def members(ratio: float, n: int = 40, width: int = 25) -> pd.DataFrame:
    """Pairs whose lambda_max differ by `ratio`, with a scatter that each pair shares; accuracy falls
    with lambda_max in the dynamical arm and has nothing to do with it in the static one."""
    draws = np.random.default_rng(width)
    shared = np.exp(draws.normal(0, 0.5, n))
    rows = []
    for arm, factor in ((keys.DYNAMICAL, ratio), (keys.STATIC, 1.0)):
        sharp = factor * shared * np.exp(draws.normal(0, 0.05, n))
        dependent = 0.9 - 0.05 * sharp + draws.normal(0, 0.005, n)
        accuracy = dependent if arm == keys.DYNAMICAL else draws.random(n)
        rows.append(
            pd.DataFrame(
                {
                    keys.ARM: arm,
                    keys.TRIAL: 0,
                    keys.SEED: range(n),
                    WIDTH: width,
                    keys.RECORDED: True,
                    keys.DIVERGED: False,
                    keys.FINAL_HESSIAN_LAMBDA_MAX: sharp,
                    keys.FINAL_HESSIAN_TRACE: 3 * sharp,
                    keys.VALIDATION_ACCURACY: accuracy,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def test_a_known_ratio_and_correlation_come_back() -> None:
    found = minima(pd.concat([members(0.5), members(1.0, width=100)]), WIDTH)
    assert found is not None
    halved, same = found.sizes
    for ratio in halved.ratios:
        assert ratio.low < 0.5 < ratio.high < 0.55
        assert ratio.p < 1e-6
        assert ratio.value == pytest.approx(ratio.arm / ratio.reference)
    assert same.ratios[0].low < 1 < same.ratios[0].high
    falls, nothing = halved.correlations
    assert falls.rho < -0.8
    assert falls.high < 0
    assert nothing.low < 0 < nothing.high
    assert (
        "At width 25, at the end, the largest eigenvalue of the Hessian is" in found.sentences()[0]
    )
    assert len(found.table()) == 4
    figure = draw_minima(found)
    assert "at 1 of 2 sizes, higher at 0" in figure.get_suptitle()


def test_pairs_that_cannot_be_measured_are_left_out_and_counted() -> None:
    rows = members(0.5)
    rows.loc[rows[keys.SEED] == 3, keys.FINAL_HESSIAN_TRACE] = -1.0
    rows.loc[(rows[keys.SEED] == 5) & (rows[keys.ARM] == keys.STATIC), keys.DIVERGED] = True
    found = minima(rows, None)
    assert found is not None
    assert found.sizes[0].left_out == 2
    assert [ratio.n for ratio in found.sizes[0].ratios] == [39, 38]
    assert "2 left out" in found.sentences()[0]


def test_without_a_pair_there_is_nothing_to_say() -> None:
    rows = members(0.5)
    assert minima(rows[rows[keys.ARM] == keys.STATIC], None) is None
    assert minima(rows.drop(columns=keys.FINAL_HESSIAN_LAMBDA_MAX), None) is None
    again = rows.assign(**{keys.TRIAL: 1})
    assert minima(pd.concat([rows, again]), None) is None


def test_two_arms_on_one_line_are_the_same_at_equal_loss() -> None:
    """lambda_max depends on the training loss alone, as a power, and the dynamical arm has trained
    further: at the end it is wider, at equal training loss it is not."""
    rows = members(0.5, n=12)
    steps, power = np.arange(0, 1001, 100), 0.7
    final, curvature, curves = {keys.DYNAMICAL: 0.01, keys.STATIC: 0.05}, [], []
    for (arm, seed), one in rows.groupby([keys.ARM, keys.SEED]):
        end = final[str(arm)] * (1 + 0.1 * int(str(seed)))
        loss = np.geomspace(1.0, end, len(steps))
        identity = {name: one[name].iloc[0] for name in (keys.ARM, keys.TRIAL, keys.SEED)}
        identity[keys.PHASE] = "search"
        sharp = 30 * loss**power
        if arm == keys.DYNAMICAL:
            sharp[1::2] = 1e6  # in the middle of a period, where F is another loss
        curves.append(pd.DataFrame({**identity, keys.STEP: steps, keys.TRAIN_LOSS: loss}))
        table = {**identity, keys.STEP: steps, keys.HESSIAN_LAMBDA_MAX: sharp}
        curvature.append(pd.DataFrame(table))
        mask = (rows[keys.ARM] == arm) & (rows[keys.SEED] == seed)
        rows.loc[mask, [keys.TRAIN_LOSS, keys.FINAL_HESSIAN_LAMBDA_MAX]] = [loss[-1], sharp[-1]]
    rows[keys.PHASE], rows[keys.STEPS], rows[keys.STOPPED] = "search", 1000, False
    rows[keys.PERIOD] = np.where(rows[keys.ARM] == keys.DYNAMICAL, 200.0, np.nan)
    question = Question(keys.VALIDATION_ACCURACY, {})
    tables = Tables(rows, pd.concat(curves), question, {"curvature": pd.concat(curvature)})
    (card,) = cards(tables, draw_minima)
    assert card.table is not None
    table = card.table.set_index(["metric", "at"])
    end, equal = (
        table.loc[(keys.FINAL_HESSIAN_LAMBDA_MAX, at), "value"] for at in ("end", "equal_loss")
    )
    assert end == pytest.approx(0.2**power, rel=1e-6)
    assert equal == pytest.approx(1.0, rel=1e-6)
    assert "At equal training loss, the ratio is 1.00" in card.sentences[0]
    draw = card.drawings[0].draw
    assert draw is not None
    assert "× 1.00" in "".join(text.get_text() for text in draw().axes[0].texts)
