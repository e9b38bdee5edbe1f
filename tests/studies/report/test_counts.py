"""Trials and networks are counted, and worded, in one way wherever a study says how many it has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from studies.cli.result_lines import show_results
from studies.definition.network_counts import NetworkCounts
from studies.messages import console
from studies.report.returned_result import StudyResult
from studies.report.study_results import write_results
from studies.runner.parent_run import conclude
from studies.storage.status import study_status
from studies.storage.stored_study import StoredStudy
from studies.storage.tracking.study_note import NOTE
from tests.studies.commands import dynloss_here
from tests.studies.mlflow_runs import runs_in, trial_of
from tests.studies.sessions import finish, session_of, train_next
from tests.studies.tiny import CONFIRM, MAP, tiny_study

pytestmark = pytest.mark.usefixtures("undrawn")

GRID = {"period": 2, "amplitude": 2, "learning_rate": 1}
POINT = {"period": 3934, "amplitude": 22.9, "learning_rate": 1.16}
WINNERS = {"dynamical": POINT, "static": {"amplitude": 1, "learning_rate": 1.0}}
FINALS = {"finalists": 2, "finalist_seeds": 2}
KINDS: dict[str, tuple[dict[str, Any], NetworkCounts, str]] = {
    "optimize": (
        {},
        NetworkCounts(12, 24, 0, 9),
        "12 trials, 33 networks: 24 searched, 9 on fresh seeds",
    ),
    "finals": (
        FINALS,
        NetworkCounts(12, 24, 8, 9),
        "12 trials, 41 networks: 24 searched, 8 in finals, 9 on fresh seeds",
    ),
    "map": (
        {**MAP, "grid": GRID},
        NetworkCounts(5, 10),
        "5 trials, 10 networks, all searched",
    ),
    "confirm": (
        {**CONFIRM, "winners": WINNERS},
        NetworkCounts(fresh=6),
        "6 networks, all on fresh seeds",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_gives_the_same_counts(kind: str, tmp_path: Path) -> None:
    changes, counts, words = KINDS[kind]
    session = session_of(tiny_study(**changes), tmp_path)
    finish(session)
    stored = StoredStudy.read(session.folder)
    results = write_results(stored)
    uri = session.delivery.ask(lambda tracker: tracker.uri)
    conclude(stored, session.delivery, results, finished=True)
    session.delivery.close()

    assert results.counts == counts
    assert str(counts) == words
    assert counts.networks == stored.networks
    assert f"  trained  {words}" in str(study_status(stored.folder)).splitlines()
    assert repr(StudyResult(stored, results)).splitlines()[0].endswith(f"): {words}")

    with console.capture() as printed:
        show_results(stored.study, stored.folder, results)
    assert f"networks   {counts.of_networks()}" in printed.get()
    tried = re.findall(r"searched +\w+ +(\d+) trials?", printed.get())
    assert sum(map(int, tried)) == counts.trials

    (listed,) = json.loads(dynloss_here("list", "--json", "--out", tmp_path).stdout)["recorded"]
    assert listed["state"] == f"finished, {counts.short()}"
    assert words.startswith(counts.short())

    (run,) = (run for run in runs_in(MlflowClient(uri)) if trial_of(run) == "tiny")
    numbers = run.data.metrics
    assert f"**Trained.** {words}." in run.data.tags[NOTE]
    assert {name: numbers[name] for name in counts.by_name()} == counts.by_name()
    of_arms = [numbers[f"trials_{arm}"] for arm in stored.study.arms if f"trials_{arm}" in numbers]
    assert sum(of_arms) == counts.trials

    summary = json.loads(stored.folder.summary.read_text())
    assert summary["networks"]["trained"] == summary["networks"]["in_all"] == counts.networks
    assert sum(arm["tried"] for arm in summary["trials"].values()) == counts.trials

    facts = facts_of(stored)
    assert facts["Networks"] == counts.of_networks()
    assert facts.get("Trials", "0") == str(counts.trials)
    page = stored.folder.report.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="trial-data">(.*?)</script>', page)[1])  # type: ignore[index]
    assert data["rows"] - data["reruns"] == counts.trials


def test_thousands_and_one() -> None:
    assert str(NetworkCounts(1_200, 4_800, 0, 60)) == (
        "1,200 trials, 4,860 networks: 4,800 searched, 60 on fresh seeds"
    )
    assert str(NetworkCounts(1, 1)) == "1 trial, 1 network, all searched"
    assert str(NetworkCounts()) == "0 networks"
    phases = {"search": 8, "search.2": 8, "finals.2": 3, "confirm": 2, "confirm-2.2": 1}
    points = {"search": 4, "search.2": 4, "finals.2": 1, "confirm": 1}
    assert NetworkCounts.of_phases(phases, points) == NetworkCounts(8, 16, 3, 3)


def facts_of(stored: StoredStudy) -> dict[str, str]:
    page = stored.folder.report.read_text(encoding="utf-8")
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))


def test_what_is_reused_is_counted_alike(tmp_path: Path) -> None:
    first = session_of(tiny_study(name="first"), tmp_path)
    finish(first)
    write_results(first.stored)
    first.delivery.close()
    session = session_of(tiny_study(name="second"), tmp_path, reuse=True)
    finish(session)
    session.delivery.close()
    stored = StoredStudy.read(session.folder)
    results = write_results(stored)
    assert results.reused == {"first": 33}
    assert results.metrics()["networks_reused"] == results.metrics()["networks"] == 33
    assert json.loads(stored.folder.summary.read_text())["reused"] == {"first": 33}
    assert facts_of(stored)["Reused"] == "33 networks of first"
    with console.capture() as printed:
        show_results(stored.study, stored.folder, results)
    assert "reused     33 networks of first" in printed.get()


def test_what_is_not_trained_is_said(tmp_path: Path) -> None:
    session = session_of(tiny_study(), tmp_path)
    train_next(session)
    session.delivery.close()
    stored = StoredStudy.read(session.folder)
    results = write_results(stored)
    words = "2 trials, 4 networks, all searched"
    assert str(results.counts) == words
    assert facts_of(stored)["Not trained"] == "29 of 33 networks"
    assert (
        repr(StudyResult(stored, results))
        .splitlines()[0]
        .endswith(f": {words}; of 33 networks in all")
    )
    assert f"  trained  {words}" in str(study_status(stored.folder)).splitlines()
    (listed,) = json.loads(dynloss_here("list", "--json", "--out", tmp_path).stdout)["recorded"]
    assert listed["state"] == "4 of 33 networks"
