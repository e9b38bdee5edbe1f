"""Studies as jobs of a real Slurm: requeued before their time limit, in arrays, on two nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import studies
from studies.storage.status import study_status
from studies.storage.study_folder import StudyFolder
from tests.machines import needs_namespaces
from tests.services import wait_until
from tests.slurm_cluster import SlurmCluster, needs_slurm, slurm_cluster
from tests.studies.tiny import MAP, tiny_document

pytestmark = [pytest.mark.slurm, needs_namespaces, needs_slurm]

SCRIPT = Path(studies.__file__).parent / "deploy" / "slurm.sh"
NETWORKS = 4  # two arms with one point, on two seeds
ONE: dict[str, Any] = {
    **MAP,
    "grid": {"period": 1, "amplitude": 1, "learning_rate": 1},
    "block_size": 1,
    "storage": {"tracker": "none"},
}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def long_study(folder: Path, name: str, steps: int = 60_000_000) -> str:
    """The file of a study whose blocks can be stopped while they train: half a minute each, say."""
    budget = {"total": steps, "static_tail": 0, "evaluate_every": steps // 300}
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(tiny_document(name=name, budget=budget, **ONE)))
    return file.name


def networks(folder: Path, name: str) -> int:
    """How many networks a study has trained to the end."""
    stored = StudyFolder(folder / "results" / name)
    return len(pd.read_parquet(stored.tables / "members.parquet"))


def wait_until_trained(folder: Path, name: str) -> None:
    """Until the blocks of both arms have been trained for a while."""
    checkpoints = folder / "results" / name / "checkpoints"
    wait_until(lambda: len(list(checkpoints.glob("*.pt"))) == 2, every=0.5)


def log(folder: Path, job: str) -> str:
    return (folder / f"dynloss-{job}.log").read_text()


def test_a_job_is_requeued_before_its_time_limit_and_not_once_cancelled(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    """The limit is real; Slurm looks at it every half a minute. The study is far longer."""
    study = long_study(tmp_path, "limited", steps=4_000_000_000)
    limit = ("--time=2", "--signal=B:TERM@30")
    job = slurm.submit(tmp_path, SCRIPT, study, options=limit)
    slurm.wait_for(job, "RUNNING", restarts=1)
    said = log(tmp_path, job)
    assert "stopped; everything so far is kept" in said
    assert "slurm.sh: requeued, to continue" in said
    assert len(list((tmp_path / "results" / "limited" / "checkpoints").glob("*.pt"))) == 2
    slurm.command("scancel", job)
    slurm.wait_for(job, "CANCELLED", restarts=1)
    assert log(tmp_path, job).count("requeued") == 1, "who cancels a job wants no more of it"


def test_an_array_has_a_study_per_task_and_requeues_one_alone(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    """Of the two tasks, the one that has the array's own number is signalled."""
    files = [long_study(tmp_path, name) for name in ("left", "right")]
    array = slurm.submit(tmp_path, SCRIPT, *files, options=("--array=0-1",))
    for name in ("left", "right"):
        wait_until_trained(tmp_path, name)
    jobs = {task: slurm.told(f"{array}_{task}")["JobId"] for task in (0, 1)}
    (task,) = (task for task, job in jobs.items() if job == array)
    slurm.signal_script(f"{array}_{task}")
    for other, name in enumerate(("left", "right")):
        restarts = 1 if other == task else 0
        told = slurm.wait_for(f"{array}_{other}", "COMPLETED", restarts)
        assert told["ExitCode"] == "0:0"
        assert networks(tmp_path, name) == NETWORKS
    assert "stopped; everything so far is kept" in log(tmp_path, array)


def test_two_nodes_train_a_study_which_goes_on_on_both(slurm: SlurmCluster, tmp_path: Path) -> None:
    study = long_study(tmp_path, "both", steps=120_000_000)
    job = slurm.submit(tmp_path, SCRIPT, study, options=("--nodes=2",))
    wait_until_trained(tmp_path, "both")
    in_training = study_status(StudyFolder(tmp_path / "results" / "both")).blocks.values()
    assert {block["node"] for block in in_training} == {"n1", "n2"}
    slurm.signal_script(job)
    assert slurm.wait_for(job, "COMPLETED", restarts=1)["ExitCode"] == "0:0"
    said = log(tmp_path, job)
    assert "stopped; everything so far is kept" in said
    assert "slurm.sh: requeued, to continue" in said
    assert networks(tmp_path, "both") == NETWORKS


def test_what_fails_is_not_requeued(slurm: SlurmCluster, tmp_path: Path) -> None:
    """A study that there is not, on one node and on two, and a task that has no study."""
    alone = slurm.submit(tmp_path, SCRIPT, "nowhere.yaml")
    assert slurm.wait_for(alone, "FAILED")["ExitCode"] == "2:0"
    assert "nowhere.yaml" in log(tmp_path, alone)
    both = slurm.submit(tmp_path, SCRIPT, "nowhere.yaml", options=("--nodes=2",))
    assert slurm.wait_for(both, "FAILED")["ExitCode"] == "2:0"
    array = slurm.submit(tmp_path, SCRIPT, "nowhere.yaml", options=("--array=1",))
    told = slurm.wait_for(f"{array}_1", "FAILED")
    assert told["ExitCode"] == "2:0"
    assert "slurm.sh: no study for task 1" in log(tmp_path, told["JobId"])
