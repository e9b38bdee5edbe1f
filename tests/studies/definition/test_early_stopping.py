"""The rule of early stopping: whole periods only, and never what is not worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core import keys
from dynloss_core.config import ConfigError
from dynloss_core.models import MLPConfig
from dynloss_core.oscillation import oscillation_stop
from dynloss_core.training import Member, Problem
from studies.definition.early_stopping import (
    EarlyStopping,
    RungMeans,
    Rungs,
    Thresholds,
    rung_steps,
    trials_to_stop,
    window,
)
from studies.definition.study_files import load_study
from tests.cases import SMALL_SPIRALS

PROBLEM = Problem(
    data=SMALL_SPIRALS, model=MLPConfig(width=3), steps=700, static_tail=100, evaluate_every=10
)


@pytest.mark.parametrize(
    ("rung", "period", "expected"),
    [
        (999, 1000, None),
        (1000, 1000, (0, 1000)),
        (1999, 1000, (0, 1000)),
        (3999, 1000, (2000, 3000)),
        (4000, 1000, (2000, 4000)),
        (6000, 1000, (3000, 6000)),  # a whole turn of three classes
        (11_999, 1000, (8000, 11_000)),  # five periods would be no whole turns
        (12_000, 1000, (6000, 12_000)),
        (12_000, None, (6000, 12_000)),  # the static arm: the later half
        (7, None, (4, 7)),
    ],
)
def test_a_window_is_recent_whole_periods_and_whole_turns_where_possible(
    rung: int, period: int | None, expected: tuple[int, int] | None
) -> None:
    assert window(rung, period, stop=100_000, classes=3) == expected


def test_no_period_ends_after_the_oscillation() -> None:
    assert window(900, 200, stop=600, classes=3) == (400, 600)
    assert window(900, 700, stop=600, classes=3) is None


@given(
    rung=st.integers(1, 10_000),
    period=st.integers(2, 12_000),
    total=st.integers(1, 20_000),
    tail=st.floats(0, 1),
    classes=st.integers(2, 10),
)
def test_nothing_is_decided_inside_a_period(
    rung: int, period: int, total: int, tail: float, classes: int
) -> None:
    """A window is whole periods, whole turns if it can be, over by the rung, and recent."""
    stop = oscillation_stop(total, int(tail * total), period)
    found = window(rung, period, stop, classes)
    ended = min(rung, stop) // period
    if ended == 0:
        assert found is None
        return
    assert found is not None
    first, last = found
    assert first % period == last % period == 0
    assert 0 <= first < last <= min(rung, stop) < last + period
    periods = (last - first) // period
    assert periods % classes == 0 or periods < classes
    assert periods == 1 or 2 * periods <= ended


@given(
    period=st.integers(2, 60),
    amplitude=st.floats(-5, 5),
    phase=st.integers(0, 59),
)
def test_an_oscillation_leaves_no_trace_in_a_value(
    period: int, amplitude: float, phase: int
) -> None:
    """Evaluated at every step, what repeats with the period adds the same to every trial."""
    problem = replace(PROBLEM, evaluate_every=1)
    member = Member(0.1, seed=0, period=period, amplitude=2.0)
    rungs = Rungs.of(EarlyStopping(), problem, [member], 3)
    steps = np.arange(problem.steps + 1)
    wave = np.cos(2 * math.pi * (steps + phase) / period)
    values = rungs.values(steps, 0.7 + amplitude * wave[:, None], np.array([problem.steps]))
    np.testing.assert_allclose(values, 0.7, rtol=0, atol=1e-9)


def test_rungs_lie_on_evaluations_before_the_tail() -> None:
    assert rung_steps(EarlyStopping(), PROBLEM) == (170, 310, 450)
    assert rung_steps(EarlyStopping(rungs=1, after=0.5), PROBLEM) == (350,)


def test_values_at_rungs_that_are_reached() -> None:
    """A value needs an evaluation in the window, and a member that was sound up to the rung."""
    members = [
        Member(0.1, seed=0),
        Member(0.1, seed=1, period=100, amplitude=2.0),
        Member(0.1, seed=2, period=1000, amplitude=2.0),  # no period of it ever ends
        Member(0.1, seed=3),  # stopped at the second rung
        Member(0.1, seed=4, period=3, amplitude=2.0),
    ]
    rungs = Rungs.of(EarlyStopping(), PROBLEM, members, 3)
    steps = np.arange(0, 701, 10)
    metric = np.repeat(steps[:, None].astype(float), 5, axis=1)
    values = rungs.values(steps, metric, np.array([700, 700, 700, 310, 700]))
    np.testing.assert_allclose(values[:, 0], [130, 235, 340])  # (85, 170], (155, 310], (225, 450]
    np.testing.assert_allclose(values[:, 1], [55, 255, 305])  # last 1 of 1, 1 of 3, 2 of 4
    assert np.isnan(values[:, 2]).all()
    np.testing.assert_allclose(values[:, 3], [130, 235, np.nan])
    sparse = rungs.values(np.array([0, 200]), np.ones((2, 5)), np.full(5, 200))
    assert np.isnan(sparse[0]).all(), "no evaluation within any window"


def members_table(values: dict[int, list[float]], *, diverged: int = -1) -> pd.DataFrame:
    """Trials of two seeds with the same value at one rung."""
    rows = [
        {keys.TRIAL: trial, keys.DIVERGED: trial == diverged, "rung_1": value}
        for trial, pair in values.items()
        for value in pair
    ]
    return pd.DataFrame(rows)


def thresholds(rule: EarlyStopping, blocks: Sequence[pd.DataFrame], objective: str) -> Thresholds:
    means = RungMeans(rule, objective)
    for block in blocks:
        means.add(block)
    return means.thresholds(len(blocks))


tables = st.lists(
    st.lists(
        st.tuples(st.integers(0, 2), st.booleans(), st.sampled_from([0.1, 0.25, 0.5, 0.7, np.nan])),
        max_size=6,
    ),
    max_size=6,
)


@given(blocks=tables, quantile=st.sampled_from([0.25, 0.5, 0.75]), loss=st.booleans())
def test_thresholds_of_some_blocks_are_those_of_one_table(
    blocks: list[list[tuple[int, bool, float]]], quantile: float, loss: bool
) -> None:
    """Blocks whose trials are numbered on, a prefix of them at a time, against all rows at once."""
    rule = EarlyStopping(rungs=1, min_trials=2, quantile=quantile)
    objective = keys.VALIDATION_LOSS if loss else keys.VALIDATION_ACCURACY
    means, rows = RungMeans(rule, objective), []
    for index, block in enumerate(blocks):
        named = [(10 * index + trial, *rest) for trial, *rest in block]
        table = pd.DataFrame(named, columns=[keys.TRIAL, keys.DIVERGED, "rung_1"])
        means.add(table)
        rows.append(table)
    for count in range(len(blocks) + 1):
        trials: dict[int, list[tuple[bool, float]]] = {}
        for table in rows[:count]:
            for trial, diverged, value in table.itertuples(index=False):
                trials.setdefault(trial, []).append((diverged, value))
        values = [
            sum(value for _, value in networks) / len(networks)
            for networks in trials.values()
            if not any(diverged for diverged, _ in networks)
        ]
        worst_first = sorted((v for v in values if not np.isnan(v)), reverse=loss)
        (threshold,) = means.thresholds(count)
        if len(worst_first) < 2:
            assert threshold is None
        else:
            assert threshold == pytest.approx(worst_first[int(quantile * (len(worst_first) - 1))])


def test_a_threshold_is_the_quantile_of_sound_trials_that_got_there() -> None:
    rule = EarlyStopping(rungs=1, min_trials=3, quantile=0.5)
    blocks = [members_table({0: [0.1, 0.3], 1: [0.5, 0.7]}), members_table({2: [0.9, 0.9]})]
    assert thresholds(rule, blocks, keys.VALIDATION_ACCURACY) == (0.6,)
    assert thresholds(rule, [*blocks, pd.DataFrame()], keys.VALIDATION_LOSS) == (0.6,)
    assert thresholds(rule, blocks[:1], keys.VALIDATION_ACCURACY) == (None,), "too few"
    assert thresholds(rule, [], keys.VALIDATION_ACCURACY) == (None,)
    more = [*blocks, members_table({3: [0.0, 0.0]}, diverged=3), members_table({4: [0.0, np.nan]})]
    assert thresholds(rule, more, keys.VALIDATION_ACCURACY) == (0.6,)
    lenient = replace(rule, quantile=0.25)
    many = [members_table({t: [t / 8, t / 8] for t in range(9)})]
    assert thresholds(lenient, many, keys.VALIDATION_ACCURACY) == (0.25,)
    assert thresholds(lenient, many, keys.VALIDATION_LOSS) == (0.75,)


def test_only_what_is_worse_is_stopped() -> None:
    values, trials = np.array([0.4, 0.6, 0.5, 0.7, np.nan, 0.0]), np.array([0, 0, 1, 1, 2, 2])
    assert trials_to_stop(values, trials, 0.5, keys.VALIDATION_ACCURACY) == set()
    assert trials_to_stop(values, trials, 0.55, keys.VALIDATION_ACCURACY) == {0}
    assert trials_to_stop(values, trials, 0.55, keys.VALIDATION_LOSS) == {1}
    assert trials_to_stop(values, trials, None, keys.VALIDATION_LOSS) == set()
    same = np.nextafter(0.5, 1)  # means of equal members, added in another order
    assert trials_to_stop(values, trials, float(same), keys.VALIDATION_ACCURACY) == set()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["early_stopping={rungs: 0}"], "early_stopping.rungs: 0 is below 1"),
        (["early_stopping={after: 1.0}"], "early_stopping.after: 1.0 is not between 0 and 1"),
        (["early_stopping={quantile: 0}"], "early_stopping.quantile: 0.0 is not between 0 and 1"),
        (["early_stopping={min_trials: 0}"], "early_stopping.min_trials: 0 is below 1"),
        (["early_stopping={after: 0.7}"], "early_stopping.after: 0.7 of the run lies in its static"),
        (["early_stopping={after: 0.1}"], "0.1 of the run comes before the first evaluation"),
        (["early_stopping={after: 0.4}"], "early_stopping.rungs: 3 rungs, but fewer evaluations"),
        (["mode=map", "grid={period: 2, amplitude: 2, learning_rate: 2}", "trials_per_arm=null",
          "early_stopping={}"],
         "early_stopping: given in mode map: a map needs every point trained to its end"),
        (["mode=confirm", "trials_per_arm=null", "early_stopping={}",
          "winners={dynamical: {period: 300, amplitude: 5.0, learning_rate: 1.0}, "
          "static: {learning_rate: 2.0}}"],
         "early_stopping: given in mode confirm"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_followed_are_refused_in_one_line(
    tiny: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_study(tiny, overrides)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
