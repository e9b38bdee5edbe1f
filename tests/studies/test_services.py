"""A Ray cluster that is already there, and an MLflow server: both real, both on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from dynloss_core import keys
from studies.storage.study_folder import StudyFolder
from tests.core.data.image_files import needs_fashion_mnist
from tests.services import SECONDS, free_port, ray_head, started_mlflow, wait_for, wait_until
from tests.studies.commands import command, dynloss
from tests.studies.definition.image_study import run_where_only_the_data_dir_is_sound
from tests.studies.mlflow_runs import runs_in
from tests.studies.tables import table

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An MLflow server on loopback."""
    with started_mlflow(tmp_path) as address:
        yield address


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Ray head."""
    with ray_head("--include-dashboard=false") as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def dashboard() -> Iterator[str]:
    """The address of a Ray head's dashboard, which takes jobs."""
    port = free_port()
    options = ("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}")
    with ray_head(*options):
        wait_for(port)
        yield f"http://127.0.0.1:{port}"


def test_an_mlflow_server_holds_the_study(server: str, tiny: Path, tmp_path: Path) -> None:
    done = dynloss("run", tiny, "--out", tmp_path, "--set", f"storage.tracking_uri={server}")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "mlflow.db").exists()
    assert "View run" not in done.stdout, "MLflow's own lines would drown the study's"
    client = MlflowClient(server)
    runs = runs_in(client)
    assert len(runs) == 1 + 12 + 3
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert parent.info.status == "FINISHED"
    files = {file.path for file in client.list_artifacts(parent.info.run_id, "figures")}
    assert "figures/verdict.png" in files
    shown = dynloss("ui", tiny, "--out", tmp_path)
    assert server in shown.stdout
    assert f"{server}/#/experiments/{parent.info.experiment_id}/runs?workflowType" in shown.stdout


def test_the_ui_lands_on_the_study(tiny: Path, tmp_path: Path) -> None:
    done = dynloss("run", tiny, "--out", tmp_path, "--backend", "inline", "--quiet")
    assert done.returncode == 0, done.stderr
    port, said = free_port(), tmp_path / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen(
            command("ui", tiny, "--out", tmp_path, "--port", port), stdout=file, stderr=file
        )
    try:
        hint = f"reports link to port 5000: enter {port} above their trials"
        wait_until(lambda: hint in said.read_text(), process)
        state = StudyFolder(tmp_path / "tiny").state()
        page = f"http://127.0.0.1:{port}/#/experiments/{state['mlflow_experiment']}/runs"
        assert said.read_text().startswith("starting MLflow")
        assert f"{page}?workflowType=machine_learning&viewStateShareKey=" in said.read_text()
        assert f"{page}/{state['mlflow_run']}?workflowType=machine_learning" in said.read_text()
        told = requests.get(
            f"http://127.0.0.1:{port}/ajax-api/3.0/mlflow/ui-telemetry", timeout=SECONDS
        )
        assert told.json()["disable_ui_telemetry"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=SECONDS)


def test_a_running_cluster_trains_the_study(cluster: str, tiny: Path, tmp_path: Path) -> None:
    done = dynloss("run", tiny, "--out", tmp_path, "--address", cluster)
    assert done.returncode == 0, done.stderr
    assert len(table(tmp_path)) == 33
    assert not table(tmp_path)[keys.DIVERGED].any()
    refused = dynloss(
        "run", tiny, "--out", tmp_path / "b", "--address", cluster, "--set", "resources.gpu=1"
    )
    assert refused.returncode == 2
    assert "the largest machine has 0" in refused.stderr
    assert not (tmp_path / "b").exists()


@pytest.fixture
def rays_client() -> Iterator[str]:
    """The address of a Ray head for Ray's client."""
    port = free_port()
    with ray_head("--include-dashboard=false", f"--ray-client-server-port={port}"):
        wait_for(port)
        yield f"ray://127.0.0.1:{port}"


def test_a_study_is_driven_through_rays_client(
    rays_client: str, tiny: Path, tmp_path: Path
) -> None:
    """Shown here, run there, with the exit codes of there."""
    there = ("--address", rays_client, "--out", tmp_path)
    done = dynloss("run", tiny, *there)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fresh seeds of these two winners, paired" in done.stdout
    assert len(table(tmp_path)) == 33
    again = dynloss("run", tiny, *there)
    assert again.returncode == 2
    assert "holds this study already; add --resume" in again.stdout
    more = dynloss("confirm", tiny, "--seeds", "3", *there)
    assert more.returncode == 0, more.stdout + more.stderr
    assert len(table(tmp_path)) == 42


