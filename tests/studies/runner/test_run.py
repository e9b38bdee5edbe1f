"""The whole way, with real Ray, Optuna and MLflow, through the installed command."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import optuna
import pandas as pd
import pytest
from mlflow import MlflowClient

from dynloss_core import keys
from studies.definition.study_files import load_study
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from tests.services import SECONDS, wait_until
from tests.studies.commands import dynloss, dynloss_here, start
from tests.studies.mlflow_runs import TRAIN_LOSS, runs_in, trial_of
from tests.studies.tables import table
from tests.studies.tiny import tiny_file, tiny_study


def check_records(out: Path, file: Path) -> None:
    """Every trial once: in the tables, in Optuna, in MLflow, and all three agree."""
    study = load_study(file)
    members = table(out)
    assert len(members) == study.members()
    assert not members.duplicated([keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]).any()
    for arm in study.arms:
        stored = optuna.load_study(
            study_name=f"tiny/{arm}", storage=f"sqlite:///{out / 'tiny' / 'optuna.db'}"
        )
        assert [trial.number for trial in stored.trials] == list(range(study.trials_of(arm).count))
        for trial in stored.trials:
            rows = members[
                (members[keys.ARM] == arm)
                & (members[keys.TRIAL] == trial.number)
                & (members[keys.PHASE] == keys.SEARCH)
            ]
            assert trial.state.name == ("FAIL" if rows[keys.DIVERGED].any() else "COMPLETE")
            if trial.value is not None:
                assert trial.value == pytest.approx(rows[keys.VALIDATION_ACCURACY].mean())
            assert rows[keys.LEARNING_RATE].unique() == [trial.params[keys.LEARNING_RATE]]
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    runs = runs_in(client)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.status for run in parents] == ["FINISHED"]
    parent = parents[0]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    names = sorted(trial_of(run) for run in children)
    expected = [
        f"search/{arm}/{n}" for arm in study.arms for n in range(study.trials_of(arm).count)
    ]
    confirmed = members[members[keys.PHASE] == keys.CONFIRM].drop_duplicates(keys.ARM)
    expected += [f"confirm/{r.arm}/{r.trial}" for r in confirmed.itertuples()]
    assert names == sorted(expected)
    for run in children:
        phase, arm, number = trial_of(run).split("/")
        rows = members[
            (members[keys.PHASE] == phase)
            & (members[keys.ARM] == arm)
            & (members[keys.TRIAL] == int(number))
        ]
        assert run.info.status == ("FAILED" if rows[keys.DIVERGED].any() else "FINISHED")
        assert float(run.data.params[keys.LEARNING_RATE]) == rows[keys.LEARNING_RATE].iloc[0]
        if not rows[keys.DIVERGED].any():
            assert run.data.metrics[f"system/{keys.MEMORY}"] > 100, "a process with torch"
            assert run.data.metrics[f"system/{keys.CPU_PERCENT}"] > 0
            assert run.data.tags[f"dynloss.{keys.NODE}"]
            final = run.data.metrics[f"final_{keys.VALIDATION_ACCURACY}"]
            assert final == pytest.approx(rows[keys.VALIDATION_ACCURACY].mean())
            history = client.get_metric_history(run.info.run_id, TRAIN_LOSS)
            steps = [metric.step for metric in history]
            assert steps == [0, 20, 40, 60]
    summary = json.loads((out / "tiny" / "summary.json").read_text(), parse_constant=pytest.fail)
    (verdict,) = summary["verdicts"]
    assert verdict["test"]["n"] == study.confirm_seeds
    assert f"n = {study.confirm_seeds} fresh seeds" in summary["findings"][0]
    page = (out / "tiny" / "report.html").read_text()
    assert parent.info.run_name in page
    assert all(run.info.run_id in page for run in children), "the report names MLflow's runs"
    assert parent.data.metrics["verdict_n"] == study.confirm_seeds
    assert parent.data.tags["dynloss.space_hash"] == study.space.hash
    assert parent.data.tags["version.torch"]
    assert parent.data.tags["hardware.cpu"]
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"study.yaml", "summary.json", "report.html", "figures", "tables"} <= files
    drawn = {file.path for file in client.list_artifacts(parent.info.run_id, "figures")}
    assert {"figures/verdict.png", "figures/gain_map.png", "figures/learning_curves.png"} <= drawn


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A study run once, undisturbed: its file, its output folder and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    file = tiny_file(folder)
    done = dynloss("run", file, "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    return file, folder / "out", done.stdout + done.stderr


def test_a_study_ends_with_a_verdict_and_every_record(finished: tuple[Path, Path, str]) -> None:
    file, out, printed = finished
    check_records(out, file)
    assert "n = 3 fresh seeds of these two winners, paired" in printed
    assert "Traceback" not in printed
    assert "Wilcoxon" in printed
    assert not (out / "tiny" / "checkpoints").exists()


def test_a_finished_study_is_not_overwritten_and_resumes_to_itself(
    finished: tuple[Path, Path, str], tmp_path: Path
) -> None:
    file, out, printed = finished
    before = table(out)
    again = dynloss_here("run", file, "--out", out)
    assert again.returncode == 2
    assert "holds this study already; add --resume to continue" in again.stderr
    other = dynloss_here("run", file, "--out", out, "--set", "seed=3", "--resume")
    assert other.returncode == 2
    assert "holds another study of this name: seed is 0 there and 3 in yours" in other.stderr
    changes = [f"{key}=4" for key in ("seed", "seeds_per_point", "confirm_seeds", "block_size")]
    changes += ["trials_per_arm=8", "budget.total=80", "budget.static_tail=20"]
    given = [word for change in changes for word in ("--set", change)]
    unlike = dynloss_here("run", file, "--out", out, *given)
    assert unlike.returncode == 2
    assert unlike.stderr.count(" in yours; ") == 5, unlike.stderr
    assert "; and 1 more; rename yours" in unlike.stderr
    resumed = dynloss("run", file, "--out", out, "--resume", "--set", "description=why")
    assert resumed.returncode == 0
    assert "updated from your file: description is '' there and 'why' in yours" in resumed.stderr
    verdict = next(
        line for line in printed.splitlines() if "fresh seeds of these two winners, paired" in line
    )
    assert verdict in resumed.stdout
    pd.testing.assert_frame_equal(table(out), before)
    check_records(out, file)


def test_status_analyse_and_the_figures_of_a_finished_study(
    finished: tuple[Path, Path, str],
) -> None:
    file, out, _ = finished
    status = dynloss_here("status", file, "--out", out)
    assert status.returncode == 0
    assert "100% of its networks trained, no driver is running" in status.stdout
    assert "6 of 6 trials" in status.stdout
    assert "3 of 3 networks" in status.stdout
    figure = out / "tiny" / "figures" / "verdict.png"
    figure.unlink()
    analysed = dynloss_here("analyse", "tiny", "--out", out)
    assert analysed.returncode == 0
    assert figure.stat().st_size > 10_000


@pytest.mark.slow
def test_a_run_is_repeated_exactly(finished: tuple[Path, Path, str], tmp_path: Path) -> None:
    file, out, _ = finished
    done = dynloss("run", file, "--out", tmp_path, "--set", "storage.experiment=dynloss")
    assert done.returncode == 0, done.stderr
    for kind in ("members", "curves"):
        pd.testing.assert_frame_equal(table(tmp_path, kind), table(out, kind))


def wait_for_parts(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    parts = out / "tiny" / "parts"
    wait_until(lambda: len(list(parts.glob("*.members.parquet"))) >= count, process, every=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 5])
def test_a_killed_driver_loses_and_repeats_nothing(
    parts: int, finished: tuple[Path, Path, str], tmp_path: Path
) -> None:
    file, undisturbed, _ = finished
    process = start("run", file, "--out", tmp_path)
    wait_for_parts(tmp_path, parts, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tiny" / "parts").iterdir()}
    status = dynloss("status", file, "--out", tmp_path)
    assert "no driver is running" in status.stdout
    resumed = dynloss("run", file, "--out", tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    for name, written in kept.items():
        if name.endswith(".members.parquet"):
            path = tmp_path / "tiny" / "parts" / name
            assert path.stat().st_mtime_ns == written, f"{name} was trained twice"
    check_records(tmp_path, file)
    pd.testing.assert_frame_equal(table(tmp_path), table(undisturbed))


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(
    finished: tuple[Path, Path, str], tmp_path: Path
) -> None:
    file, undisturbed, _ = finished
    process = start("run", file, "--out", tmp_path)
    wait_for_parts(tmp_path, 1, process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal signals the whole group
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert f"dynloss run {file} --resume --out {tmp_path}" in err
    resumed = dynloss("run", file, "--out", tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    check_records(tmp_path, file)
    pd.testing.assert_frame_equal(table(tmp_path), table(undisturbed))


@pytest.mark.usefixtures("undrawn")
def test_results_that_cannot_be_written_keep_the_study_and_say_how_to_go_on(tmp_path: Path) -> None:
    """A full disk, or a file in the way, met by what is written after the training."""
    changes = {"backend": "inline", "storage": {"tracker": "none"}}
    file, tables = tiny_file(tmp_path, **changes), tmp_path / "out" / "tiny" / "tables"
    assert dynloss_here("run", file, "--out", tmp_path / "out").returncode == 0
    shutil.rmtree(tables)
    tables.touch()
    halted = dynloss_here("run", file, "--out", tmp_path / "out", "--resume")
    assert halted.returncode == 2
    refusal, command = halted.stderr.splitlines()[-2:]
    assert refusal.startswith(f"dynloss: {tables}: cannot be written: File exists; ")
    tables.unlink()
    assert command.startswith("continue with:  dynloss run ")
    resumed = dynloss_here(*shlex.split(command)[3:])
    assert resumed.returncode == 0, resumed.stderr
    assert (tables / "members.parquet").exists()


@pytest.mark.slow
def test_a_study_with_diverging_trials_goes_on(tiny: Path, tmp_path: Path) -> None:
    """Learning rates up to 1e30: most trials diverge, are recorded as failed, and the rest win."""
    wild = "space.parameters.learning_rate={type: float, low: 0.1, high: 1.0e+30, scale: log}"
    done = dynloss("run", tiny, "--out", tmp_path, "--set", wild)
    assert done.returncode == 0, done.stderr
    assert "diverged" in done.stdout
    members = table(tmp_path)
    lost = members[members[keys.DIVERGED]]
    assert 0 < len(lost) < len(members)
    assert lost[keys.LEARNING_RATE].notna().all()
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    failed = runs_in(client, "tags.`dynloss.diverged` = 'true'")
    assert failed
    assert {run.info.status for run in failed} == {"FAILED"}
    assert all(keys.LEARNING_RATE in run.data.params for run in failed)


@pytest.mark.slow
def test_confirmed_again_on_fresh_seeds_and_put_side_by_side(
    finished: tuple[Path, Path, str], tiny: Path, tmp_path: Path
) -> None:
    _, other, _ = finished
    copy = tmp_path / "out"
    assert dynloss("run", tiny, "--out", copy).returncode == 0
    done = dynloss("confirm", "tiny", "--seeds", 4, "--out", copy)
    assert done.returncode == 0, done.stderr
    assert "n = 7 fresh seeds of these two winners" in done.stdout, "of both rounds"
    members = pd.read_parquet(copy / "tiny" / "tables" / "members.parquet")
    rounds = members[members[keys.PHASE] != keys.SEARCH].groupby(keys.PHASE)[keys.SEED]
    first, second = (set(rounds.get_group(name)) for name in ("confirm", "confirm-2"))
    assert len(second) == 4
    assert not first & second
    assert "confirm-2" in dynloss("status", "tiny", "--out", copy).stdout
    together = dynloss("analyse", copy / "tiny", other / "tiny", "--out", tmp_path)
    assert together.returncode == 0, together.stderr
    table = pd.read_csv(tmp_path / "across" / "across.csv")
    assert table["n"].tolist() == [7, 3]
    assert table["fresh"].all()
    assert (tmp_path / "across" / "across.png").stat().st_size > 10_000


@pytest.mark.slow
def test_nothing_to_confirm_is_said_in_a_line(tmp_path: Path) -> None:
    study = tiny_study()
    StoredStudy.begin(StudyFolder.of(study, tmp_path), study, resume=False)
    done = dynloss("confirm", "tiny", "--out", tmp_path)
    assert done.returncode == 2
    assert "its search is not finished; finish it first" in done.stderr
    assert "Traceback" not in done.stderr
