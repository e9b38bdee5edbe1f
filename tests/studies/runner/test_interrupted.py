"""Ctrl-C after the training, while tables, figures and report are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from studies.definition.study_files import load_study
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from tests.studies.commands import dynloss_here
from tests.studies.sessions import run_without_ray


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_it_ends_in_order_and_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_without_ray(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("studies.report.study_results.draw_figures", interrupted)
        done = dynloss_here("run", tiny, "--out", tmp_path)
    assert done.returncode == 130
    assert "stopped while the results were written; everything trained is kept" in done.stderr
    assert f"continue with:  dynloss run {tiny} --resume" in done.stderr
    folder = StudyFolder.of(load_study(tiny), tmp_path)
    stored = StoredStudy.read(folder)
    client = MlflowClient(folder.default_tracking_uri)
    assert client.get_run(stored.state["mlflow_run"]).info.status == "KILLED"
    again = dynloss_here("run", tiny, "--out", tmp_path, "--resume")
    assert again.returncode == 0, again.stderr
    assert client.get_run(stored.state["mlflow_run"]).info.status == "FINISHED"
    assert folder.report.exists()
