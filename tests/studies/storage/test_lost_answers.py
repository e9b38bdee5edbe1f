"""An MLflow server that loses answers: what was asked took effect, and nobody was told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from studies.runner.run_study import run_study
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.repeating_client import PARENT, RepeatingClient
from tests.lossy_proxy import lossy_proxy
from tests.services import SECONDS, free_port, started_mlflow
from tests.studies.mlflow_runs import runs_in, trial_of
from tests.studies.sessions import run_without_ray
from tests.studies.tiny import tiny_study

Loses = Callable[[str, str, int], bool]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started_mlflow(tmp_path_factory.mktemp("server")) as address:
        yield address


def one_in_three() -> Loses:
    return lambda method, path, number: number % 3 == 0


def the_first_two_of_each_kind() -> Loses:
    """Those that make runs among them."""
    asked: Counter[tuple[str, str]] = Counter()

    def loses(method: str, path: str, number: int) -> bool:
        kind = method, path.partition("?")[0]
        asked[kind] += 1
        return asked[kind] <= 2

    return loses


@pytest.mark.slow
@pytest.mark.parametrize("loses", [one_in_three, the_first_two_of_each_kind])
def test_a_server_that_loses_answers_holds_each_run_once(
    loses: Callable[[], Loses], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study starts at the first attempt, and leaves no run behind that nobody ends."""
    run_without_ray(monkeypatch)
    with lossy_proxy(server, loses()) as proxy:
        study = tiny_study(name=loses.__name__, storage={"tracking_uri": proxy.address})
        outcome = run_study(study, tmp_path)
    assert not outcome.unreachable
    assert sum(lost for *_, lost in proxy.requests) > 10
    runs = runs_in(MlflowClient(server), f"tags.dynloss.study = '{study.name}'")
    names = Counter(trial_of(run) for run in runs)
    assert set(names.values()) == {1}, names
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 1 + 12 + 3


@pytest.mark.slow
def test_the_report_does_not_wait_for_mlflow(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server answers nobody who ends a run before the report is there; that leads to the runs
    once all is delivered."""
    run_without_ray(monkeypatch)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(SECONDS))
    folder = StudyFolder(tmp_path / "waits")

    def after_the_report(method: str, path: str, number: int) -> bool:
        deadline = time.monotonic() + SECONDS / 2
        while path.endswith("runs/update") and not folder.report.exists():
            if time.monotonic() > deadline:
                return True
            time.sleep(0.1)
        return False

    with lossy_proxy(server, after_the_report) as proxy:
        study = tiny_study(name="waits", storage={"tracking_uri": proxy.address})
        run_study(study, tmp_path)
    assert not any(lost for *_, lost in proxy.requests)
    runs = runs_in(MlflowClient(server), "tags.dynloss.study = 'waits'")
    report = folder.report.read_text()
    assert all(run.info.run_id in report for run in runs if PARENT in run.data.tags)


def test_nothing_is_sent_again_where_nothing_listens() -> None:
    began = time.monotonic()
    with pytest.raises(MlflowException, match="refused"):
        RepeatingClient(f"http://127.0.0.1:{free_port()}").search_experiments()
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_nothing_is_sent_again_that_was_refused(server: str) -> None:
    with lossy_proxy(server, lambda *_: False) as proxy:
        with pytest.raises(MlflowException, match="RESOURCE_DOES_NOT_EXIST"):
            RepeatingClient(proxy.address).get_run("0" * 32)
        assert len(proxy.requests) == 1
