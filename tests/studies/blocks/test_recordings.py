"""Runs recorded step by step: tables, resume, curvature."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from dynloss_core import keys
from dynloss_core.config import ConfigError
from dynloss_core.landscape import HessianOperator
from dynloss_core.training import AutogradEngine, Setup
from studies.analysis.landscape.recorded_runs import recordings
from studies.blocks.block import Block, Trial
from studies.blocks.block_run import BlockRun
from studies.definition.study import Study
from studies.report.study_results import write_results
from tests.studies.sessions import finish, next_block, session_of, tracker_of
from tests.studies.tiny import CONFIRM, MAP, tiny_study
from tests.studies.trained_blocks import assert_same, resumed, trained

WINNERS = {
    keys.DYNAMICAL: {"period": 300, "amplitude": 20.0, "learning_rate": 10.0},
    keys.STATIC: {"learning_rate": 1.0},
}


def recorded(**changes: Any) -> Study:
    """A study that records all there is, and goes unstable in its dynamical arm."""
    own = {
        "training": {"dtype": "float64"},
        "model": {"name": "mlp", "width": 8},
        "budget": {"total": 400, "static_tail": 100, "evaluate_every": 50},
        "record": {
            "seeds": 2,
            "trace": True,
            "instabilities": True,
            "curvature_every": 20,
            "valley_every": 40,
            "final_curvature": True,
        },
    }
    return tiny_study(**{**CONFIRM, "winners": WINNERS, **own, **changes})


@pytest.fixture
def study() -> Study:
    return recorded()


@pytest.mark.slow
def test_every_step_and_the_curvature_of_the_seeds_asked_for(study: Study, tmp_path: Path) -> None:
    session = session_of(study, tmp_path)
    finish(session)
    results = write_results(session.stored)
    tables = session.folder.tables
    traces = pd.read_parquet(tables / "traces.parquet")
    curvature = pd.read_parquet(tables / "curvature.parquet")
    first_two = study.seeds.fresh[:2]
    for frame, steps in ((traces, range(400)), (curvature, range(0, 401, 20))):
        for (_, seed), rows in frame.groupby([keys.ARM, keys.SEED]):
            assert seed in first_two
            assert rows[keys.STEP].tolist() == list(steps)
        assert frame.groupby([keys.ARM, keys.SEED]).ngroups == 4
    assert np.isfinite(curvature[keys.HESSIAN_LAMBDA_MAX]).all()
    members = session.folder.parts.gather("members")
    assert members[keys.SEED].nunique() == 3
    valleys = pd.read_parquet(tables / "valleys.parquet")
    assert set(valleys[keys.SEED]) == set(first_two[:1])
    for _, rows in valleys.groupby(keys.ARM):
        assert sorted(set(rows[keys.STEP])) == list(range(0, 401, 40))
        assert rows.groupby(keys.STEP)[keys.OFFSET].nunique().eq(61).all()
        here = rows[rows[keys.OFFSET] == 0].set_index(keys.STEP)
        same = curvature[(curvature[keys.ARM] == rows[keys.ARM].iloc[0])]
        same = same[same[keys.SEED] == first_two[0]].set_index(keys.STEP).loc[here.index]
        assert (here[keys.HESSIAN_LAMBDA_MAX] == same[keys.HESSIAN_LAMBDA_MAX]).all()
    recorded = recordings(members, session.folder.parts.gather_all().of_kind)
    assert recorded is not None
    assert [(run.arm, run.seed) for run in recorded.runs] == [
        (arm, seed) for arm in (keys.DYNAMICAL, keys.STATIC) for seed in first_two
    ]
    assert (tables / "instabilities.csv").exists()
    drawn = {path.name for path in results.figures}
    assert {"trajectory_dynamical.png", "trajectory_static.png"} <= drawn
    assert {"valleys.png", "valley_moving.gif", "valley_moving.png"} <= drawn
    page = session.folder.report.read_text()
    assert page.count("data:image/gif;base64,") == 1
    assert "The valley, moving" in page
    assert "Largest eigenvalue at the end, mean ± sd over runs: dynamical" in page


def test_recording_changes_nothing_and_survives_a_checkpoint(study: Study, tmp_path: Path) -> None:
    session = session_of(study, tmp_path)
    block = next_block(session)
    found = resumed(study, block, 5, tmp_path)
    assert set(found.recorded) == {"traces", "curvature", "instabilities", "valleys"}
    assert len(found.recorded["instabilities"])
    assert_same(found, trained(study, block))


def test_curvature_reaches_the_curves_and_mlflow(study: Study, tmp_path: Path) -> None:
    session = session_of(study, tmp_path)
    finish(session)
    curves = session.folder.parts.gather("curves")
    own = curves[curves[keys.SEED] == study.seeds.fresh[0]]
    measured = session.folder.parts.gather("curvature")
    for arm in study.arms:
        at_100 = own[(own[keys.ARM] == arm) & (own[keys.STEP] == 100)]
        exact = measured[
            (measured[keys.ARM] == arm)
            & (measured[keys.SEED] == study.seeds.fresh[0])
            & (measured[keys.STEP] == 100)
        ]
        assert at_100[keys.HESSIAN_LAMBDA_MAX].item() == exact[keys.HESSIAN_LAMBDA_MAX].item()
    last = curves[curves[keys.SEED] == study.seeds.fresh[2]]
    assert last[keys.HESSIAN_LAMBDA_MAX].isna().all()  # not probed
    client = MlflowClient(tracker_of(session).uri)
    run = tracker_of(session).runs()["mlflow_run"].iloc[0]
    history = client.get_metric_history(run, f"curves/{keys.NTK_LAMBDA_MAX}")
    assert [each.step for each in history] == list(range(0, 401, 50))
    metrics = client.get_run(run).data.metrics
    assert metrics["final_hessian_lambda_max"] > 0
    assert "final_hessian_trace_sd" in metrics


def test_the_final_curvature_is_that_of_the_static_loss(tmp_path: Path) -> None:
    """Against the dense Hessian of the parameters that the run ended with."""
    study = recorded(engine="autograd")  # chaos: the same engine
    block = next_block(session_of(study, tmp_path))
    row = trained(study, block).members.iloc[0]
    problem = study.problem(block.arm, block.trials[0].point)
    member = study.member(block.trials[0].point, int(row[keys.SEED]), problem)
    setup = Setup.build(problem, [member])
    network = copy.deepcopy(setup.networks[0])
    network.load_state_dict(AutogradEngine(setup).run().parameters[0])
    operator = HessianOperator(
        network, "cross_entropy", setup.splits[0].train, torch.ones(3, dtype=torch.float64)
    )
    dense = operator.dense()
    largest = float(torch.linalg.eigvalsh(dense)[-1])
    assert row[keys.FINAL_HESSIAN_LAMBDA_MAX] == pytest.approx(largest, rel=1e-5)
    error = 6 * row[keys.FINAL_HESSIAN_TRACE_ERROR]
    assert row[keys.FINAL_HESSIAN_TRACE] == pytest.approx(float(dense.trace()), abs=error)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"training": {"batch_size": 10}}, "their noise alone makes the loss alternate"),
        (
            {"space": {"extends": "spirals-mlp", "parameters": {"period": {"low": 4}}}},
            "the class weights alone make the loss alternate",
        ),
    ],
)
def test_instabilities_that_cannot_be_told_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        recorded(**change)


@pytest.mark.slow
def test_a_wide_residual_network_under_a_rate_that_follows_its_curvature() -> None:
    follows = {"curvature": {"every": 2, "target": 0.001, "samples": 20}}
    study = tiny_study(
        **CONFIRM,
        winners=WINNERS,
        data="digits",
        model={"name": "wide_resnet", "depth": 10, "widening": 1},
        training={"batch_size": 64, "learning_rate_schedule": follows},
        budget={"total": 5, "static_tail": 1, "evaluate_every": 2},
        record={
            "curvature_every": 2,
            "curvature_samples": 20,
            "trace_probes": 2,
            "final_curvature": True,
        },
    )
    block = Block(
        "confirm", "static", 0, (Trial(0, {"learning_rate": 0.1, "amplitude": 1.0}),), (7,)
    )
    run = BlockRun(study, block)
    reports = [progress.means for progress in run.progress()]
    result = run.result()
    curvature = result.recorded["curvature"]
    assert curvature[keys.STEP].tolist() == [0, 2, 4]
    for name in (*keys.CURVATURE_METRICS, *keys.TRACE_METRICS, keys.LEARNING_RATE):
        assert np.isfinite(curvature[name].astype(float)).all()
    np.testing.assert_allclose(
        curvature[keys.LEARNING_RATE] * curvature[keys.HESSIAN_LAMBDA_MAX], 0.001, rtol=1e-3
    )
    curves = result.curves.set_index(keys.STEP)
    same = curvature.set_index(keys.STEP)
    for name in (*keys.CURVE_CURVATURE_METRICS, keys.LEARNING_RATE):
        np.testing.assert_allclose(curves[name][[0, 2, 4]], same[name])
        assert all(name in report for report in reports[:3])
    final = result.members.iloc[0]
    assert np.isfinite([final[name] for name in keys.FINAL_CURVATURE_METRICS]).all()


def test_a_stable_run_beside_an_unstable_one(tmp_path: Path) -> None:
    """A run without instabilities must not turn the flags of another one's into numbers."""
    parameters = {
        "period": {"type": "const", "value": 300, "unit": "steps"},
        "amplitude": {"type": "const", "value": 20.0},
        "learning_rate": {"type": "choice", "values": [0.01, 10.0]},
    }
    space = {"extends": "spirals-mlp", "name": "two", "points": [], "parameters": parameters}
    study = recorded(**MAP, winners=None, grid={}, space=space)
    session = session_of(study, tmp_path)
    finish(session)
    rows = session.folder.parts.gather("instabilities")
    assert set(rows[keys.LEARNING_RATE]) == {10.0}
    assert rows["begins_before"].dtype == bool
    write_results(session.stored)
