"""The files of `studies/deploy/`, as far as they can be tried without a cloud: Ray's own reading of its
cluster file, the shape of the Kubernetes manifest, and the very command of the MLflow server."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

import studies
from studies.cli.commands import app
from studies.storage.tracking.run_writers import DatabaseWriter, RunRows, writer_for
from tests.services import SECONDS, free_port, wait_for
from tests.studies.commands import dynloss
from tests.studies.mlflow_runs import TRAIN_LOSS, runs_in, trial_of
from tests.typed_commands import parsed

DEPLOY = Path(studies.__file__).parent / "deploy"
PASSWORD = "pass:word@/"
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))

needs_postgresql = pytest.mark.skipif(
    not PROGRAMS or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs Debian's postgresql, and root to become its user",
)


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_ray_reads_its_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents("ray-cluster.yaml")
    prepared = prepare_config(config)
    validate_config(prepared)
    for kind in ("head", "worker"):
        command = config[f"{kind}_start_ray_commands"][-1]
        assert "RAY_AUTH_MODE=token" in command
        ray_reads(command)
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def ray_reads(command: str) -> None:
    """Whether `ray start` knows the options of a command."""
    from ray.scripts.scripts import start

    words = shlex.split(command)
    start.make_context("start", words[words.index("start") + 1 :])


def test_the_kubernetes_manifest() -> None:
    claim, cluster = documents("kuberay.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    fits_image_and_claim(cluster["spec"], claim)


def fits_image_and_claim(cluster: dict[str, Any], claim: dict[str, Any]) -> None:
    """Whether a Ray cluster asks for a token, has Ray's version and shares the results."""
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        shared = volumes[mounts["/shared"]]["persistentVolumeClaim"]["claimName"]
        assert shared == claim["metadata"]["name"], "every pod sees the results"
        assert set(mounts.values()) <= set(volumes)
        limits = container["resources"]["limits"]
        assert limits == container["resources"]["requests"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    pinned = (Path(studies.__file__).parents[1] / ".ci" / "constraints.txt").read_text()
    image = re.search(r"FROM rayproject/ray:([\d.]+)-py311", (DEPLOY / "Dockerfile").read_text())
    assert image is not None
    assert f"ray=={cluster['rayVersion']}\n" in pinned
    assert image[1] == cluster["rayVersion"]


def test_a_study_as_a_job_on_kubernetes() -> None:
    claim, job = documents("rayjob.yaml")
    assert claim == documents("kuberay.yaml")[0], "results are in one place, whichever is used"
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    fits_image_and_claim(cluster, claim)
    typed = parsed(spec["entrypoint"])
    assert typed["resume"], "the job is tried again, and goes on"
    assert spec["backoffLimit"] > 0
    head = cluster["headGroupSpec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]}
    assert {Path("/", Path(typed[name]).parts[1]) for name in ("study", "out")} <= {
        *map(Path, mounts)
    }
    (study,) = (volume["configMap"] for volume in head["volumes"] if "configMap" in volume)
    readme = (DEPLOY / "README.md").read_text()
    made = f"kubectl create configmap {study['name']} --from-file={Path(typed['study']).name}"
    assert made in readme
    assert f"kubectl get rayjob {job['metadata']['name']}\n" in readme


def test_a_job_that_kueue_admits() -> None:
    """What its webhook asks of a RayJob, and a quota that such a job fits."""
    _, job = documents("rayjob.yaml")
    flavor, cluster_queue, queue = documents("kueue.yaml")
    assert {each["apiVersion"] for each in (flavor, cluster_queue, queue)} == {
        "kueue.x-k8s.io/v1beta2"
    }
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"]
    assert queue["spec"]["clusterQueue"] == cluster_queue["metadata"]["name"]
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"]
    assert "suspend" not in spec, "Kueue sets it; without Kueue the job would wait for ever"
    cluster = spec["rayClusterSpec"]
    assert not cluster.get("enableInTreeAutoscaling", False)
    (group,) = cluster_queue["spec"]["resourceGroups"]
    (offered,) = group["flavors"]
    assert offered["name"] == flavor["metadata"]["name"]
    quota = {each["name"]: each["nominalQuota"] for each in offered["resources"]}
    assert list(quota) == group["coveredResources"]
    needed = dict.fromkeys(quota, 0.0)
    needed["cpu"] += 0.5  # of the pod that submits the job, as KubeRay makes it
    needed["memory"] += 1.0
    workers = cluster["workerGroupSpecs"]
    for pods, number in [
        (cluster["headGroupSpec"], 1),
        *((each, each["replicas"]) for each in workers),
    ]:
        (container,) = pods["template"]["spec"]["containers"]
        for name, amount in container["resources"]["requests"].items():
            needed[name] += number * float(amount.removesuffix("Gi"))
    assert all(needed[name] <= float(quota[name].removesuffix("Gi")) for name in quota)


def test_the_compose_file_opens_nothing_and_names_no_secret() -> None:
    (compose,) = documents("compose.yaml")
    database, server = compose["services"]["postgres"], compose["services"]["mlflow"]
    assert "ports" not in database
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    secrets = [database["environment"]["POSTGRES_PASSWORD"], server["environment"]["PGPASSWORD"]]
    assert all(secret.startswith("${MLFLOW_DB_PASSWORD:?") for secret in secrets)
    known = set(compose["volumes"])
    for service in (database, server):
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= known


def test_what_the_readme_types_exists() -> None:
    typed = re.findall(r"^dynloss (\w+)", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert typed
    assert set(typed) <= known


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A PostgreSQL server on loopback, with a user and a database `mlflow`; its port."""
    owner = pwd.getpwnam("postgres")
    folder = Path("/var/tmp") / f"dynloss-postgres-{os.getpid()}"
    folder.mkdir()
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    become = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    programs, port = PROGRAMS[-1], free_port()
    password = folder / "password"
    password.write_text(PASSWORD)
    os.chown(password, owner.pw_uid, owner.pw_gid)
    made = [
        programs / "initdb",
        "--pgdata",
        folder / "data",
        "--username=mlflow",
        "--auth=scram-sha-256",
    ]
    made += [f"--pwfile={password}"]
    subprocess.run([*become, *map(str, made)], check=True, capture_output=True, cwd=folder)
    served = [
        programs / "postgres",
        "-D",
        folder / "data",
        "-p",
        port,
        "-k",
        folder,
        "-h",
        "127.0.0.1",
    ]
    server = subprocess.Popen(
        [*become, *map(str, served)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        time.sleep(1)
        created = [programs / "createdb", "-h", "127.0.0.1", "-p", port, "-U", "mlflow", "mlflow"]
        subprocess.run(
            list(map(str, created)), check=True, env={**os.environ, "PGPASSWORD": PASSWORD}
        )
        yield port
    finally:
        server.send_signal(signal.SIGINT)  # at once, whoever is connected
        server.wait(timeout=30)
        shutil.rmtree(folder)


@pytest.mark.slow
@needs_postgresql
def test_the_servers_command_serves_a_study(database: int, tiny: Path, tmp_path: Path) -> None:
    (compose,) = documents("compose.yaml")
    port = free_port()
    words = [
        word.replace("0.0.0.0", "127.0.0.1")
        .replace("--port=5000", f"--port={port}")
        .replace("postgres:5432", f"127.0.0.1:{database}")
        .replace("/artifacts", str(tmp_path / "artifacts"))
        for word in compose["services"]["mlflow"]["command"]
    ]
    assert words[0] == "mlflow"
    server = subprocess.Popen(
        [sys.executable, "-m", *words, "--workers=1"],
        env={**os.environ, "PGPASSWORD": PASSWORD},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        uri = f"http://127.0.0.1:{port}"
        done = dynloss("run", tiny, "--out", tmp_path, "--set", f"storage.tracking_uri={uri}")
        assert done.returncode == 0, done.stderr
        assert runs(uri) == 1 + 12 + 3
        assert list((tmp_path / "artifacts").rglob("report.html"))
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=SECONDS)


@pytest.mark.slow
@needs_postgresql
def test_a_database_without_a_server_between(
    database: int, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its password comes by the environment, and is written nowhere."""
    monkeypatch.chdir(tmp_path)
    secret = "pass%3Aword%40%2F"
    uri = f"postgresql+psycopg://mlflow:{secret}@127.0.0.1:{database}/mlflow"
    done = dynloss("run", tiny, "--out", tmp_path, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    assert runs(uri) == 1 + 12 + 3
    client = MlflowClient(uri)
    assert isinstance(writer_for(client, uri), DatabaseWriter), "no client between either"
    of_trial = [run for run in runs_in(client) if trial_of(run).startswith("search/")]
    assert {run.info.status for run in of_trial} == {"FINISHED"}
    for run in of_trial:
        losses = client.get_metric_history(run.info.run_id, TRAIN_LOSS)
        assert [each.step for each in losses] == [0, 20, 40, 60]
        assert run.data.metrics[TRAIN_LOSS] == losses[-1].value
        writer_for(client, uri).write([RunRows(run.info.run_id, [*losses, losses[0]])])
        held = client.get_metric_history(run.info.run_id, TRAIN_LOSS)
        assert held == losses, "delivered twice, there once"
    again = dynloss("run", tiny, "--resume", "--out", tmp_path, MLFLOW_TRACKING_URI=uri)
    assert again.returncode == 0, again.stderr
    assert runs(uri) == 1 + 12 + 3
    assert not (tmp_path / "mlruns").exists(), "artifacts lie in the output folder"
    assert list((tmp_path / "artifacts").rglob("report.html"))
    wrong = dynloss(
        "run", tiny, "--out", tmp_path / "b", MLFLOW_TRACKING_URI=uri.replace("word", "w")
    )
    assert wrong.returncode == 2
    printed = done.stdout + done.stderr + again.stdout + again.stderr + wrong.stderr
    for text in (PASSWORD, secret, "pass%3Aw%40"):
        assert text not in printed
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or text.encode() not in path.read_bytes(), path


def runs(uri: str) -> int:
    return len(runs_in(MlflowClient(uri)))
