from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dynloss_core import keys
from studies.blocks.block import Block, Trial
from studies.blocks.block_run import BlockRun
from studies.blocks.tables import pack, unpack
from studies.definition.study_files import load_study
from tests.studies.tiny import tiny_study
from tests.studies.trained_blocks import assert_same, resumed, trained

POINTS = (
    Trial(4, {"period": 20, "amplitude": 9.0, "learning_rate": 0.5, "model.width": 4}),
    Trial(5, {"period": 30, "amplitude": 70.0, "learning_rate": 1.0, "model.width": 7}),
    Trial(6, {"period": 10, "amplitude": 5.0, "learning_rate": 1e30, "model.width": 4}),
)
BLOCK = Block(keys.SEARCH, keys.DYNAMICAL, 2, POINTS, (0, 1))
WIDTH = "space={extends: spirals-mlp, parameters: {model.width: {type: int, low: 3, high: 9}}}"


def test_the_tables_of_a_block(tiny: Path) -> None:
    study = load_study(tiny, [WIDTH])
    run = BlockRun(study, BLOCK)
    fractions = [progress.fraction for progress in run.progress()]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    result = run.result()
    members = result.members.sort_values([keys.TRIAL, keys.SEED])
    assert members[keys.TRIAL].tolist() == [4, 4, 5, 5, 6, 6]
    assert members["model.width"].tolist() == [4, 4, 7, 7, 4, 4]
    assert members[keys.PERIOD].tolist() == [20, 20, 30, 30, 10, 10]
    assert members[keys.DIVERGED].tolist() == [False] * 4 + [True] * 2
    assert members[keys.CONFIG_HASH].nunique() == 6
    sound = members[~members[keys.DIVERGED]]
    assert sound[keys.VALIDATION_ACCURACY].between(0, 1).all()
    assert members[keys.TEST_ACCURACY].isna().all(), "a search never sees the test set"
    assert members[members[keys.DIVERGED]][keys.VALIDATION_LOSS].isna().all()
    curves = result.curves
    assert curves[curves[keys.TRIAL] == 5][keys.STEP].unique().tolist() == [0, 20, 40, 60]
    last = curves[(curves[keys.STEP] == 60) & (curves[keys.TRIAL] == 5)]
    expected = members[members[keys.TRIAL] == 5][keys.VALIDATION_LOSS].tolist()
    assert last[keys.VALIDATION_LOSS].tolist() == expected


def test_only_a_confirmation_sees_the_test_set() -> None:
    block = Block(
        keys.CONFIRM, keys.STATIC, 0, (Trial(1, {"amplitude": 1.0, "learning_rate": 1.0}),), (8, 9)
    )
    members = trained(tiny_study(), block).members
    assert members[keys.TEST_ACCURACY].between(0, 1).all()
    assert members[keys.PERIOD].isna().all()


@pytest.mark.parametrize("after", range(1, 8))
def test_resumed_equals_uninterrupted(tiny: Path, tmp_path: Path, after: int) -> None:
    study = load_study(tiny, [WIDTH])
    assert_same(resumed(study, BLOCK, after, tmp_path), trained(study, BLOCK))


def test_a_checkpoint_of_another_block_or_study_is_passed_over(tiny: Path) -> None:
    study = load_study(tiny, [WIDTH])
    state = BlockRun(study, BLOCK).state_dict()
    other = Block(keys.SEARCH, keys.DYNAMICAL, 3, POINTS, (0, 1))
    assert not BlockRun(study, other).load_state_dict(state)
    assert not BlockRun(load_study(tiny, [WIDTH, "budget.total=80"]), BLOCK).load_state_dict(state)


KEYS = ("current", "seconds", "curves", "members", "recorder", "engine")


@pytest.mark.parametrize("lost", [*KEYS, "step", "parameters", "rate"])
def test_a_state_that_is_not_whole_is_passed_over_and_changes_nothing(
    lost: str, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = load_study(tiny, [WIDTH])
    first, second = BlockRun(study, BLOCK), BlockRun(study, BLOCK)
    next(iter(first.progress()))
    state = first.state_dict()
    owner = state if lost in KEYS else state["engine"]
    del owner[lost]
    if lost == "rate":  # saved by another version, or on a machine with another engine
        owner.update(rate=None, engine="another")
    assert not second.load_state_dict(state)
    assert "is incomplete" in caplog.text
    assert second.state_dict()["curves"] == []
    list(second.progress())
    assert_same(second.result(), trained(study, BLOCK))


def test_pack_keeps_values_and_types() -> None:
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None], dtype="Int64"),
            "b": [0.1, float("nan")],
            "c": ["x", "y"],
            "d": [True, False],
            "e": [1, 2],
        }
    )
    pd.testing.assert_frame_equal(unpack(pack(frame)), frame)
