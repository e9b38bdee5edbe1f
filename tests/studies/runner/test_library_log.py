"""What libraries log while a study runs is kept in its folder."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

from studies.cluster.ray_cluster import _keep_from_terminal
from studies.runner.library_log import library_log


def test_it_is_kept_and_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log.txt"
    logger = logging.getLogger("mlflow.tracking")
    before = logging.getLogger("mlflow").handlers
    with library_log(file):
        logger.warning("retrying %s", "postgresql://me:secret@host/db")
        logging.getLogger("alembic.runtime").error("a migration")
        warnings.warn("an old name", FutureWarning, stacklevel=1)
        logger.warning("%d", "no number")
    kept = file.read_text()
    for expected in ("mlflow.tracking WARNING: retrying postgresql://me:***@host/db", "a migration",
                     "FutureWarning: an old name"):  # fmt: skip
        assert expected in kept
    assert "secret" not in kept
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert logging.getLogger("mlflow").handlers is before


def test_what_ray_logs_is_kept_although_it_comes_with_a_log_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray  # noqa: F401  gives its logger a handler on the terminal

    file = tmp_path / "log.txt"
    with library_log(file):
        _keep_from_terminal(logging.getLogger("ray"))
        logging.getLogger("ray.autoscaler").warning("a node is slow")
    _keep_from_terminal(logging.getLogger("ray"))
    logging.getLogger("ray.autoscaler").warning("where nobody keeps it")
    assert "ray.autoscaler WARNING: a node is slow" in file.read_text()
    assert capsys.readouterr().err == ""


def test_what_ray_logs_while_it_starts_is_kept_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It clears its logger's handlers first."""
    logger, file = logging.getLogger("ray"), tmp_path / "log.txt"
    with library_log(file):
        _keep_from_terminal(logger)
        logger.handlers.clear()
        logging.getLogger("ray._private.worker").warning("no handler of SIGTERM")
    _keep_from_terminal(logger)
    logger.handlers.clear()
    logging.getLogger("ray._private.worker").warning("where nobody keeps it")
    assert "ray._private.worker WARNING: no handler of SIGTERM" in file.read_text()
    assert capsys.readouterr().err == ""


def test_it_is_shown_if_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with library_log(tmp_path / "log.txt", aloud=True):
        logging.getLogger("ray").error("a node is gone")
    assert capsys.readouterr().err.endswith("ray ERROR: a node is gone\n")


def test_without_a_word_there_is_no_file(tmp_path: Path) -> None:
    with library_log(tmp_path / "log.txt"):
        pass
    with library_log(tmp_path / "gone" / "log.txt"):
        logging.getLogger("ray").error("a folder that was discarded")
    assert not list(tmp_path.iterdir())
