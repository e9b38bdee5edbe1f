"""The plan, with real Optuna and a stand-in for training that answers from a formula."""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.blocks.block import Block
from studies.definition.study_files import load_study
from studies.search.plan import Plan
from tests.studies.search.formula import answers, drive, fresh
from tests.studies.tiny import tiny_study


def test_hands_out_every_trial_once_and_then_the_winners() -> None:
    study = tiny_study()
    plan = fresh(study)
    blocks = drive(plan)
    assert plan.finished
    for arm in study.arms:
        search = [b for b in blocks.values() if b.arm == arm and b.phase == keys.SEARCH]
        assert [t.number for b in search for t in b.trials] == list(range(6))
        assert all(b.seeds == tuple(study.seeds.search) for b in search)
        winner = plan.winners()[arm]
        confirm = blocks[f"confirm-{arm}-00000"]
        assert confirm.trials[0].point == winner.point
        assert confirm.seeds == tuple(study.seeds.fresh)
        trials = plan.searches[0].arms[arm].kept.study.get_trials()
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}
        assert winner.objective == max(trial.value for trial in trials if trial.value is not None)


def test_the_best_so_far_is_of_all_searches() -> None:
    """It does not get worse because the next search has begun."""
    plan, best = fresh(tiny_study(searches=3)), 0.0
    while (block := plan.next_block()) is not None:
        plan.receive(block, answers(block))
        if block.arm == keys.STATIC and (winner := plan.winners().get(keys.STATIC)) is not None:
            assert winner.objective is not None
            assert winner.objective >= best
            best = winner.objective
    each = [search.winners()[keys.STATIC].objective for search in plan.searches]
    assert best == max(value for value in each if value is not None)


def test_starts_from_the_points_of_the_space() -> None:
    blocks = drive(fresh(tiny_study()))
    first = blocks["search-dynamical-00000"].trials[0].point
    assert first == {"period": 5000, "amplitude": 70.0, "learning_rate": 1.0}
    assert blocks["search-static-00000"].trials[0].point == {"amplitude": 1.0, "learning_rate": 1.0}


@pytest.mark.parametrize("order", range(4))
def test_proposals_do_not_depend_on_who_finishes_first(tiny: Path, order: int) -> None:
    study = load_study(tiny, ["trials_per_arm=17", "parallel_blocks=3"])
    one = drive(fresh(study), at_once=6, order=99)
    other = drive(fresh(study), at_once=1 + 2 * order, order=order)
    assert one == other


def test_another_seed_proposes_something_else(tiny: Path) -> None:
    one = drive(fresh(load_study(tiny)))
    other = drive(fresh(load_study(tiny, ["seed=1"])))
    assert one["search-dynamical-00001"].trials != other["search-dynamical-00001"].trials


@pytest.mark.parametrize("stop_after", range(1, 15, 2))
def test_a_killed_search_goes_on_as_if_nothing_had_happened(
    tiny: Path, tmp_path: Path, stop_after: int
) -> None:
    """The storage survives, the tables of finished blocks survive, everything else is lost."""
    study = load_study(tiny, ["trials_per_arm=12"])
    expected = drive(fresh(study))
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    tables: dict[str, pd.DataFrame] = {}

    def record(block: Block) -> pd.DataFrame | None:
        return tables.get(block.id)

    first = Plan(study, optuna.storages.RDBStorage(url), record)
    chance = random.Random(stop_after)
    running: list[Block] = []
    for finished in range(stop_after):
        while len(running) < 3 and (block := first.next_block()) is not None:
            running.append(block)
        block = running.pop(chance.randrange(len(running)))
        tables[block.id] = answers(block)
        if finished < stop_after - 1 or chance.random() < 0.5:
            first.receive(block, tables[block.id])  # else killed between the table and Optuna
    left = [
        trial for arm in study.arms for trial in first.searches[0].arms[arm].kept.study.get_trials()
    ]
    assert all(trial.state.is_finished() for trial in left), "what is in flight is not there"
    second = Plan(study, optuna.storages.RDBStorage(url), record)
    again = drive(second)
    assert not set(again) & set(tables), "nothing finished is trained again"
    assert set(again) | set(tables) == set(expected)
    assert all(block == expected[name] for name, block in again.items())
    for arm in study.arms:
        trials = second.searches[0].arms[arm].kept.study.get_trials()
        assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 12


