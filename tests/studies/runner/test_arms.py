"""A study of several arms, from its file to its verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from dynloss_core import keys
from dynloss_core.training import AutogradEngine, Setup
from studies.blocks.block import Block, Trial
from studies.definition.study import Study
from studies.runner.run_study import run_study
from studies.storage.study_folder import StudyFolder
from tests.studies.mlflow_runs import runs_in, trial_of
from tests.studies.sessions import run_without_ray, session_of, train, train_next
from tests.studies.tiny import tiny_study
from tests.studies.trained_blocks import trained

pytestmark = pytest.mark.usefixtures("undrawn")

POINT = {"period": 20, "amplitude": 30.0, "learning_rate": 0.5}


@pytest.fixture
def study() -> Study:
    return tiny_study(
        arms={
            "static": {"baseline": True},
            "cosine": {
                "baseline": True,
                "training": {"learning_rate_schedule": {"decay": "cosine"}},
            },
            "random": {"training": {"oscillation": {"groups": "random"}}},
            "classes": {},
        },
        ladder=["static", "random", "classes"],
        trials_per_arm=2,
        equivalence_margin=0.05,
    )


@pytest.mark.parametrize("arm", ["cosine", "random", "classes"])
def test_an_arms_networks_are_trained_as_it_says(arm: str, study: Study) -> None:
    point = {name: value for name, value in POINT.items() if arm != "cosine" or name != "period"}
    point |= {"amplitude": 1.0} if arm == "cosine" else {}
    block = Block(keys.SEARCH, arm, 0, (Trial(0, point),), (3, 4))
    members = trained(study, block).members
    problem = study.problem(arm, point)
    setup = Setup.build(problem, [study.member(point, seed, problem) for seed in (3, 4)])
    *_, last = AutogradEngine(setup).evaluations()
    assert members[keys.TRAIN_LOSS].tolist() == pytest.approx(last.train_loss.tolist(), rel=1e-4)


def test_groups_make_a_difference_and_amplitude_one_makes_none(study: Study) -> None:
    def losses(arm: str, amplitude: float) -> list[float]:
        trial = Trial(0, {**POINT, "amplitude": amplitude})
        members = trained(study, Block(keys.SEARCH, arm, 0, (trial,), (3, 4))).members
        return [float(value) for value in members[keys.TRAIN_LOSS]]

    assert losses("random", 30.0) != losses("classes", 30.0)
    assert losses("random", 1.0) == losses("classes", 1.0)


def test_from_its_start_to_its_verdicts(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_without_ray(monkeypatch)
    run_study(study, tmp_path)
    folder = StudyFolder.of(study, tmp_path)
    found = json.loads(folder.summary.read_text())
    pairs = [(each["arm"], each["reference"]) for each in found["verdicts"]]
    assert pairs == [tuple(pair) for pair in study.pairs]
    for verdict in found["verdicts"]:
        arm, reference = verdict["arm"], verdict["reference"]
        difference = verdict["test"][arm]["mean"] - verdict["test"][reference]["mean"]
        assert verdict["test"]["difference"] == pytest.approx(difference)
        assert set(verdict["points"]) == {arm, reference}
    assert "classes against static" in " ".join(found["findings"])
    page = folder.report.read_text()
    assert page.index("classes against static in test accuracy") < page.index("over 4 comparisons")
    assert pd.read_csv(folder.tables / "ladder.csv")["arm"].tolist() == list(study.ladder)
    members = pd.read_parquet(folder.tables / "members.parquet")
    assert set(members[keys.ARM]) == set(study.confirmed_arms)
    by_seed = members[members[keys.PHASE] == keys.CONFIRM].groupby(keys.SEED)[keys.ARM].nunique()
    assert (by_seed == len(study.confirmed_arms)).all(), "paired by seed"
    names = {trial_of(run) for run in runs_in(MlflowClient(folder.default_tracking_uri))}
    assert {f"search/{arm}/1" for arm in study.arms} <= names


@pytest.mark.slow
def test_resumed_it_proposes_what_it_would_have(study: Study, tmp_path: Path) -> None:
    whole, parts = session_of(study, tmp_path / "whole"), tmp_path / "parts"
    expected = []
    while (block := whole.next_block()) is not None:
        train(whole, block)
        expected.append(block)
    found = []
    for _ in expected:
        session = session_of(study, parts)
        found.append(train_next(session))
        session.delivery.close()
    assert found == expected
    searched = [block for block in expected if block.phase == keys.SEARCH]
    first = {block.arm: block.trials[0].point for block in searched if block.index == 0}
    assert first["random"] == first["classes"], "the start point is every arm's"
