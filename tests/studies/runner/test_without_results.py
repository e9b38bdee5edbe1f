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


KINDS = {
    "optimize": [DIVERGES],
    "loss": [DIVERGES, "objective=validation_loss", "equivalence_margin=0.1"],
    "grid": [DIVERGES, *MAP],
    "sobol": [DIVERGES, *MAP[:2], "sampler=sobol", "trials_per_arm=4"],
    "stops": [DIVERGES, STOPS],
    "records": [DIVERGES, RECORDS],
    "one-seed": [DIVERGES, "seeds_per_point=1"],
    "arm": [DIVERGES, "arms=[static]"],
    "static": [STATIC_DIVERGES],
    "given": [DIVERGES, *GIVEN],
}
FAST = {("optimize", False)}


def ends() -> list[ParameterSet]:
    """Every kind of study, where its networks diverge and where its blocks fail."""
    return [
        pytest.param(
            overrides,
            fails,
            id=f"{kind}-{'failed' if fails else 'diverged'}",
            marks=[] if (kind, fails) in FAST else [pytest.mark.slow],
        )
        for kind, overrides in KINDS.items()
        for fails in (False, True)
    ]


@pytest.mark.parametrize(("overrides", "fails"), ends())
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
