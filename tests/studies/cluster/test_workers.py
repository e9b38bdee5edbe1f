"""Workers that cannot start, or fail: what is tried again, what ends the study, what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from ray import cloudpickle
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError

from dynloss_core.config import ConfigError
from studies.blocks.code_origin import current_origin
from studies.blocks.failure import FailureKind
from studies.cluster.trainable import BLOCK, BlockTrainable
from studies.cluster.tune_driver import Reporter
from studies.cluster.worker_errors import failure_of, read_error
from studies.definition.study_files import load_study
from studies.report.study_results import write_results
from studies.runner.run_study import RunResult
from tests.services import SECONDS
from tests.studies.cluster.example_block import BLOCK_OF_TWO
from tests.studies.commands import dynloss, dynloss_here
from tests.studies.sessions import session_of
from tests.studies.tiny import tiny_study

ROOT = Path(__file__).parents[3]
ONLY_THE_DRIVER = """\
from studies.cluster.trainable import BlockTrainable


class Unknown(BlockTrainable):
    pass
"""


def faults(folder: Path, *kinds: str) -> dict[str, Any]:
    """How studies with faulty workers end, driven from a folder that holds names of the suite."""
    shadows, modules, out = folder / "shadows", folder / "modules", folder / "out"
    for path in (shadows / "studies", shadows / "search_spaces", modules, out):
        path.mkdir(parents=True)
    (shadows / "studies" / "__init__.py").touch()  # a package, and `search_spaces` a mere folder
    (shadows / "dynloss_core.py").write_text("raise SystemExit('not the suite')")
    (modules / "only_the_driver.py").write_text(ONLY_THE_DRIVER)
    words = [
        sys.executable,
        "-P",
        "-m",
        "tests.studies.cluster.worker_faults",
        str(out),
        str(modules),
    ]
    done = subprocess.run(
        [*words, *kinds],
        cwd=shadows,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends: dict[str, Any] = json.loads((out / "ends.json").read_text())
    return ends


@pytest.mark.slow
def test_workers_are_the_suites_own_and_fail_by_name(tmp_path: Path) -> None:
    ends = faults(tmp_path, "sound", "raises", "unknown")
    assert ends["sound"]["finished"], "whatever lies in the current folder, or in RAY_ADDRESS"
    assert ends["sound"]["failures"] == {}
    raised = ends["raises"]
    assert raised["failures"] == {
        "search-dynamical-00000": "ValueError: no such activation",
        "search-static-00000": "ConfigError: model: is refused",
    }
    assert raised["tried"] == {"tried-dynamical": 2, "tried-static": 1}
    assert raised["trained"] == 0
    tried = "block search-dynamical-00000: ValueError: no such activation; trying again"
    assert tried in raised["said"]
    unknown = ends["unknown"]
    assert (
        "cannot start: ModuleNotFoundError: No module named 'only_the_driver'"
        in (unknown["refusal"])
    )
    assert unknown["failures"] == {}, "no block is to blame"
    assert not unknown["finished"]


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_one_that_never_starts_ends_the_study(
    tmp_path: Path,
) -> None:
    ends = faults(tmp_path, "dies", "bad_start")
    assert ends["dies"]["finished"]
    assert ends["dies"]["failures"] == {}
    assert "its process or machine is gone" in ends["dies"]["said"][0]
    assert "cannot start: RuntimeError: no room" in ends["bad_start"]["refusal"]
    assert ends["bad_start"]["failures"] == {}


def raised_by_a_task(cause: Exception, traceback: str = "") -> RayTaskError:
    return RayTaskError("step", traceback, cause, proctitle="", pid=1, ip="127.0.0.1")


def raised_at_the_start(traceback: str) -> ActorDiedError:
    return ActorDiedError(raised_by_a_task(Exception(), traceback))


IMPORTING = 'Traceback (most recent call last):\n  File "x.py", line 1, in x\n    import y\n'


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (raised_by_a_task(ValueError("two\nlines")), FailureKind.RAISED, "ValueError: two lines"),
        (raised_by_a_task(KeyError()), FailureKind.RAISED, "KeyError"),
        (raised_by_a_task(ConfigError("k", "bad")), FailureKind.REFUSED, "ConfigError: k: bad"),
        (raised_by_a_task(ImportError("no y")), FailureKind.NO_WORKER, "ImportError: no y"),
        (
            raised_by_a_task(ModuleNotFoundError("no y")),
            FailureKind.NO_WORKER,
            "ModuleNotFoundError: no y",
        ),
        (
            raised_at_the_start(f"{IMPORTING}ImportError: cannot\nimport y"),
            FailureKind.NO_WORKER,
            "ImportError: cannot import y",
        ),
        (
            raised_at_the_start(f"{IMPORTING}AttributeError: no y in x"),
            FailureKind.NO_WORKER,
            "AttributeError: no y in x",
        ),
        (
            raised_at_the_start(f"{IMPORTING}OSError: too many files"),
            FailureKind.NOT_STARTED,
            "OSError: too many files",
        ),
        (ActorDiedError(), FailureKind.LOST, "its process or machine is gone: "),
        (OutOfMemoryError("the node is full"), FailureKind.LOST, "the node is full"),
        ("Failure # 1\nthe node is full\n", FailureKind.LOST, "the node is full"),
        (None, FailureKind.LOST, "no reason is known"),
    ],
    ids=str,
)
def test_what_an_error_means(error: Exception | str | None, kind: FailureKind, reason: str) -> None:
    failure = failure_of(error)
    assert failure.kind is kind
    assert reason in failure.reason
    assert "\n" not in failure.reason


def trial(folder: Path, error: Exception | None) -> Any:
    """One of Tune's, whose last error this is."""
    file = folder / "error.pkl"
    if error is not None:
        file.write_bytes(cloudpickle.dumps(error))
    return SimpleNamespace(
        config={BLOCK: BLOCK_OF_TWO},
        pickled_error_file=None if error is None else str(file),
        error_file=None,
    )


