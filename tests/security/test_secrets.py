"""Passwords stay where they are: in no message, no folder, no job, and in no image."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import studies.cluster.job_submission
from dynloss_core.config import ConfigError
from studies.cluster.job_submission import PACKAGES, shipped, variables
from studies.definition.redaction import hide_password
from studies.definition.study_files import load_study
from studies.storage.tracking.mlflow_ui import serve
from tests.services import free_port
from tests.studies.sessions import begun_folder
from tests.studies.tiny import tiny_file

ROOT = Path(__file__).parents[2]
HELD = {  # an address with a password, and what may be shown of it
    "postgresql://mlflow:secret@db/mlflow": "postgresql://mlflow:***@db/mlflow",
    "postgresql+psycopg://mlflow:sec/ret@db/mlflow": "postgresql+psycopg://mlflow:***@db/mlflow",
    "postgresql://mlflow:sec:re/t@db:5432/mlflow": "postgresql://mlflow:***@db:5432/mlflow",
    "http://me:sec@ret@server": "http://me:***@server",
    "http://me@corp:secret@server": "http://me@corp:***@server",
    "http://:secret@server": "http://:***@server",
    "postgresql://db/mlflow?user=me&password=secret": (
        "postgresql://db/mlflow?user=me&password=***"
    ),
    "postgresql://db/mlflow?sslpassword=secret": "postgresql://db/mlflow?sslpassword=***",
    "mysql://db/mlflow?passwd=secret&ssl=1": "mysql://db/mlflow?passwd=***&ssl=1",
}
PLAIN = [
    "sqlite:////tmp/mlflow.db",
    "http://127.0.0.1:5000",
    "http://server:5000/at/me",
    "postgresql://mlflow@db:5432/mlflow",
    "postgresql://db/mlflow?sslmode=require",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tiny_file(tmp_path)


@pytest.mark.parametrize("uri", HELD)
def test_a_password_is_shown_nowhere(uri: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hide_password(f"no {uri} here") == f"no {HELD[uri]} here"
    with pytest.raises(ConfigError) as refusal:
        load_study(file, [f"storage.tracking_uri={uri}"])
    assert "sec" not in str(refusal.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match="which the dashboard would show") as refusal:
        variables()
    assert "sec" not in str(refusal.value)


@pytest.mark.parametrize("uri", PLAIN)
def test_what_holds_no_password_is_left_as_it_is(uri: str, file: Path) -> None:
    assert hide_password(uri) == uri
    assert load_study(file, [f"storage.tracking_uri={uri}"]).storage.tracking_uri == uri


def test_a_store_that_refuses_its_password_does_not_say_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studies.storage.tracking.mlflow_tracker import MLflowTracker

    uri = "postgresql+psycopg://mlflow:sec/ret@127.0.0.1:9/mlflow"
    with pytest.raises(ConfigError, match=r"mlflow:\*\*\*@127\.0\.0\.1:9") as refusal:
        MLflowTracker(load_study(file), "id", uri, tmp_path)
    assert "sec" not in str(refusal.value)


def test_the_password_of_the_database_goes_nowhere(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in `studies/deploy/.env`, as its README says."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "code" / package)
    (tmp_path / "code" / "studies" / "deploy" / ".env").write_text("MLFLOW_DB_PASSWORD=secret")
    here = str(tmp_path / "code" / "studies" / "cluster" / "job_submission.py")
    monkeypatch.setattr(studies.cluster.job_submission, "__file__", here)
    with shipped(load_study(file)) as folder:
        assert (folder / "studies" / "deploy" / "compose.yaml").is_file()
        assert not list(folder.rglob(".*"))
    left_out = (ROOT / "studies" / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"**/.env", ".git", ".venv"} <= set(left_out)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_mlflow_gets_the_password_unseen(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user interface of a study whose store's password only the environment knows."""
    folder = begun_folder(load_study(file), tmp_path / "out")
    folder.write_state({"tracking_uri": "postgresql://mlflow:***@db/mlflow"})
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI: not set"):
        serve(folder, tmp_path / "out", free_port())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://mlflow:secret@db/mlflow")
    stands_in, seen = tmp_path / "python", tmp_path / "seen"
    stands_in.write_text(f'#!/bin/sh\necho "$MLFLOW_BACKEND_STORE_URI $*" > {seen}\n')
    stands_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stands_in))
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process keeps its own
    assert serve(folder, tmp_path / "out", free_port()) == 0
    store, words = seen.read_text().split(" ", 1)
    assert store == "postgresql://mlflow:secret@db/mlflow"
    assert "secret" not in words
