"""Early stopping in a study: repeatable, and told truthfully."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from dynloss_core import keys
from studies.analysis.search_health.arm_trials import arm_trials
from studies.analysis.search_health.search_health import search_health
from studies.analysis.study_tables import Tables
from studies.analysis.verdict_warnings import health_of
from studies.blocks.block import Block, Trial
from studies.cli.result_lines import show_results
from studies.definition.early_stopping import EarlyStopping, is_stopped, rung_steps
from studies.definition.study_files import load_study
from studies.messages import console
from studies.report.study_question import question_of
from studies.report.study_results import write_results
from studies.search.plan import Plan
from studies.storage.status import study_status
from tests.studies.search.formula import answers, drive, fresh
from tests.studies.sessions import session_of, statuses, tracker_of, train_all
from tests.studies.tiny import tiny_study
from tests.studies.trained_blocks import assert_same, resumed, trained

pytestmark = pytest.mark.usefixtures("undrawn")

SHORT = "space={extends: spirals-mlp, parameters: {period: {low: 4, high: 20}}, points: []}"
ON = [SHORT, "budget.evaluate_every=4", "early_stopping={min_trials: 2}"]


def answers_with_stops(block: Block) -> pd.DataFrame:
    """As a block would be trained: values at the rungs as at the end, stops where worse."""
    members = answers(block)
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


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("order", [0, 3])
def test_what_is_stopped_does_not_depend_on_who_finishes_first(
    tiny: Path, sampler: str, order: int
) -> None:
    changes = [*ON, "trials_per_arm=17", "parallel_blocks=3", f"sampler={sampler}"]
    study = load_study(tiny, changes)
    plans = [fresh(study) for _ in range(2)]
    one = drive(plans[0], at_once=6, order=99, train=answers_with_stops)
    other = drive(plans[1], at_once=1 + order, order=order, train=answers_with_stops)
    assert one == other, "thresholds included"
    assert any(any(block.thresholds) for block in one.values())
    for arm in study.arms:
        found = [
            [
                (t.state, t.value, t.intermediate_values)
                for t in plan.searches[0].arms[arm].kept.study.trials
            ]
            for plan in plans
        ]
        assert found[0] == found[1]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_stopped_trials_are_pruned_count_and_never_win(tiny: Path, sampler: str) -> None:
    study = load_study(tiny, [*ON, "trials_per_arm=17", f"sampler={sampler}"])
    plan = fresh(study)
    drive(plan, train=answers_with_stops)
    rungs = rung_steps(study.early_stopping or EarlyStopping(), study.problem("dynamical"))
    for arm in study.arms:
        trials = plan.searches[0].arms[arm].kept.study.get_trials()
        assert len(trials) == 17, "the budget of both arms"
        pruned = [each for each in trials if each.state == TrialState.PRUNED]
        complete = [each for each in trials if each.state == TrialState.COMPLETE]
        assert pruned
        assert len(pruned) + len(complete) == 17
        for each in pruned:
            assert each.value == each.intermediate_values[each.user_attrs[keys.STOPPED_STEP]]
        assert all(tuple(each.intermediate_values) == rungs for each in complete)
        assert plan.winners()[arm].trial in {each.number for each in complete}


def test_a_killed_search_stops_what_it_would_have_stopped(tiny: Path, tmp_path: Path) -> None:
    study = load_study(tiny, [*ON, "trials_per_arm=12"])
    expected = drive(fresh(study), train=answers_with_stops)
    url, tables = f"sqlite:///{tmp_path / 'optuna.db'}", dict[str, pd.DataFrame]()
    first = Plan(study, optuna.storages.RDBStorage(url), lambda block: tables.get(block.id))
    running: list[Block] = []
    chance = random.Random(0)
    for _ in range(7):
        while len(running) < 3 and (block := first.next_block()) is not None:
            running.append(block)
        block = running.pop(chance.randrange(len(running)))
        tables[block.id] = answers_with_stops(block)
        first.receive(block, tables[block.id])
    second = Plan(study, optuna.storages.RDBStorage(url), lambda block: tables.get(block.id))
    again = drive(second, train=answers_with_stops)
    assert set(again) | set(tables) == set(expected)
    assert all(block == expected[name] for name, block in again.items())


def test_without_the_rule_nothing_changes() -> None:
    study = tiny_study()
    plan = fresh(study)
    block = plan.next_block()
    assert block is not None
    assert block.thresholds == ()
    members = trained(study, block).members
    assert not {keys.STOPPED_STEP, "rung_1"} & set(members)
    assert not is_stopped(members).any()


# the analysis


def test_stopped_trials_are_spent_and_no_more() -> None:
    """The best-looking numbers, at the stop, are worth nothing; the budget has them."""
    study = tiny_study()
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


def search_block(limits: tuple[float | None, ...], *trials: Trial) -> Block:
    return Block(keys.SEARCH, keys.DYNAMICAL, 2, trials, (0, 1), limits)


def test_a_block_stops_all_members_of_a_trial_and_nobody_else(tiny: Path) -> None:
    study = load_study(tiny, [*ON, "objective=validation_loss"])
    free = trained(study, search_block((None,) * 3, *TRIALS))
    values = free.members.groupby(keys.TRIAL)["rung_2"].mean()
    assert values[0] != values[1]
    worse = int(values.loc[[0, 1]].idxmax())
    limit = float(values.loc[[0, 1]].mean())
    found = trained(study, search_block((None, limit, None), *TRIALS))
    step = rung_steps(study.early_stopping or EarlyStopping(), study.problem("dynamical"))[1]
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
    found = trained(study, search_block((0.0, None, None), *TRIALS[:2]))
    assert found.curves[keys.STEP].max() == found.members[keys.STOPPED_STEP].max() == 12


@pytest.mark.parametrize("after", [2, 4, 6, 8])
def test_resumed_equals_uninterrupted_with_stops(tiny: Path, tmp_path: Path, after: int) -> None:
    study = load_study(tiny, [*ON, "objective=validation_loss"])
    free = trained(study, search_block((None,) * 3, *TRIALS))
    limit = float(free.members.groupby(keys.TRIAL)["rung_2"].mean().loc[[0, 1]].mean())
    block = search_block((None, limit, None), *TRIALS)
    whole = trained(study, block)
    assert is_stopped(whole.members).any()
    assert_same(resumed(study, block, after, tmp_path), whole)


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
    train_all(session)
    members = session.folder.parts.gather("members")
    search = members[members[keys.PHASE] == keys.SEARCH]
    stopped = search[is_stopped(search)]
    assert (stopped[keys.LEARNING_RATE] < 1e-3).any()
    results = write_results(session.stored)
    analysis = results.analysis
    (health,) = health_of(Tables(members, pd.DataFrame(), question_of(study, members)))
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
    assert resumed.has_nothing_to_train(), "nothing is left to train"
