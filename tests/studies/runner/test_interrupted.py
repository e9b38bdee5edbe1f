"""Ctrl-C after the training, while tables, figures and report are written."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from studies.definition.study_files import load_study
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from tests.studies.commands import dynloss_here
from tests.studies.sessions import run_without_ray


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def spoiled(*_: object) -> None:
    """As a library that is interrupted where it does not expect it."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("Invalid bounding box") from None


@pytest.mark.parametrize("draws", [interrupted, spoiled])
def test_it_ends_in_order_and_goes_on(
    draws: Callable[..., None], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_without_ray(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("studies.report.study_results.draw_figures", draws)
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


def test_before_anything_is_trained_nothing_is_said_to_be_kept(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.runner.run_study.delivery_of", interrupted)
    done = dynloss_here("run", tiny, "--out", tmp_path, "--backend", "inline")
    assert done.returncode == 130
    assert "stopped before anything was trained" in done.stderr
