"""Passwords stay where they are: in no message, no folder, no job, and in no image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import get_uri_for_directory

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


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the suite's packages, from which jobs are sent."""
    code = tmp_path / "code"
    for package in PACKAGES:
        leave = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / package, code / package, ignore=leave)
    here = str(code / "studies" / "cluster" / "job_submission.py")
    monkeypatch.setattr(studies.cluster.job_submission, "__file__", here)
    return code


def test_the_password_of_the_database_goes_nowhere(file: Path, code: Path) -> None:
    """It is in `studies/deploy/.env`, as its README says."""
    (code / "studies" / "deploy" / ".env").write_text("MLFLOW_DB_PASSWORD=secret")
    with shipped(load_study(file)) as folder:
        assert not list(folder.rglob(".*"))
    left_out = (ROOT / "studies" / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"**/.env", ".git", ".venv"} <= set(left_out)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_only_the_suites_own_files_are_sent(file: Path, code: Path, tmp_path: Path) -> None:
    """Not what a user keeps beside them, nor what a link leads to."""
    modules = {path.relative_to(code) for path in code.rglob("*.py")}
    modules -= {path for path in modules if path.match("studies/library/templates/*.py")}
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "__init__.py").touch()
    (outside / "theirs.py").write_text("secret")
    (code / "dynloss_core" / "linked").symlink_to(outside)
    (code / "dynloss_core" / "linked.py").symlink_to(outside / "theirs.py")
    for name in ("secret.pem", "mlflow.db", "library/mine.yaml", "mine/notes.py", "cli/.py", "x"):
        path = code / "studies" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("secret")
    plugin = tmp_path / "nets.py"
    plugin.write_text(
        "LOSSES = {}\nfrom dynloss_core.losses import LOSSES as known\nLOSSES['mine'] = known['focal']\n"
    )
    with shipped(load_study(file, plugins=[plugin])) as folder:
        sent = {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()}
        assert not any("secret" in (folder / path).read_text() for path in sent - modules)
    names = ("report.css", "report.html.j2", "report.js", "explore.js")
    page = {Path("studies/report/page") / name for name in names}
    assert sent == {*modules, *page, *map(Path, ("study.yaml", "plugins/nets.py", "sent_as"))}


@pytest.mark.slow
def test_a_study_runs_from_what_is_sent(file: Path, tmp_path: Path) -> None:
    with shipped(load_study(file, ["backend=inline", "storage={tracker: none}"])) as folder:
        words = [
            sys.executable,
            "-m",
            "studies",
            "run",
            "study.yaml",
            "--out",
            str(tmp_path / "out"),
        ]
        done = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "tiny" / "report.html").exists()


def test_no_two_that_are_sent_are_one_to_ray(file: Path) -> None:
    """Ray deletes what one job sent when that ends, and so under another that sent the same."""
    with shipped(load_study(file)) as one, shipped(load_study(file)) as other:
        names = [get_uri_for_directory(str(each), include_gitignore=True) for each in (one, other)]
    assert names[0] != names[1]


def test_a_suite_that_is_installed_as_links_is_not_sent(file: Path, code: Path) -> None:
    module = code / "studies" / "__main__.py"
    module.rename(code / "moved.py")
    module.symlink_to(code / "moved.py")
    with pytest.raises(ConfigError, match="holds links"), shipped(load_study(file)):
        pass


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