@pytest.mark.parametrize(
    ("ending", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_study_on_rays_client_ends_with_this_side(
    ending: signal.Signals, code: int, rays_client: str, tiny: Path, tmp_path: Path
) -> None:
    """Ctrl-C reaches it, and so does the end of this side: it stops, and goes on where it was. Ray
    waits half a minute for a lost client to come back unless told otherwise: here a second, so that
    the study is not done before."""
    folder = StudyFolder(tmp_path / "tiny")
    long = ("--set", "budget.total=600000", "--set", "budget.evaluate_every=2000")
    run = ("run", tiny, "--address", rays_client, "--out", tmp_path, *long, "--resume")
    here = subprocess.Popen(
        command(*run),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "1"},
    )
    wait_until(folder.progress.exists)
    here.send_signal(ending)
    said, _ = here.communicate(timeout=SECONDS)
    assert here.returncode == code, said
    go_on = f"from here:   dynloss run {tiny} --resume --set budget.total=600000"
    assert (go_on in said) == (ending == signal.SIGINT), said
    wait_until(lambda: not folder.is_locked())
    assert not folder.summary.exists()
    done = dynloss(*run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(folder.parts.gather("members")) == 33


@needs_fashion_mnist
def test_the_data_folder_reaches_the_workers_of_a_running_cluster(
    cluster: str, tmp_path: Path
) -> None:
    run_where_only_the_data_dir_is_sound(tmp_path, "--address", cluster)


def test_a_study_is_sent_as_a_job(dashboard: str, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "shared"
    send = ("submit", tiny, "--address", dashboard, "--out", out, "--set", "confirm_seeds=4")
    done = dynloss(*send)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fresh seeds of these two winners, paired" in done.stdout, "the job's own words"
    summary = (out / "tiny" / "summary.json").read_text()
    assert '"n": 4' in summary
    again = dynloss(*send)
    assert again.returncode == 0, "sent again, it goes on, and has nothing left to do"
    assert (out / "tiny" / "summary.json").exists()
    for uri in ("sqlite:///x.db", "postgresql://me:secret@127.0.0.1/x"):
        shown = dynloss(*send, "--no-follow", MLFLOW_TRACKING_URI=uri)
        assert (shown.returncode == 2) == ("secret" in uri)
        assert "secret" not in shown.stdout + shown.stderr


_SUBMITTED_IN_A_HURRY = """
import sys
from dynloss_core.config import ConfigError
from studies.cluster import job_submission
from studies.definition.study_files import load_study

job_submission._SECONDS_FOR_AN_AGENT = 5.0
try:
    job_submission.submit(load_study(sys.argv[1]), *sys.argv[2:])
except ConfigError as error:
    print(error)
"""


def test_a_head_whose_agent_lost_its_port_is_told(tiny: Path, tmp_path: Path) -> None:
    """Ray's head goes on without its agent, and takes no job: as after another Ray on its machine.
    In a process of its own: Ray keeps what it has once read of its token."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        options = (
            "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}",
            f"--dashboard-agent-listen-port={other.getsockname()[1]}",
        )  # fmt: skip
        with ray_head(*options):
            wait_for(port)
            words = [str(tiny), f"http://127.0.0.1:{port}", str(tmp_path / "out")]
            done = subprocess.run(
                [sys.executable, "-c", _SUBMITTED_IN_A_HURRY, *words],
                capture_output=True, text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
    assert "--dashboard-agent-listen-port=0" in done.stdout, done.stdout + done.stderr


def test_a_token_is_asked_for(tiny: Path, tmp_path: Path) -> None:
    """Without it, or with another, everything is refused in a line; with it, all is as ever."""
    token = tmp_path / "token"
    token.write_text("8f2d" * 16)
    port = free_port()
    options = ("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}")
    known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    with ray_head(*options, **known) as head:
        wait_for(port)
        send = ("submit", tiny, "--address", f"http://127.0.0.1:{port}", "--out", tmp_path / "sent")
        run = ("run", tiny, "--address", f"127.0.0.1:{head}", "--out", tmp_path / "run")
        other = {**known, "RAY_AUTH_TOKEN": "0a1b" * 16}
        for variables in ({"RAY_AUTH_MODE": "disabled"}, other):
            refused = dynloss(*send, **variables)
            assert refused.returncode == 2, refused.stderr
            assert "Traceback" not in refused.stderr
            assert "token" in refused.stderr
            refused = dynloss(*run, **variables)
            assert refused.returncode == 2, refused.stderr
            (line,) = refused.stderr.splitlines()
            assert "asks for a token, and " in line
        assert not (tmp_path / "sent").exists()
        assert not (tmp_path / "run").exists()
        done = dynloss(*run, **known)
        assert done.returncode == 0, done.stderr
        assert len(table(tmp_path / "run")) == 33
