"""Whatever trains the blocks of a study, its tables are the same, and so is what becomes of errors.

Ray's own part is in `test_workers`, `test_machines` and `tests/studies/runner`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.cluster.backends import BACKENDS
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.runner.run_study import confirm_study, run_study, sync_study
from studies.storage.stored_study import stored_definition
from studies.storage.study_folder import StudyFolder
from tests.services import SECONDS, wait_until
from tests.studies.commands import dynloss_here
from tests.studies.sessions import begun, finish, session_of
from tests.studies.stopped import stopped_once_it_trains, trains
from tests.studies.tiny import MAP, tiny_document, tiny_study

LOCAL = ["inline", "processes"]
INLINE_FIRST = ["inline", pytest.param("processes", marks=pytest.mark.slow)]  # each imports torch
GRID: dict[str, Any] = {**MAP, "grid": {"period": 2, "amplitude": 1, "learning_rate": 2}}
UNTRACKED: dict[str, Any] = {"storage": {"tracker": "none"}}
NETS = """\
import os, signal
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class Faulty:
    name: Literal["faulty"] = "faulty"
    width: int = 4
    mark: str = ""

    def build(self, input_shape, num_classes):
        mark = Path(self.mark)
        if self.width == 5 and mark.exists():
            raise ValueError("no such\\nwidth")
        if self.width == 6 and parent_process() is not None and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return nn.Sequential(nn.Linear(*input_shape, self.width), nn.ReLU(), nn.Linear(self.width, num_classes))
