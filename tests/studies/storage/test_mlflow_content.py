"""What MLflow shows of a study: names, numbers, notes, and a view that opens on curves."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from dynloss_core import keys
from studies.blocks.block import Block, Trial
from studies.definition.study import Study
from studies.storage.tracking.mlflow_tracker import MLflowTracker
from studies.storage.tracking.run_names import RunNames
from studies.storage.tracking.runs_view import SHARED_VIEW, run_page, runs_page, runs_view
from studies.storage.tracking.study_content import data_set_of, study_params
from studies.storage.tracking.study_note import NOTE
from tests.studies.mlflow_runs import runs_in, trial_of
from tests.studies.sessions import finish, session_of
from tests.studies.tiny import CONFIRM, MAP, tiny_study

POINT = {"period": 3934, "amplitude": 22.9123, "learning_rate": 1.16314}


def named(study: Study, phase: str, arm: str, number: int, point: dict[str, Any]) -> str:
    return RunNames(study).of(Block(phase, arm, 0, (Trial(number, point),), (0,)), number, point)


@pytest.mark.parametrize(
    ("phase", "arm", "point", "name"),
    [
        ("search", "dynamical", POINT, "d35 T=3934 A=22.9 lr=1.16"),
        ("search.2", "dynamical", POINT, "search.2 d35 T=3934 A=22.9 lr=1.16"),
        ("search", "static", {"amplitude": 1.0, "learning_rate": 0.5}, "s35 lr=0.5"),
        ("confirm", "static_at_dynamical", {"learning_rate": 2}, "confirm static_at_dynamical 35 lr=2"),
    ],
)  # fmt: skip
def test_a_run_is_named_for_what_it_is(
    phase: str, arm: str, point: dict[str, Any], name: str
) -> None:
    assert named(tiny_study(), phase, arm, 35, point) == name


def test_arms_that_share_an_initial_are_named_in_full() -> None:
    study = tiny_study(arms={"static": {"baseline": True}, "slow": {}})
    assert named(study, "search", "slow", 0, POINT).startswith("slow 0 T=3934")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, MlflowClient, list[Run]]:
    """A study in MLflow, closed with something that it found."""
    out = tmp_path_factory.mktemp("shown")
    study = tiny_study(trials_per_arm=2, description="Is it better?")
    session = session_of(study, out)
    finish(session)

    def close(tracker: Any) -> str:
        tracker.close(
            finished=True,
            metrics={"verdict_difference": 0.1},
            tags={},
            artifacts=[],
            findings=["It is better."],
            warnings=["The search is short."],
        )
        return str(tracker.uri)

    client = MlflowClient(session.delivery.ask(close))
    session.delivery.close()
    return study, client, runs_in(client)


def the_study(runs: list[Run]) -> Run:
    (parent,) = (run for run in runs if trial_of(run) == "tiny")
    return parent


def test_what_was_searched_sorts_as_numbers(shown: tuple[Study, MlflowClient, list[Run]]) -> None:
    study, client, _ = shown
    experiment = client.get_experiment_by_name("dynloss").experiment_id
    found = client.search_runs(
        [experiment], "metrics.learning_rate > 0", order_by=["metrics.learning_rate DESC"]
    )
    rates = [float(run.data.params[keys.LEARNING_RATE]) for run in found]
    assert len(rates) == 2 * 2 + 3
    assert rates == sorted(rates, reverse=True)
    assert study.mode == "optimize"


def test_the_studys_run_says_what_it_is(shown: tuple[Study, MlflowClient, list[Run]]) -> None:
    _, _, runs = shown
    parent = the_study(runs)
    assert parent.data.params["model.width"] == "6"
    assert parent.data.params["space.learning_rate"].endswith(", log")
    note = parent.data.tags[NOTE]
    assert note.startswith("**Question.** Is it better?\n\n**Verdict.** It is better.")
    assert "- The search is short." in note
    fresh = [run.info.run_id for run in runs if trial_of(run).startswith("confirm/")]
    assert all(f"/runs/{run}?" in note for run in fresh)


def test_every_run_has_the_data_set(shown: tuple[Study, MlflowClient, list[Run]]) -> None:
    study, client, runs = shown
    digest = data_set_of(study).dataset.digest
    for run in runs:
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("spirals", digest)
    condition = f"dataset.name = 'spirals' and dataset.digest = '{digest}'"
    assert len(runs_in(client, condition)) == len(runs) == 1 + 2 * 2 + 3


def test_a_note_that_somebody_wrote_stays(tmp_path: Path) -> None:
    store, study = f"sqlite:///{tmp_path / 'mlflow.db'}", tiny_study(description="Is it?")
    found = {}
    for written in (None, "mine"):
        tracker = MLflowTracker(study, "id", store, tmp_path)
        if written is not None:
            tracker._client.set_tag(tracker.parent, NOTE, written)
        tracker.close(finished=False, metrics={}, tags={}, artifacts=[], findings=["Yes."])
        found[written] = MlflowClient(store).get_run(tracker.parent).data.tags[NOTE]
    assert "**So far**" in found[None]
    assert found["mine"] == "mine"


def test_what_a_study_may_change_is_no_parameter() -> None:
    study = tiny_study()
    changed = tiny_study(description="new", resources={"cpu": 2}, storage={"curves": "none"})
    assert study_params(changed) == study_params(study)
    assert study_params(study.extended(3)) == study_params(study)
    assert study_params(tiny_study(seeds_per_point=3)) != study_params(study)


@pytest.mark.parametrize("kind", ["optimize", "map", "confirm"])
def test_a_view_opens_on_curves(kind: str) -> None:
    changes: dict[str, Any] = {
        "optimize": {},
        "map": {**MAP, "grid": {"period": 2, "amplitude": 2, "learning_rate": 1}},
        "confirm": {
            **CONFIRM,
            "winners": {"dynamical": POINT, "static": {"amplitude": 1, "learning_rate": 1.0}},
        },
    }[kind]
    packed = runs_view(tiny_study(**changes)).removeprefix("deflate;")
    view = json.loads(zlib.decompress(base64.b64decode(packed)))
    shown = [section["name"] for section in view["compareRunSections"] if section["display"]]
    of_kind = {"map": ["searched values"], "confirm": ["fresh seeds"]}
    assert shown == ["curves", *of_kind.get(kind, ["searched values", "fresh seeds"])]
    first = view["compareRunCharts"][0]
    assert (first["type"], first["metricKey"]) == ("LINE", "curves/validation_accuracy")
    kinds = [chart["type"] for chart in view["compareRunCharts"]]
    assert ("CONTOUR" in kinds) == (kind == "map")
    bars = [chart["metricKey"] for chart in view["compareRunCharts"] if chart["type"] == "BAR"]
    verdict = "final_test_accuracy"
    on_validation = "final_validation_accuracy"
    of_kind = {"map": [], "optimize": [verdict], "confirm": [verdict, on_validation]}
    assert bars == of_kind[kind]
    best = verdict if kind == "confirm" else on_validation
    assert view["orderByKey"] == f"metrics.`{best}`"
    assert (f"metrics.`{verdict}`" in view["selectedColumns"]) == (kind != "map")
    assert len(packed) < 5000, "what old servers keep"


def test_the_view_is_where_its_address_says(shown: tuple[Study, MlflowClient, list[Run]]) -> None:
    _, client, runs = shown
    parent = the_study(runs).info
    tags = client.get_experiment(parent.experiment_id).tags
    assert f"{SHARED_VIEW}{parent.run_id}" in tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    base = "http://127.0.0.1:5000/"
    page = runs_page(base, parent.experiment_id, "tiny", parent.run_id)
    assert page == (
        f"http://127.0.0.1:5000/#/experiments/{parent.experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={parent.run_id}"
    )
    assert "searchFilter=tags.%60dynloss.study%60%20%3D%20%27tiny%27" in runs_page(
        base, "1", "tiny"
    )
    assert run_page(base, "1", "a").endswith("/runs/a?workflowType=machine_learning")