def test_a_storage_with_trials_that_never_ended_is_refused() -> None:
    storage = optuna.storages.InMemoryStorage()
    earlier = optuna.create_study(study_name="tiny/static", storage=storage, direction="maximize")
    earlier.ask()
    with pytest.raises(ConfigError, match="never ended"):
        fresh(tiny_study(), storage)


def test_a_trial_lasts_from_its_proposal_to_its_end() -> None:
    plan = fresh(tiny_study())
    drive(plan)
    for trial in plan.searches[0].arms["dynamical"].kept.study.get_trials():
        assert trial.duration is not None
        assert trial.duration.total_seconds() > 0


def test_diverged_and_lost_trials_fail_with_their_parameters() -> None:
    plan = fresh(tiny_study())
    while (block := plan.next_block()) is not None:
        if block.phase == keys.SEARCH and block.index == 1:
            plan.receive(block, pd.DataFrame())
        else:
            plan.receive(block, answers(block, diverged={0}))
    assert plan.finished
    trials = plan.searches[0].arms["dynamical"].kept.study.get_trials()
    assert [trial.state.name for trial in trials] == [
        "FAIL", "COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE",
    ]  # fmt: skip
    assert trials[0].user_attrs[keys.DIVERGED] is True
    assert "could not be trained" in trials[2].user_attrs["error"]
    assert all(set(trial.params) == {"period", "amplitude", "learning_rate"} for trial in trials)


def test_without_a_winner_nothing_is_confirmed() -> None:
    plan = fresh(tiny_study())
    while (block := plan.next_block()) is not None:
        plan.receive(block, pd.DataFrame())
    assert plan.finished
    assert plan.winners() == {}


def test_a_map_hands_out_its_whole_design_at_once(tiny: Path) -> None:
    grid = "grid={period: 3, amplitude: 2, learning_rate: 1}"
    study = load_study(tiny, ["mode=map", "trials_per_arm=null", grid])
    plan = fresh(study)
    blocks = []
    while (block := plan.next_block()) is not None:
        blocks.append(block)
    points = [t.point for b in blocks for t in b.trials if b.arm == "dynamical"]
    assert points == study.trials_of("dynamical").design
    for block in reversed(blocks):
        plan.receive(block, answers(block))
    assert plan.next_block() is None
    assert plan.finished


def test_given_winners_are_confirmed_without_a_search(tiny: Path) -> None:
    winners = (
        "winners={dynamical: {period: 300, amplitude: 5.0, learning_rate: 1.0}, "
        "static: {learning_rate: 2.0}}"
    )
    study = load_study(tiny, ["mode=confirm", "trials_per_arm=null", winners])
    blocks = drive(fresh(study))
    assert set(blocks) == {"confirm-dynamical-00000", "confirm-static-00000"}
    static = blocks["confirm-static-00000"].trials[0].point
    assert static == {"amplitude": 1.0, "learning_rate": 2.0}


def test_losses_are_minimised(tiny: Path) -> None:
    study = load_study(tiny, ["objective=validation_loss"])
    plan = fresh(study)
    while (block := plan.next_block()) is not None:
        rows = answers(block).rename(columns={keys.VALIDATION_ACCURACY: keys.VALIDATION_LOSS})
        plan.receive(block, rows)
    trials = plan.searches[0].arms["static"].kept.study.get_trials()
    assert plan.winners()["static"].objective == min(t.value for t in trials if t.value is not None)


def test_optunas_storage_names_the_objective_and_has_its_curves(tmp_path: Path) -> None:
    study, storage = tiny_study(), optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")
    asked: list[str] = []

    def curves(block: Block) -> pd.DataFrame:
        asked.append(block.id)
        return pd.DataFrame(
            [
                {keys.TRIAL: trial.number, keys.STEP: 10 * step, study.objective: float(step)}
                for trial in block.trials
                for step in range(51)
            ]
        )

    drive(Plan(study, storage, lambda block: None, curves=curves))
    for arm in study.arms:
        held = optuna.load_study(study_name=f"tiny/{arm}", storage=storage)
        assert held.metric_names == [study.objective]
        for trial in held.trials:
            steps = sorted(trial.intermediate_values)
            assert steps[-1] == 500, "the last is kept"
            assert len(steps) <= 20
            assert all(trial.intermediate_values[step] == step / 10 for step in steps)
    before = len(asked)
    drive(Plan(study, storage, lambda block: None, curves=curves))
    assert len(asked) == before, "what is kept is not read again"