"""


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.report.study_results.draw_figures", lambda *_: ([], {}))


def members_of(folder: StudyFolder) -> pd.DataFrame:
    """The members table without what differs from machine to machine, in one order."""
    table = pd.read_parquet(folder.tables / "members.parquet")
    clock = [name for name in keys.MACHINE_COLUMNS if name in table]
    by = [keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]
    return table.drop(columns=clock).sort_values(by, ignore_index=True)


def faulty(folder: Path, *widths: int) -> Study:
    """A map over networks of a plug-in: with 5 units one is not built once there is a mark, and
    with 6 its process dies unless there is."""
    (folder / "nets.py").write_text(NETS)
    parameters = {
        "model.width": {"type": "choice", "values": list(widths), "role": "scientific"},
        "period": {"type": "const", "value": 30},
        "amplitude": {"type": "const", "value": 2.0},
        "learning_rate": {"type": "const", "value": 0.5},
    }
    document = tiny_document(
        **MAP,
        **UNTRACKED,
        plugins=["./nets.py"],
        model={"name": "faulty", "mark": str(folder / "mark")},
        arms=["static"],
        block_size=1,
        grid={},
        space={"extends": "spirals-mlp", "name": "faulty", "parameters": parameters},
    )
    path = folder / "faulty.yaml"
    path.write_text(json.dumps(document))
    return load_study(path)


@pytest.mark.parametrize(
    ("backend", "changes"),
    [("inline", {}), pytest.param("processes", GRID, marks=pytest.mark.slow)],
)
def test_tables_are_those_of_blocks_trained_one_by_one(
    backend: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    study = tiny_study(**changes, **UNTRACKED)
    begun(study, tmp_path / "one")
    session = session_of(study, tmp_path / "one")
    finish(session)
    session.folder.parts.gather_all().write(session.folder.tables)
    session.delivery.close()
    outcome = run_study(tiny_study(**changes, **UNTRACKED, backend=backend), tmp_path / "two")
    assert outcome.finished
    pd.testing.assert_frame_equal(members_of(outcome.folder), members_of(session.folder))


def test_a_study_may_change_its_backend(tmp_path: Path) -> None:
    study = tiny_study(**GRID, **UNTRACKED, backend="inline")
    first = run_study(study, tmp_path)
    again = run_study(replace(study, backend="processes"), tmp_path, resume=True)
    assert stored_definition(again.folder).backend == "processes"
    confirmed = confirm_study(first.folder, seeds=2, backend="inline")
    assert confirmed.results.analysis.verdicts[0].test.n == 2
    assert stored_definition(again.folder).backend == "processes"


@pytest.mark.parametrize("backend", INLINE_FIRST)
def test_a_block_that_raises_fails_and_no_other(backend: str, tmp_path: Path) -> None:
    study = faulty(tmp_path, 4, 5)
    (tmp_path / "mark").touch()  # the study is sound, its training is not
    outcome = run_study(replace(study, backend=backend), tmp_path / "out")
    assert outcome.finished
    (failure,) = outcome.failures.values()
    assert "ValueError: no such" in failure
    assert set(members_of(outcome.folder)["model.width"]) == {4}


def test_a_block_whose_process_dies_is_trained_by_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = faulty(tmp_path, 4, 6)
    outcome = run_study(replace(study, backend="processes"), tmp_path / "out")
    assert (outcome.finished, outcome.failures) == (True, {})
    assert (tmp_path / "mark").exists()
    assert set(members_of(outcome.folder)["model.width"]) == {4, 6}
    assert "its process is gone (exit code -9); trying again" in capsys.readouterr().err


@pytest.mark.parametrize("backend", INLINE_FIRST)
def test_stops_when_asked_and_goes_on_from_there(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.blocks.block_training._SECONDS_BETWEEN_REPORTS", 0.0)
    long = {"total": 200_000, "static_tail": 0, "evaluate_every": 1_000}
    one = {**MAP, "grid": {"period": 1, "amplitude": 1, "learning_rate": 1}}
    study = tiny_study(**one, **UNTRACKED, budget=long, backend=backend)
    folder = StudyFolder.of(study, tmp_path)
    stopped = stopped_once_it_trains(study, tmp_path)
    assert not stopped.finished
    assert list(folder.path.glob("checkpoints/*.pt")), "what was in training is saved"
    resumed = run_study(study, tmp_path, resume=True, reuse=False)
    whole = run_study(replace(study, backend="inline"), tmp_path / "whole", reuse=False)
    pd.testing.assert_frame_equal(members_of(resumed.folder), members_of(whole.folder))


@pytest.mark.parametrize(
    "end",
    [
        signal.SIGINT,
        *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
@pytest.mark.parametrize("backend", INLINE_FIRST)
def test_ctrl_c_ends_it_in_order(backend: str, end: signal.Signals, tmp_path: Path) -> None:
    """And so does what a scheduler sends before it kills, and a terminal that is closed."""
    study = tmp_path / "long.yaml"
    budget = {"total": 4_000_000, "static_tail": 0, "evaluate_every": 2_000}
    study.write_text(json.dumps(tiny_document(name="long", budget=budget, **UNTRACKED)))
    words = [sys.executable, "-m", "studies", "run", str(study), "--out", str(tmp_path)]
    driver = subprocess.Popen(
        [*words, "--backend", backend],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(end, signal.SIG_DFL),  # `nohup` leaves it ignored
    )
    wait_until(lambda: trains(StudyFolder(tmp_path / "long")), driver)
    os.killpg(driver.pid, end)  # a terminal or a scheduler sends it to the whole group
    _, said = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 130, said
    assert "stopped; everything so far is kept" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_what_processes_still_report_is_taken(tmp_path: Path) -> None:
    """Tables larger than a pipe holds, which nobody would read once the driver is to stop."""
    many = {"total": 4_000, "static_tail": 0, "evaluate_every": 10}
    study = tiny_study(**GRID, **UNTRACKED, seeds_per_point=20, budget=many, backend="processes")
    began = time.monotonic()
    stopped = stopped_once_it_trains(study, tmp_path)
    assert time.monotonic() - began < 45, "no process had to be ended by force"
    assert run_study(study, tmp_path, resume=True).finished
    assert not stopped.failures


@pytest.mark.slow
def test_a_script_that_runs_itself_in_its_processes_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    document = tiny_document(**GRID, **UNTRACKED, backend="processes")
    out = tmp_path / "out"
    script.write_text(f"import studies\nstudies.run(studies.load({document!r}), {str(out)!r})\n")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode != 0
    assert 'begin a script that runs a study with `if __name__ == "__main__":`' in done.stderr
    assert not list(out.glob("*/parts/*")), "no block was given up"


@pytest.mark.parametrize("backend", LOCAL)
def test_no_cluster_is_joined(backend: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--address: auto: only the backend ray joins"):
        run_study(tiny_study(backend=backend), tmp_path, address="auto")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("confirm", "tiny"), ("run", "quickstart")])
def test_an_unknown_backend_is_refused(words: tuple[str, str], tmp_path: Path) -> None:
    done = dynloss_here(*words, "--backend", "slurm", "--out", tmp_path)
    assert done.returncode == 2
    assert "--backend: 'slurm' is not a backend; use ray, inline, processes" in done.stderr


WITHOUT = """\
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "mlflow", "optuna"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from dynloss_core.command import main
main()
"""


def without_packages(*words: Any) -> subprocess.CompletedProcess[str]:
    """The command, where none of Ray, MLflow and Optuna can be imported."""
    given = [sys.executable, "-c", WITHOUT, *map(str, words)]
    return subprocess.run(given, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.slow
def test_a_design_needs_neither_ray_nor_mlflow_nor_optuna(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps(tiny_document(**GRID)))
    refused = without_packages("run", file, "--out", tmp_path)
    assert refused.returncode == 2
    assert "backend: ray needs ray, which is not installed" in refused.stderr
    done = without_packages("run", file, "--out", tmp_path, "--backend", "inline")
    assert done.returncode == 0, done.stderr
    assert "mlflow needs mlflow, which is not installed" in done.stderr
    folder = StudyFolder(tmp_path / "tiny")
    assert not folder.optuna.exists()
    proposed = tmp_path / "proposed.yaml"
    proposed.write_text(json.dumps(tiny_document(name="proposed")))
    refused = without_packages("run", proposed, "--out", tmp_path, "--backend", "inline")
    assert refused.returncode == 2
    assert "sampler: tpe needs optuna, which is not installed" in refused.stderr
    assert not (tmp_path / "proposed").exists()

    members = members_of(folder)
    delivered, _ = sync_study(folder)
    assert delivered == len(members[[keys.ARM, keys.TRIAL]].drop_duplicates())
    assert folder.optuna.exists()
    pd.testing.assert_frame_equal(members_of(folder), members)


def test_each_backend_says_what_it_needs() -> None:
    assert {name: backend.needs for name, backend in BACKENDS.items()} == {
        "ray": "ray",
        "inline": "",
        "processes": "",
    }
