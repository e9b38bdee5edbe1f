"""Machines that share no disk: a study in an object store is trained by those that its driver is not
on, whether it is run or sent as a job, and its numbers are those of a single machine."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest

from dynloss_core import keys
from studies.out_folder import WORK_FOLDER
from tests.machines import Machines, machines, needs_namespaces
from tests.s3_server import BUCKET, needs_s3, s3_variables, serving_s3
from tests.services import SECONDS
from tests.studies.commands import command
from tests.studies.tiny import tiny_file

pytestmark = [pytest.mark.slow, needs_s3, needs_namespaces]

HOST, PORT = "10.77.0.1", 5900


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A head and two machines for one block each. Each has its own Ray's folder and working copies,
    and so has this process."""
    work, ray = tmp_path_factory.mktemp("work"), Path(tempfile.gettempdir(), "ray")
    ray.mkdir(exist_ok=True)
    with (
        patch.dict(os.environ, {WORK_FOLDER: str(work)}),
        s3_variables(HOST, PORT),
        machines(tmp_path_factory.mktemp("machines"), [ray, work], dashboard=True) as there,
        serving_s3(HOST, PORT, there.inside),
    ):
        there.join()
        there.join()
        yield there


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_file(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def alone(study: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The networks of the study, trained on this machine."""
    out = tmp_path_factory.mktemp("alone")
    said(command("run", study, "--out", out, "--backend", "inline"))
    return networks(out / "tiny")


def test_a_study_is_run_from_a_machine_of_the_cluster(
    cluster: Machines, study: Path, alone: pd.DataFrame, tmp_path: Path
) -> None:
    out = f"{BUCKET}/run"
    words = command("run", study, "--out", out, "--address", cluster.address)
    said(cluster.on(cluster.head, words), cluster)
    check_from_elsewhere(cluster, out, alone, tmp_path)


def test_a_study_is_sent_as_a_job(
    cluster: Machines, study: Path, alone: pd.DataFrame, tmp_path: Path
) -> None:
    out = f"{BUCKET}/sent"
    words = command("submit", study, "--out", out, "--address", cluster.dashboard)
    assert "fresh seeds" in said(cluster.inside(words), cluster), "the job's own words"
    check_from_elsewhere(cluster, out, alone, tmp_path)


def check_from_elsewhere(cluster: Machines, out: str, alone: pd.DataFrame, folder: Path) -> None:
    """A computer that is no machine of the cluster reads in the store what was found."""
    assert "100%" in said(cluster.inside(command("status", "tiny", "--out", out)), cluster)
    said(cluster.inside(command("analyse", "tiny", "--out", out, "--into", folder)), cluster)
    pd.testing.assert_frame_equal(networks(folder), alone)


def networks(folder: Path) -> pd.DataFrame:
    """What was trained and how well it does, whenever and wherever it was."""
    members = pd.read_parquet(folder / "tables" / "members.parquet")
    order = [keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]
    numbers = [*order, keys.PERIOD, keys.AMPLITUDE, keys.LEARNING_RATE, keys.VALIDATION_ACCURACY]
    return members.sort_values(order, ignore_index=True)[[*numbers, keys.TRAIN_LOSS]]


def said(words: list[str], cluster: Machines | None = None) -> str:
    """What a command printed that had to succeed."""
    known = {} if cluster is None else cluster.environment
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, **known},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
