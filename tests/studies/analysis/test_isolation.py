"""The effect of one parameter, all others optimised away, on tables whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dynloss_core import keys
from search_spaces import ChoiceParameter, FloatParameter, IntParameter, Parameter, Space
from studies.analysis.search_health.arm_trials import arm_trials
from studies.analysis.search_health.isolation import Isolation, isolate, near_bounds
from tests.studies.analysis.search_tables import ACCURACY, LOSS, OFFSETS, RATE, rates, space, table


def isolation(found: Sequence[Isolation], parameter: str, arm: str = keys.DYNAMICAL) -> Isolation:
    (one,) = [each for each in found if (each.parameter, each.arm) == (parameter, arm)]
    return one


def grid_of_two() -> tuple[pd.DataFrame, Space]:
    """Period x learning rate; the best point of all, period 100 and rate 10, has diverged."""
    mine = space(
        period=ChoiceParameter(values=(1000, 10, 100), unit="steps"),
        learning_rate=ChoiceParameter(values=(0.1, 1.0, 10.0)),
    )
    points = mine.grid({})
    value = {(10, 0.1): 0.5, (10, 1.0): 0.6, (10, 10.0): 0.55, (100, 0.1): 0.4, (100, 1.0): 0.8}
    value |= {(100, 10.0): 0.95, (1000, 0.1): 0.7, (1000, 1.0): 0.65, (1000, 10.0): 0.3}
    values = [value[point["period"], point["learning_rate"]] for point in points]  # type: ignore[index]
    bad = [k for k, p in enumerate(points) if p == {"period": 100, "learning_rate": 10.0}]
    return table(points, values, diverged=bad), mine


def test_isolation_of_a_grid() -> None:
    search, mine = grid_of_two()
    found = isolate(arm_trials(search, keys.DYNAMICAL, mine, ACCURACY), mine)
    period = isolation(found, keys.PERIOD)
    assert (period.values, period.scale, period.unit) == ((10.0, 100.0, 1000.0), "log", "steps")
    assert not period.binned
    np.testing.assert_allclose(period.mean, [0.6, 0.8, 0.7])
    assert period.best.tolist() == [4, 7, 0], "numbers of the trials"
    assert period.trials.tolist() == [3, 3, 3]
    assert period.infeasible.tolist() == [0, 1, 0]
    assert period.n.tolist() == [4, 4, 4]
    expected = stats.t.interval(0.95, 3, 0.6, stats.sem(OFFSETS))
    assert (period.low[0], period.high[0]) == pytest.approx(expected)
    np.testing.assert_allclose(period.edges, 10 ** np.array([0.5, 1.5, 2.5, 3.5]))
    rate = isolation(found, keys.LEARNING_RATE)
    np.testing.assert_allclose(rate.mean, [0.7, 0.8, 0.55], err_msg="the diverged trial lost")


def test_a_loss_is_minimised() -> None:
    mine = space(learning_rate=ChoiceParameter(values=(0.1, 1.0, 10.0)))
    search = table(rates(0.1, 0.1, 1.0, 10.0), [0.5, 0.4, 0.9, 0.1], metric=LOSS, diverged=[3])
    found = isolate(arm_trials(search, keys.DYNAMICAL, mine, LOSS), mine)[0]
    assert found.best.tolist() == [1, 2, -1]
    np.testing.assert_allclose(found.mean, [0.4, 0.9, np.nan])
    assert found.n.tolist() == [4, 4, 0]


def test_scattered_values_are_binned_on_their_scale() -> None:
    mine = space(learning_rate=RATE, momentum=FloatParameter(low=0.0, high=0.9))
    draws = np.random.default_rng(0)
    values = 10 ** draws.uniform(-2, 1, 20)  # the last quarter of the range is never tried
    points = [
        {"learning_rate": r, "momentum": m}
        for r, m in zip(values, 0.9 * draws.random(20), strict=True)
    ]
    scores = 0.5 + 0.1 * draws.random(20)
    found = isolate(arm_trials(table(points, scores), keys.DYNAMICAL, mine, ACCURACY), mine)
    rate = isolation(found, keys.LEARNING_RATE)
    assert rate.binned
    np.testing.assert_allclose(rate.edges, [0.01, 0.1, 1.0, 10.0, 100.0])
    for k, (low, high) in enumerate(zip(rate.edges[:-1], rate.edges[1:], strict=True)):
        inside = (values >= low) & (values < high)
        assert rate.trials[k] == inside.sum()
        if inside.any():
            best = np.flatnonzero(inside)[scores[inside].argmax()]
            assert rate.best[k] == best
            assert rate.values[k] == pytest.approx(values[best])
    assert rate.best[3] == -1
    assert np.isnan(rate.values[3])  # type: ignore[call-overload]
    momentum = isolation(found, keys.MOMENTUM)
    assert momentum.scale == "linear"
    np.testing.assert_allclose(momentum.edges, np.linspace(0, 0.9, 5))


def test_a_grid_over_a_range_is_shown_value_by_value() -> None:
    mine = space(learning_rate=RATE)
    points = mine.grid(5)
    found = isolate(arm_trials(table(points, [0.5] * 5), keys.DYNAMICAL, mine, ACCURACY), mine)[0]
    assert not found.binned
    np.testing.assert_allclose(np.array(found.values, float), [0.01, 0.1, 1.0, 10.0, 100.0])


def test_scattered_integers_whose_grid_would_coincide() -> None:
    periods = [*range(2, 21), 400]
    parameter = IntParameter(low=2, high=400, scale="log")
    assert len(parameter.grid(20)) < 20
    found = isolate(
        arm_trials(
            table([{keys.PERIOD: each} for each in periods], np.linspace(0.5, 0.6, 20)),
            keys.DYNAMICAL,
            space(period=parameter),
            ACCURACY,
        ),
        space(period=parameter),
    )
    assert sum(isolation(found, keys.PERIOD).trials) == len(periods)


def test_a_choice_without_an_order() -> None:
    name = "model.initialisation"
    mine = Space(name="s", parameters={name: ChoiceParameter(values=("lecun", "glorot", "he"))})
    points = [{name: value} for value in ("glorot", "lecun", "glorot")]
    found = isolate(
        arm_trials(table(points, [0.5, 0.6, 0.7]), keys.DYNAMICAL, mine, ACCURACY), mine
    )[0]
    assert (found.scale, found.values) == (None, ("lecun", "glorot", "he"))
    assert found.best.tolist() == [1, 2, -1]
    assert found.edges.tolist() == [-0.5, 0.5, 1.5, 2.5]
    with pytest.raises(ValueError, match="does not list"):
        arm_trials(table([{name: "zeros"}], [0.5]), keys.DYNAMICAL, mine, ACCURACY)


def test_a_period_in_epochs_is_shown_in_epochs() -> None:
    mine = space(period=IntParameter(low=1, high=20, scale="log", unit="epochs"))
    search = table([{"period": 50 * epochs} for epochs in (1, 4, 16)], [0.5, 0.6, 0.7])
    trials = arm_trials(search, keys.DYNAMICAL, mine, ACCURACY, epochs=20)  # 1000 steps
    assert trials.settings[keys.PERIOD].tolist() == [1, 4, 16]
    assert isolate(trials, mine)[0].unit == "epochs"
    with pytest.raises(ValueError, match="pass epochs"):
        arm_trials(search, keys.DYNAMICAL, mine, ACCURACY)


def test_a_table_without_a_searched_parameter_is_refused() -> None:
    search = table(rates(0.1, 1.0), [0.5, 0.6])
    mine = space(learning_rate=RATE, momentum=FloatParameter(low=0.0, high=0.9))
    with pytest.raises(ValueError, match="no column momentum"):
        arm_trials(search, keys.DYNAMICAL, mine, ACCURACY)


@pytest.mark.parametrize(
    ("parameter", "tried", "words"),
    [
        (RATE, [0.1, 1.0, 70.0], "learning_rate, 70, is within 5% of the range from its upper bound, 100: widen the range (raise"),
        (RATE, [0.1, 1.0, 100.0], "learning_rate, 100, is at the upper bound: widen the range (raise"),
        (RATE, [1.0, 10.0, 0.015], "within 5% of the range from its lower bound, 0.01: widen the range (lower"),
        (RATE, [0.1, 1.0, 60.0], None),  # at 94% of the logarithmic range
        (FloatParameter(low=0.01, high=100.0), [0.1, 1.0, 4.0], "lower bound, 0.01"),  # at 4% of the linear one
        (RATE, [0.1, 90.0], None),  # of two values the best is always at an end
        (ChoiceParameter(values=(0.1, 10.0, 1.0)), [0.1, 1.0, 10.0], "10, is the largest value listed: add larger ones"),
        (ChoiceParameter(values=(0.1, 10.0, 1.0)), [0.1, 10.0, 1.0], None),
        (ChoiceParameter(values=(0.1, 1.0)), [0.1, 1.0], None),
    ],
)  # fmt: skip
def test_the_best_near_a_bound(parameter: Parameter, tried: list[float], words: str | None) -> None:
    mine = space(learning_rate=parameter)
    search = table(rates(*tried), np.linspace(0.5, 0.6, len(tried)))
    found = near_bounds(arm_trials(search, keys.DYNAMICAL, mine, ACCURACY), mine)
    assert len(found) == (words is not None)
    if words is not None:
        assert words in found[0].sentence()
        assert found[0].sentence().startswith("dynamical: the best ")


@pytest.mark.parametrize(
    ("name", "parameter", "best", "warned"),
    [
        (keys.AMPLITUDE, FloatParameter(low=1.0, high=100.0, scale="log"), 1.1, False),
        (keys.AMPLITUDE, FloatParameter(low=1.5, high=100.0, scale="log"), 1.6, True),
        (keys.MOMENTUM, FloatParameter(low=0.0, high=0.9), 0.0, False),
        (keys.MOMENTUM, FloatParameter(low=0.0, high=0.9), 0.89, True),
        (keys.PERIOD, IntParameter(low=2, high=1000, scale="log"), 2, False),
        (keys.PERIOD, ChoiceParameter(values=(10, 100, 1000)), 10, True),
        ("model.width", ChoiceParameter(values=(10, 20, 50), role="scientific"), 10, False),
        ("model.width", ChoiceParameter(values=(10, 20, 50)), 10, True),
    ],
)
def test_bounds_that_cannot_or_need_not_move(
    name: str, parameter: Parameter, best: float, warned: bool
) -> None:
    mine = Space(name="s", parameters={name: parameter})
    middle = [parameter.grid(5)[1], parameter.grid(5)[2]]
    search = table([{name: value} for value in (*middle, best)], [0.5, 0.5, 0.6])
    found = near_bounds(arm_trials(search, keys.DYNAMICAL, mine, ACCURACY), mine)
    assert bool(found) == warned


def test_an_equally_good_trial_inside_clears_a_bound() -> None:
    mine = space(learning_rate=RATE)
    search = table(rates(100.0, 1.0, 0.1), [0.6, 0.6, 0.5])
    assert near_bounds(arm_trials(search, keys.DYNAMICAL, mine, ACCURACY), mine) == []
    search = table(rates(100.0, 1.0, 0.1), [0.6, 0.6, 0.5], diverged=[1])
    assert len(near_bounds(arm_trials(search, keys.DYNAMICAL, mine, ACCURACY), mine)) == 1
