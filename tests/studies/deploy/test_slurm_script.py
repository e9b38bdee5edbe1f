"""The script for Slurm, where there is none: its commands are stand-ins that write down their words."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

import studies
from tests.services import SECONDS, wait_until
from tests.typed_commands import parsed

FOLDER = Path(studies.__file__).parent / "deploy"
SCRIPT = FOLDER / "slurm.sh"
ALONE = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"}
# the last task of an array has the number of the whole array
IN_ARRAY = {**ALONE, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
STAND_INS = {
    "dynloss": 'echo "dynloss $*" >> words; [ -e code ] && exit $(cat code); '
    'trap "exit 130" TERM; touch trains; while true; do sleep 0.05; done',
    "squeue": 'echo "squeue $*" >> words; cat running',
    "scontrol": 'echo "scontrol $*" >> words',
    "hostname": 'echo "10.0.0.5 192.0.2.5 "',
    "srun": 'echo "srun $*" >> words; echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN" > token; '
    'until [ "$1" = -- ]; do shift; done; shift; [ -e no-ray ] || "$@"; exit $(cat of-srun)',
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The folder of a job that is running, and in which `code` would end the driver at once."""
    (tmp_path / "bin").mkdir()
    for name, text in STAND_INS.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/usr/bin/env bash\n{text}\n")
        program.chmod(0o755)
    (tmp_path / "running").write_text("7\n")
    (tmp_path / "of-srun").write_text("0\n")
    return tmp_path


def begun(job: Path, variables: dict[str, str], *given: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(job / "bin"), os.environ["PATH"]])
    known = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    return subprocess.Popen(
        ["bash", str(SCRIPT), *given],
        cwd=job,
        env={**known, "PATH": path, **variables},
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=SECONDS)
    return process.returncode, said


def stopped(job: Path, variables: dict[str, str], *given: str) -> tuple[int, str]:
    """What comes of a job that is sent SIGTERM while it trains."""
    process = begun(job, variables, *given)
    wait_until((job / "trains").exists, process, every=0.02)
    process.send_signal(signal.SIGTERM)
    return ended(process)


def words(job: Path) -> list[str]:
    return (job / "words").read_text().splitlines()


@pytest.mark.parametrize("code", [0, 1, 2])
@pytest.mark.parametrize("nodes", ["1", "3"])
def test_its_exit_code_is_that_of_the_study(job: Path, nodes: str, code: int) -> None:
    """Also where `ray symmetric-run` ends with another."""
    (job / "code").write_text(str(code))
    (job / "of-srun").write_text("1")
    process = begun(job, {**ALONE, "SLURM_JOB_NUM_NODES": nodes}, "my.yaml")
    assert ended(process)[0] == code
    assert words(job)[-1].startswith("dynloss run my.yaml --resume --out results")
    assert not any(line.startswith("scontrol") for line in words(job))


@pytest.mark.parametrize("nodes", ["1", "3"])
def test_before_its_limit_it_is_requeued(job: Path, nodes: str) -> None:
    code, said = stopped(job, {**ALONE, "SLURM_JOB_NUM_NODES": nodes}, "my.yaml")
    assert (code, said) == (130, "slurm.sh: requeued, to continue\n")
    assert words(job)[-1] == "scontrol requeue 7"


def test_of_an_array_the_task_is_requeued(job: Path) -> None:
    code, _ = stopped(job, IN_ARRAY, "a.yaml", "b.yaml")
    assert code == 130
    asked = "squeue --noheader --jobs 7_1 --states RUNNING"
    assert words(job)[-2:] == [asked, "scontrol requeue 7_1"]
    assert words(job)[0].startswith("dynloss run b.yaml ")


def test_what_is_cancelled_is_not_requeued(job: Path) -> None:
    (job / "running").write_text("")
    assert stopped(job, ALONE, "my.yaml") == (130, "slurm.sh: cancelled\n")
    assert words(job)[-1].startswith("squeue")


