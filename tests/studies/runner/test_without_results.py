"""Studies that found nothing: every network diverges, or every block fails. They end all the same:
report, closed runs, and a line that says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet
from mlflow import MlflowClient

from dynloss_core import keys
from studies.definition.study_files import load_study
from studies.runner.run_study import run_study
from studies.runner.session import Session
from studies.storage.stored_study import StoredStudy
from tests.studies.commands import dynloss_here
from tests.studies.sessions import run_without_ray, train

DIVERGES = "space={extends: spirals-mlp, points: [], parameters: {learning_rate: {low: 1.0e+20, high: 1.0e+25}}}"
STATIC_DIVERGES = (
    "space={extends: spirals-mlp, points: [], baseline: {fix: {amplitude: 1.0}, drop: [period], "
    "search: {learning_rate: {type: float, low: 1.0e+20, high: 1.0e+25, scale: log}}}}"
)
MAP = ["mode=map", "trials_per_arm=null", "grid={period: 2, amplitude: 2, learning_rate: 2}"]
POINT = "{learning_rate: 1.0e+20"
GIVEN = [
    "mode=confirm",
    "trials_per_arm=null",
    f"winners={{dynamical: {POINT}, period: 500, amplitude: 5.0}}, static: {POINT}}}}}",
]
STOPS = "early_stopping={rungs: 1, after: 0.5, min_trials: 2}"
RECORDS = "record={final_curvature: true, trace: true}"


def slow(overrides: list[str]) -> ParameterSet:
    return pytest.param(overrides, marks=pytest.mark.slow)


@pytest.mark.parametrize("fails", [False, True], ids=["diverged", "failed"])
@pytest.mark.parametrize(
    "overrides",
    [
        [DIVERGES],
        slow([DIVERGES, "objective=validation_loss", "equivalence_margin=0.1"]),
        [DIVERGES, *MAP],
        slow([DIVERGES, *MAP[:2], "sampler=sobol", "trials_per_arm=4"]),
        [DIVERGES, STOPS],
        slow([DIVERGES, RECORDS]),
        slow([DIVERGES, "seeds_per_point=1"]),
        slow([DIVERGES, "arms=[static]"]),
        [STATIC_DIVERGES],
        slow([DIVERGES, *GIVEN]),
    ],
    ids=[
        "optimize",
        "loss",
        "grid",
        "sobol",
        "stops",
        "records",
        "one-seed",
        "arm",
        "static",
        "given",
    ],
)
def test_a_study_without_a_finite_result_ends(
    overrides: list[str], fails: bool, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_this_process(session: Session) -> None:
        while (block := session.next_block()) is not None:
            if fails:
                session.failed(block, "OSError: no such device")
            else:
                train(session, block)

    draws = overrides in ([DIVERGES], [DIVERGES, *MAP])  # the others' figures are the same
    run_without_ray(monkeypatch, in_this_process, draws=draws)
    study = load_study(tiny, overrides)
    for resume in (False, True):
        outcome = run_study(study, tmp_path, resume=resume)
        assert outcome.finished
        assert outcome.results.without_winner(study) or study.mode != "optimize"
    folder, stored = outcome.folder, StoredStudy.read(outcome.folder)
    (run,) = MlflowClient(folder.default_tracking_uri).search_runs(
        [stored.state["mlflow_experiment"]], f"tags.`dynloss.study_id` = '{stored.identity}'"
    )
    assert run.info.status == "FINISHED"
    if not fails:
        assert folder.report.stat().st_size > 1000
        summary: dict[str, Any] = json.loads(folder.summary.read_text())
        assert summary["trials"][keys.STATIC]["diverged"] == summary["trials"][keys.STATIC]["tried"]
    for command in ("status", "analyse"):
        done = dynloss_here(command, folder.path)
        assert done.returncode == 0, done.stderr