def test_an_error_is_read_where_tune_has_written_it(tmp_path: Path) -> None:
    assert read_error(trial(tmp_path, None)) is None
    read = read_error(trial(tmp_path, raised_by_a_task(ValueError("bad"))))
    assert failure_of(read).reason == "ValueError: bad"
    damaged = trial(tmp_path, ValueError())
    Path(damaged.pickled_error_file).write_bytes(b"no pickle")
    damaged.error_file = str(tmp_path / "error.txt")
    Path(damaged.error_file).write_text("out of memory")
    assert read_error(damaged) == "out of memory"


def test_no_block_is_recorded_as_failed_where_no_worker_starts(tmp_path: Path) -> None:
    """A sick machine may be another's next time; a second process that ends the same is enough."""
    session = session_of(tiny_study(), tmp_path)
    reporter = Reporter(session)
    sick = trial(tmp_path, raised_at_the_start(f"{IMPORTING}OSError: too many files"))
    reporter.on_trial_error(0, [], sick)
    assert reporter.no_worker == ""
    reporter.on_trial_error(0, [], sick)
    assert reporter.no_worker == f"block {BLOCK_OF_TWO} cannot start: OSError: too many files"
    assert session.failures == {}


def test_a_process_with_other_code_trains_nothing(tmp_path: Path) -> None:
    trainable = BlockTrainable.__new__(BlockTrainable)
    other = {**current_origin().files, "dynloss_core/losses/weighted.py": "0"}
    with pytest.raises(
        ImportError, match=r"different code in .*: dynloss_core/losses/weighted.py differs"
    ):
        trainable.setup({BLOCK: BLOCK_OF_TWO}, tiny_study(), str(tmp_path), None, code=other)


def test_a_study_whose_blocks_failed_is_not_said_to_have_diverged(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(tiny)
    session = session_of(study, tmp_path)
    while (block := session.next_block()) is not None:
        session.failed(block, "ValueError: no such activation")
    results = write_results(session.stored)
    outcome = RunResult(True, session.failures, "", session.folder, results)
    session.delivery.close()
    monkeypatch.setattr("studies.runner.run_study.run_study", lambda *given, **named: outcome)
    done = dynloss_here("run", tiny, "--out", tmp_path)
    assert done.returncode == 1
    assert "no verdict: there is no dynamical and no static trial that could be trained" in (
        done.stderr
    )
    assert "diverging" not in done.stderr


@pytest.mark.parametrize(
    "uri",
    [pytest.param("http://127.0.0.1:9", marks=pytest.mark.slow), "sqlite:////proc/nowhere.db"],
)
def test_an_address_of_mlflow_is_named_by_where_it_comes_from(
    uri: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    by_variable = dynloss_here("run", tiny, "--out", tmp_path / "out")
    assert by_variable.stderr.startswith(f"dynloss: MLFLOW_TRACKING_URI: {uri} cannot be used: ")
    by_key = dynloss_here(
        "run", tiny, "--out", tmp_path / "out", "--set", f"storage.tracking_uri={uri}0"
    )
    assert by_key.stderr.startswith(f"dynloss: storage.tracking_uri: {uri}0 cannot be used: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_start_that_fails_leaves_no_study(tiny: Path, tmp_path: Path) -> None:
    """Neither in the folder nor among MLflow's runs; a study that was begun before stays."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    out = tmp_path / "out"
    done = dynloss("run", tiny, "--out", out, TMPDIR=str(long))
    assert done.returncode == 2, done.stderr
    assert "dynloss: TMPDIR: Ray cannot start here" in done.stderr
    assert "set RAY_TMPDIR to a folder with a short path" in done.stderr
    assert not (out / "tiny").exists()
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "dynloss")
    assert client.search_runs([experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY) == []