def test_it_is_not_requeued_for_ever(job: Path) -> None:
    code, said = stopped(job, {**ALONE, "SLURM_RESTART_COUNT": "100"}, "my.yaml")
    assert code == 130
    assert "submit it again" in said
    assert words(job)[-1].startswith("squeue")


def test_a_study_that_ends_when_it_is_to_stop_is_not_requeued(job: Path) -> None:
    program = job / "bin" / "dynloss"
    program.write_text(program.read_text().replace("exit 130", "exit 0"))
    assert stopped(job, ALONE, "my.yaml") == (0, "")
    assert len(words(job)) == 1


def test_ray_that_does_not_start_is_a_failure(job: Path) -> None:
    (job / "no-ray").touch()
    code, said = ended(begun(job, {**ALONE, "SLURM_JOB_NUM_NODES": "3"}, "my.yaml"))
    assert code == 1
    assert "Ray did not start" in said


@pytest.mark.parametrize(
    ("variables", "given", "part"),
    [
        (ALONE, (), "give one study"),
        (ALONE, ("a.yaml", "b.yaml"), "--array"),
        (IN_ARRAY, ("a.yaml",), "no study for task 1: 1 are given"),
    ],
)
def test_a_task_needs_its_study(
    job: Path, variables: dict[str, str], given: tuple[str, ...], part: str
) -> None:
    code, said = ended(begun(job, variables, *given))
    assert code == 2
    assert part in said
    assert not (job / "words").exists()


def test_several_nodes_start_ray_and_show_a_token(job: Path) -> None:
    from ray.scripts.symmetric_run import symmetric_run

    (job / "code").write_text("0")
    assert ended(begun(job, {**ALONE, "SLURM_JOB_NUM_NODES": "3"}, "my.yaml"))[0] == 0
    typed = shlex.split(words(job)[0].partition(" -- ")[0])
    at = typed.index("symmetric-run")
    assert typed[at - 1] == "ray"
    context = symmetric_run.make_context("symmetric-run", typed[at + 1 :])
    assert context.params["min_nodes"] == 3
    assert context.params["ray_args_and_entrypoint"] == ()
    assert context.params["address"] == "10.0.0.5:6379"
    assert words(job)[1].endswith(" --address 10.0.0.5:6379")
    assert re.fullmatch(r"token [0-9a-f]{64}\n", (job / "token").read_text())


def test_what_it_asks_of_slurm_fits_what_it_does() -> None:
    text = SCRIPT.read_text()
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert asked["signal"].startswith("B:TERM@"), "to the script, which hands it on"
    assert {"requeue", "exclusive"} <= set(asked)
    assert asked["open-mode"] == "append", "a requeued job keeps what it has said"
    assert asked["ntasks-per-node"] == "1", "one Ray per node"
    before = text.partition("\nset ")[0].splitlines()
    assert text.count("\n#SBATCH") == sum(line.startswith("#SBATCH") for line in before)
    assert all(line.startswith("#") for line in before), "Slurm reads no option after a command"
    (options,) = re.findall(r"^options=\((.*?)\)", text, re.MULTILINE)
    assert parsed(f"dynloss run my.yaml {options}")["resume"]


def test_the_readme_submits_it_as_it_can_be() -> None:
    readme = (FOLDER / "README.md").read_text()
    typed = [
        shlex.split(line, comments=True)
        for line in readme.splitlines()
        if line.startswith("sbatch ")
    ]
    assert len(typed) == 3
    for line in typed:
        at = next(number for number, word in enumerate(line) if word.endswith("slurm.sh"))
        assert (FOLDER.parents[1] / line[at]).samefile(SCRIPT)
        tasks = [word for word in line[1:at] if word.startswith("--array=0-")]
        last = int(tasks[0].rpartition("-")[2]) if tasks else 0
        assert len(line) - at - 1 == last + 1, "a study per task"
