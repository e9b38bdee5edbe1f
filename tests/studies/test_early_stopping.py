"""Early stopping: whole periods only, repeatable, and told truthfully."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from optuna.trial import TrialState

from dynloss_core import keys
from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.config import ConfigError
from dynloss_core.models import MLPConfig
from dynloss_core.schedules import oscillation_stop
from dynloss_core.training import Member, Problem
from studies.analysis.search_health.arm_trials import arm_trials
from studies.analysis.search_health.search_health import search_health
from studies.analysis.setting_verdicts import health_of
from studies.analysis.study_tables import Tables
from studies.blocks.block import Block, BlockResult, Trial
from studies.blocks.block_run import BlockRun
from studies.cli.terminal import show_results
from studies.definition.early_stopping import (
    EarlyStopping,
    Rungs,
    is_stopped,
    rung_steps,
    thresholds,
    trials_to_stop,
    window,
)
from studies.definition.study_files import load_study
from studies.messages import console
from studies.report.study_results import question_of, write_results
from studies.search.arm_search import Plan
from studies.storage.status import study_status
from tests.cases import SMALL_SPIRALS
from tests.studies.sessions import session_of, statuses, tracker_of, train
from tests.studies.test_search import drive
from tests.studies.test_search import table as plain_table

optuna.logging.set_verbosity(optuna.logging.ERROR)

SHORT = "space={extends: spirals-mlp, parameters: {period: {low: 4, high: 20}}, points: []}"
ON = [SHORT, "budget.evaluate_every=4", "early_stopping={min_trials: 2}"]
PROBLEM = Problem(
    data=SMALL_SPIRALS, model=MLPConfig(width=3), steps=700, static_tail=100, evaluate_every=10
)


# windows and rungs


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
def test_windows(rung: int, period: int | None, expected: tuple[int, int] | None) -> None:
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


# thresholds and decisions


def members_table(values: dict[int, list[float]], *, diverged: int = -1) -> pd.DataFrame:
    """Trials of two seeds with the same value at one rung."""
    rows = [
        {keys.TRIAL: trial, keys.DIVERGED: trial == diverged, "rung_1": value}
        for trial, pair in values.items()
        for value in pair
    ]
    return pd.DataFrame(rows)


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


# the definition


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
         "early_stopping: given in mode map: a map must know every point at its end"),
        (["mode=confirm", "trials_per_arm=null", "early_stopping={}",
          "winners={dynamical: {period: 300, amplitude: 5.0, learning_rate: 1.0}, "
          "static: {learning_rate: 2.0}}"],
         "early_stopping: given in mode confirm"),
    ],
)  # fmt: skip
def test_refused_in_one_line(tiny: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_study(tiny, overrides)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


# the search


def table(block: Block) -> pd.DataFrame:
    """As a block would be trained: values at the rungs as at the end, stops where worse."""
    members = plain_table(block)
    final = members.groupby(keys.TRIAL)[keys.VALIDATION_ACCURACY].transform("mean")
    stopped = np.full(len(members), -1)
    for number, (step, limit) in enumerate(
        zip((12, 20, 28), block.thresholds or (None,) * 3, strict=True), start=1
    ):
        going = stopped < 0
        members[f"rung_{number}"] = np.where(going, final, np.nan)
        if limit is not None:
            stopped[going & (final.to_numpy() < limit)] = step
    members[keys.STOPPED_STEP] = stopped
    return members


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.studies.test_search.table", table)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("order", [0, 3])
def test_what_is_stopped_does_not_depend_on_who_finishes_first(
    tiny: Path, sampler: str, order: int
) -> None:
    changes = [*ON, "trials_per_arm=17", "parallel_blocks=3", f"sampler={sampler}"]
    study = load_study(tiny, changes)
    plans = [Plan(study, optuna.storages.InMemoryStorage(), lambda block: None) for _ in range(2)]
    one = drive(plans[0], at_once=6, order=99)
    other = drive(plans[1], at_once=1 + order, order=order)
    assert one == other, "thresholds included"
    assert any(any(block.thresholds) for block in one.values())
    for arm in study.arms:
        found = [
            [(t.state, t.value, t.intermediate_values) for t in plan.searches[arm].optuna.trials]
            for plan in plans
        ]
        assert found[0] == found[1]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_stopped_trials_are_pruned_count_and_never_win(tiny: Path, sampler: str) -> None:
    study = load_study(tiny, [*ON, "trials_per_arm=17", f"sampler={sampler}"])
    plan = Plan(study, optuna.storages.InMemoryStorage(), lambda block: None)
    drive(plan)
    rungs = rung_steps(study.early_stopping or EarlyStopping(), study.problem())
    for arm in study.arms:
        trials = plan.searches[arm].optuna.get_trials()
        assert len(trials) == 17, "the budget of both arms"
        pruned = [each for each in trials if each.state == TrialState.PRUNED]
        complete = [each for each in trials if each.state == TrialState.COMPLETE]
        assert pruned
        assert len(pruned) + len(complete) == 17
        for each in pruned:
            assert each.value == each.intermediate_values[each.user_attrs[keys.STOPPED_STEP]]
        assert all(tuple(each.intermediate_values) == rungs for each in complete)
        assert plan.winners()[arm].trial in {each.number for each in complete}


@pytest.mark.usefixtures("stand_in")
def test_a_killed_search_stops_what_it_would_have_stopped(tiny: Path, tmp_path: Path) -> None:
    study = load_study(tiny, [*ON, "trials_per_arm=12"])
    expected = drive(Plan(study, optuna.storages.InMemoryStorage(), lambda block: None))
    url, tables = f"sqlite:///{tmp_path / 'optuna.db'}", dict[str, pd.DataFrame]()
    first = Plan(study, optuna.storages.RDBStorage(url), lambda block: tables.get(block.id))
    running: list[Block] = []
    chance = random.Random(0)
    for _ in range(7):
        while len(running) < 3 and (block := first.next_block()) is not None:
            running.append(block)
        block = running.pop(chance.randrange(len(running)))
        tables[block.id] = table(block)
        first.receive(block, tables[block.id])
    second = Plan(study, optuna.storages.RDBStorage(url), lambda block: tables.get(block.id))
    again = drive(second)
    assert set(again) | set(tables) == set(expected)
    assert all(block == expected[name] for name, block in again.items())


def test_without_the_rule_nothing_changes(tiny: Path) -> None:
    study = load_study(tiny)
    plan = Plan(study, optuna.storages.InMemoryStorage(), lambda block: None)
    block = plan.next_block()
    assert block is not None
    assert block.thresholds == ()
    run = BlockRun(study, block)
    list(run.progress())
    assert not {keys.STOPPED_STEP, "rung_1"} & set(run.result().members)
    assert not is_stopped(run.result().members).any()


# the analysis


def test_stopped_trials_are_spent_and_no_more(tiny: Path) -> None:
    """The best-looking numbers, at the stop, are worth nothing; the budget has them."""
    study = load_study(tiny)
    rows = [
        {keys.ARM: keys.DYNAMICAL, keys.TRIAL: trial, keys.SEED: seed, keys.DIVERGED: trial == 1,
         keys.STOPPED_STEP: 30 if trial == 2 else -1, keys.STEPS: 60,
         keys.VALIDATION_ACCURACY: value + 0.01 * seed,
         keys.PERIOD: 500, keys.AMPLITUDE: 3.0, keys.LEARNING_RATE: 0.1 * (trial + 1)}
        for trial, value in enumerate([0.5, 0.6, 0.9, 0.7])
        for seed in (0, 1)
    ]  # fmt: skip
    search = pd.DataFrame(rows)
    spaces = {keys.DYNAMICAL: study.arm_space(keys.DYNAMICAL)}
    found = arm_trials(search, keys.DYNAMICAL, spaces[keys.DYNAMICAL], study.objective)
    assert found.stopped.tolist() == [False, False, True, False]
    assert found.infeasible.tolist() == [False, True, False, False]
    assert np.isnan(found.mean).tolist() == [False, True, True, False]
    assert found.best().tolist() == [3]
    health = search_health(search, spaces, study.objective, adaptive=True)
    assert health is not None
    curve = health.convergence[keys.DYNAMICAL]
    assert (curve.trials, curve.best[-1]) == (4, pytest.approx(0.705))
    assert health.infeasible[keys.DYNAMICAL].count == 1
    for isolation in health.isolations:
        assert 2 not in isolation.best


# blocks and sessions

TRIALS = (
    Trial(0, {"period": 5, "amplitude": 9.0, "learning_rate": 0.5}),
    Trial(1, {"period": 4, "amplitude": 70.0, "learning_rate": 1e-6}),
    Trial(2, {"period": 20, "amplitude": 5.0, "learning_rate": 1e30}),
)


def finish(run: BlockRun) -> BlockResult:
    list(run.progress())
    return run.result()


def search_block(limits: tuple[float | None, ...], *trials: Trial) -> Block:
    return Block(keys.SEARCH, keys.DYNAMICAL, 2, trials, (0, 1), limits)


def test_a_block_stops_all_members_of_a_trial_and_nobody_else(tiny: Path) -> None:
    study = load_study(tiny, [*ON, "objective=validation_loss"])
    free = finish(BlockRun(study, search_block((None,) * 3, *TRIALS)))
    values = free.members.groupby(keys.TRIAL)["rung_2"].mean()
    assert values[0] != values[1]
    worse = int(values.loc[[0, 1]].idxmax())
    limit = float(values.loc[[0, 1]].mean())
    found = finish(BlockRun(study, search_block((None, limit, None), *TRIALS)))
    step = rung_steps(study.early_stopping or EarlyStopping(), study.problem())[1]
    stopped = found.members[keys.TRIAL] == worse
    assert found.members[keys.STOPPED_STEP].tolist() == [step if s else -1 for s in stopped]
    drop = [keys.STOPPED_STEP, keys.SECONDS]
    pd.testing.assert_frame_equal(
        found.members[~stopped].drop(columns=drop), free.members[~stopped].drop(columns=drop)
    )
    at_stop = free.curves[(free.curves[keys.TRIAL] == worse) & (free.curves[keys.STEP] == step)]
    for metric in keys.EVALUATION_METRICS:
        assert found.members.loc[stopped, metric].tolist() == at_stop[metric].tolist()
    assert found.members.loc[stopped, "rung_3"].isna().all()
    after = (found.curves[keys.TRIAL] == worse) & (found.curves[keys.STEP] > step)
    assert found.curves.loc[after, keys.VALIDATION_LOSS].isna().all()
    assert (free.members[keys.STOPPED_STEP] == -1).all()
    assert free.members[free.members[keys.TRIAL] == 2]["rung_3"].isna().all(), "it diverged"


def test_a_wholly_stopped_block_ends_early(tiny: Path) -> None:
    study = load_study(tiny, [*ON, "objective=validation_loss"])
    found = finish(BlockRun(study, search_block((0.0, None, None), *TRIALS[:2])))
    assert found.curves[keys.STEP].max() == found.members[keys.STOPPED_STEP].max() == 12


@pytest.mark.parametrize("after", [2, 4, 6, 8])
def test_resumed_equals_uninterrupted_with_stops(tiny: Path, tmp_path: Path, after: int) -> None:
    study = load_study(tiny, [*ON, "objective=validation_loss"])
    free = finish(BlockRun(study, search_block((None,) * 3, *TRIALS)))
    limit = float(free.members.groupby(keys.TRIAL)["rung_2"].mean().loc[[0, 1]].mean())
    block = search_block((None, limit, None), *TRIALS)
    whole = finish(BlockRun(study, block))
    assert is_stopped(whole.members).any()
    first = BlockRun(study, block)
    for index, _ in enumerate(first.progress(), start=1):
        if index == after:
            break
    save_checkpoint(tmp_path / "block.pt", first.state_dict())
    second, state = BlockRun(study, block), load_checkpoint(tmp_path / "block.pt")
    assert state is not None
    assert second.load_state_dict(state)
    again = finish(second)
    drop = [keys.SECONDS]
    pd.testing.assert_frame_equal(
        again.members.drop(columns=drop), whole.members.drop(columns=drop)
    )
    pd.testing.assert_frame_equal(again.curves, whole.curves)


@pytest.mark.slow
def test_a_real_study_stops_bad_learning_rates(tiny: Path, tmp_path: Path) -> None:
    """Three learning rates, one of which learns nothing."""
    space = (
        "space={extends: spirals-mlp, points: [], parameters: {period: {low: 4, high: 40}, "
        "amplitude: {low: 1, high: 3}, "
        "learning_rate: {type: choice, values: [0.000001, 0.5, 1.0]}}}"
    )
    changes = ["budget={total: 600, static_tail: 100, evaluate_every: 10}", "trials_per_arm=12"]
    changes += ["objective=validation_loss", "sampler=random", "early_stopping={min_trials: 3}"]
    study = load_study(tiny, [space, *changes])
    session = session_of(study, tmp_path)
    while (block := session.next_block()) is not None:
        train(session, block)
    members = session.folder.parts.gather("members")
    search = members[members[keys.PHASE] == keys.SEARCH]
    stopped = search[is_stopped(search)]
    assert (stopped[keys.LEARNING_RATE] < 1e-3).any()
    results = write_results(study, session.folder)
    analysis = results.analysis
    health = health_of(Tables(members, pd.DataFrame(), question_of(study, members)))
    assert health is not None
    for arm in study.arms:
        mine = stopped.loc[stopped[keys.ARM] == arm, keys.TRIAL].unique()
        assert analysis.trials[arm] == (12, 0)
        assert analysis.stopped[arm] == len(mine)
        assert health.convergence[arm].trials == 12
        assert health.infeasible[arm].count == 0
        assert analysis.winners[arm][keys.LEARNING_RATE] >= 0.5
        states = statuses(tmp_path, tracker_of(session).parent)
        killed = {f"search/{arm}/{trial}" for trial in mine}
        assert {n for n, s in states.items() if s == "KILLED" and f"/{arm}/" in n} == killed
    with console.capture() as shown:
        show_results(study, session.folder, results)
    total = sum(analysis.stopped.values())
    assert shown.get().count("stopped early") == sum(n > 0 for n in analysis.stopped.values())
    assert total > 0
    assert "stopped early" in str(study_status(session.folder))
    client = MlflowClient(tracker_of(session).uri)
    arm, number = stopped.iloc[0][[keys.ARM, keys.TRIAL]]
    run = client.get_run(tracker_of(session)._runs[keys.SEARCH, arm, number])
    assert run.data.tags["dynloss.stopped"] == "true"
    assert "stopped_validation_loss" in run.data.metrics
    assert "final_validation_loss" not in run.data.metrics
    resumed = session_of(study, tmp_path)
    assert resumed.prepared(), "nothing is left to train"
