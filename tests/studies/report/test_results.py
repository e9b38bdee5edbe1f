"""From a study's folder to its answer, on real folders trained in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from dynloss_core import keys
from studies.report.study_question import question_of
from studies.report.study_results import write_results
from studies.search.confirmation import plan_confirmation
from studies.storage.study_folder import StudyFolder
from tests.studies.sessions import finish, next_block, session_of, train
from tests.studies.tiny import MAP, tiny_study


@pytest.mark.slow
def test_a_period_in_epochs_is_analysed_in_epochs(tmp_path: Path) -> None:
    space = {
        "extends": "dynloss-base",
        "name": "in-epochs",
        "parameters": {
            "period": {
                "type": "float",
                "low": 1.0,
                "high": 4.0,
                "unit": "epochs",
                "scale": "linear",
            },
            "amplitude": {"type": "choice", "values": [5.0, 20.0]},
            "learning_rate": {"low": 0.1, "high": 1.0},
        },
    }
    study = tiny_study(
        **MAP,
        data="digits",
        model={"name": "mlp", "width": 3},
        training={"batch_size": 512},
        budget={"unit": "epochs", "total": 6, "static_tail": 2, "evaluate_every": 2},
        space=space,
        grid={"period": 3, "learning_rate": 2},
        seeds_per_point=3,
        block_size=4,
    )
    session = session_of(study, tmp_path)
    finish(session)
    members = session.folder.parts.gather("members")
    assert question_of(study, members).epochs == 6
    round_ = plan_confirmation(study, members, 1, 0, seeds=2)
    for winner in round_.winners:
        problem = study.problem(winner.arm, winner.point)
        again = study.member(winner.point, 0, problem).period
        if winner.arm not in study.arms:
            continue
        of_trial = (members[keys.ARM] == winner.arm) & (members[keys.TRIAL] == winner.trial)
        searched = members.loc[of_trial, keys.PERIOD].iloc[0]
        assert again is None if pd.isna(searched) else again == searched
    results = write_results(session.stored)
    assert {path.name for path in results.figures} >= {"gain_map.png", "isolation.png"}
    assert members[keys.PERIOD].dropna().min() == 2, "an epoch of two steps"


def test_an_unfinished_study_is_analysed_with_what_is_there(tmp_path: Path) -> None:
    study = tiny_study()
    session = session_of(study, tmp_path)
    nothing = write_results(session.stored)
    assert nothing.analysis.findings() == []
    block = next_block(session)
    train(session, block)
    results = write_results(session.stored)
    assert results.analysis.verdicts == ()
    assert results.metrics()[f"trials_{block.arm}"] == len(block.trials)
    assert not any(name.startswith("verdict") for name in results.metrics())
    page = session.folder.report.read_text()
    assert study.name in page
    summary = json.loads(session.folder.summary.read_text(), parse_constant=pytest.fail)
    assert summary["trials"][block.arm]["tried"] == len(block.trials)


def test_the_attainable_accuracy_is_that_of_the_data() -> None:
    question = question_of(tiny_study(), pd.DataFrame({keys.SEED: [0]}))
    assert question.attainable == pytest.approx(28 / 30), "three of thirty begin in one point"
    assert StudyFolder(Path("nowhere")).state() == {}
