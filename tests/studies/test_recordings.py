"""Runs recorded step by step: tables, resume, instabilities, the six-row figure."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from dynloss_core import keys
from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.config import ConfigError
from dynloss_core.landscape import HessianOperator
from dynloss_core.landscape.curvature_samples import CurvatureSamples
from dynloss_core.landscape.instabilities import find_instabilities
from dynloss_core.training import AutogradEngine, Setup
from studies.analysis.figures import draw_trajectory
from studies.analysis.landscape.recorded_runs import Recordings, recordings
from studies.blocks.block import Block, Trial
from studies.blocks.block_run import BlockRun
from studies.blocks.recorder import instability_rows
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.report.study_results import write_results
from tests.studies.sessions import finish, session_of, tracker_of

RECORDED = """\
schema: 1
name: recorded
mode: confirm
data: {name: spirals, points_per_class: 10}
model: {name: mlp, width: 8}
training: {dtype: float64}
budget: {total: 400, static_tail: 100, evaluate_every: 50}
space: spirals-mlp
winners:
  dynamical: {period: 300, amplitude: 20.0, learning_rate: 10.0}
  static: {learning_rate: 1.0}
confirm_seeds: 3
record:
  {seeds: 2, trace: true, instabilities: true, curvature_every: 20, valley_every: 40,
   final_curvature: true}
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "recorded.yaml"
    path.write_text(RECORDED)
    return load_study(path)


def test_every_step_and_the_curvature_of_the_seeds_asked_for(study: Study, tmp_path: Path) -> None:
    session = session_of(study, tmp_path)
    finish(session)
    results = write_results(study, session.folder)
    tables = session.folder.tables
    traces = pd.read_parquet(tables / "traces.parquet")
    curvature = pd.read_parquet(tables / "curvature.parquet")
    first_two = study.fresh_seeds()[:2]
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
    recorded = recordings(members, session.folder.parts.gather_all())
    assert recorded is not None
    assert [(run.arm, run.seed) for run in recorded.runs] == [
        (arm, seed) for arm in (keys.DYNAMICAL, keys.STATIC) for seed in first_two
    ]
    assert (tables / "instabilities.csv").exists()
    drawn = {path.name for path in results.figures}
    assert {"trajectory_dynamical.png", "trajectory_static.svg"} <= drawn
    assert {"valleys.png", "valleys.svg", "valley_moving.gif", "valley_moving.png"} <= drawn
    page = session.folder.report.read_text()
    assert page.count("data:image/gif;base64,") == 1
    assert "The valley, moving" in page
    assert "At the last measurement lambda_max is" in session.folder.report.read_text()


def test_recording_changes_nothing_and_survives_a_checkpoint(study: Study, tmp_path: Path) -> None:
    session = session_of(study, tmp_path)
    block = session.next_block()
    assert block is not None
    whole = BlockRun(study, block)
    list(whole.progress())
    first = BlockRun(study, block)
    for count, _ in enumerate(first.progress()):
        if count == 4:
            break
    save_checkpoint(tmp_path / "block.pt", first.state_dict())
    second = BlockRun(study, block)
    state = load_checkpoint(tmp_path / "block.pt")
    assert state is not None
    assert second.load_state_dict(state)
    list(second.progress())
    found, expected = second.result(), whole.result()
    pd.testing.assert_frame_equal(found.curves, expected.curves)
    assert set(found.recorded) == {"traces", "curvature", "instabilities", "valleys"}
    assert len(found.recorded["instabilities"])
    for kind, frame in found.recorded.items():
        pd.testing.assert_frame_equal(frame, expected.recorded[kind])
    pd.testing.assert_frame_equal(
        found.members.drop(columns=keys.SECONDS), expected.members.drop(columns=keys.SECONDS)
    )


def synthetic() -> Recordings:
    """Two dynamical runs that go unstable at steps 600 and 620 of a period of 1000, when the
    sharpness passes 2, and a static one that never does."""
    steps = np.arange(2000)
    members, traces, curvature, unstable = [], [], [], []
    for arm, seed, onset in (
        (keys.DYNAMICAL, 0, 600),
        (keys.DYNAMICAL, 1, 620),
        (keys.STATIC, 0, None),
    ):
        identity = {
            keys.STUDY: "synthetic",
            keys.BLOCK: 0,
            keys.PHASE: "confirm",
            keys.ARM: arm,
            keys.TRIAL: 0,
            keys.SEED: seed,
        }
        loss = 1.0 - steps / 4000
        at = np.arange(0, 2001, 20)
        sharp = 0.5 + 1.5 * at / (onset or 4000)
        kernel = 100.0 + at * 0.1 - (0 if onset is None else 80.0 * (at >= onset + 200))
        if onset is not None:
            inside = (steps >= onset) & (steps < onset + 200)
            loss = loss + inside * 0.2 * (-1.0) ** steps
            samples = CurvatureSamples(at, sharp, kernel)
            found = find_instabilities(loss, period=1000, stop=2000, curvature=samples)
            unstable.append(instability_rows(pd.Series(identity), found, torch.ones(len(found))))
        rows = pd.DataFrame({**identity, keys.STEP: steps, keys.WEIGHTED_LOSS: loss})
        rows[keys.LOSS], rows[keys.ACCURACY] = loss, steps / 2000
        for c in range(3):
            rows[f"{keys.CLASS_WEIGHT}_{c}"] = 1.0
        traces.append(rows)
        curvature.append(
            pd.DataFrame(
                {
                    **identity,
                    keys.STEP: at,
                    keys.HESSIAN_LAMBDA_MAX: sharp,
                    keys.LEARNING_RATE: 1.0,
                    keys.NTK_LAMBDA_MAX: kernel,
                }
            )
        )
        members.append(
            {
                **identity,
                keys.PERIOD: 1000 if onset is not None else None,
                keys.RECORDED: True,
                keys.LEARNING_RATE: 1.0,
                keys.TRAIN_ACCURACY: 0.9,
            }
        )
    tables = {"traces": traces, "curvature": curvature, "instabilities": unstable}
    found = recordings(pd.DataFrame(members), {k: pd.concat(each) for k, each in tables.items()})
    assert found is not None
    return found


def test_known_instabilities_and_their_curvature() -> None:
    found = synthetic()
    table = found.table()
    assert table[keys.SEED].tolist() == [0, 1]
    assert table["onset"].to_numpy() == pytest.approx([600, 620], abs=2)
    assert table["hessian_before"].to_numpy() == pytest.approx([2.0, 2.0], abs=0.06)
    assert (table["ntk_after"] < table["ntk_before"]).all()
    first, sharp, kernel, end = found.sentences()
    assert "2 of 2 runs" in first
    assert "n = 2 instabilities" in sharp
    assert "falls across 2 of 2" in kernel
    assert "static one; training accuracy 0.900" in end


def test_the_figure_has_the_papers_six_rows() -> None:
    figure = draw_trajectory(synthetic().runs[0])
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels[:4] == ["class weight Γ", "F", "F(t) − F(t−1)", "accuracy"]
    assert ["Hessian" in labels[4], "NTK" in labels[5]] == [True, True]
    assert figure.axes[1].get_yscale() == figure.axes[4].get_yscale() == "log"
    assert figure.axes[5].get_xlabel() == "step"
    for axes in figure.axes:
        assert len([patch for patch in axes.patches if patch.get_alpha() == 0.25]) == 1
    assert "1 instabilities" not in figure.get_suptitle()


def test_nothing_recorded_is_nothing_to_say() -> None:
    assert recordings(pd.DataFrame(), {}) is None


def test_curvature_reaches_the_curves_and_mlflow(study: Study, tmp_path: Path) -> None:
    session = session_of(study, tmp_path)
    finish(session)
    curves = session.folder.parts.gather("curves")
    own = curves[curves[keys.SEED] == study.fresh_seeds()[0]]
    measured = session.folder.parts.gather("curvature")
    for arm in study.arms:
        at_100 = own[(own[keys.ARM] == arm) & (own[keys.STEP] == 100)]
        exact = measured[
            (measured[keys.ARM] == arm)
            & (measured[keys.SEED] == study.fresh_seeds()[0])
            & (measured[keys.STEP] == 100)
        ]
        assert at_100[keys.HESSIAN_LAMBDA_MAX].item() == exact[keys.HESSIAN_LAMBDA_MAX].item()
    last = curves[curves[keys.SEED] == study.fresh_seeds()[2]]
    assert last[keys.HESSIAN_LAMBDA_MAX].isna().all()  # not probed
    client = MlflowClient(tracker_of(session).uri)
    run = tracker_of(session).runs()["mlflow_run"].iloc[0]
    history = client.get_metric_history(run, keys.NTK_LAMBDA_MAX)
    assert [each.step for each in history] == list(range(0, 401, 50))
    metrics = client.get_run(run).data.metrics
    assert metrics["final_hessian_lambda_max"] > 0
    assert "final_hessian_trace_sd" in metrics


def test_the_final_curvature_is_that_of_the_static_loss(study: Study, tmp_path: Path) -> None:
    """Against the dense Hessian of the parameters that the run ended with."""
    study = load_study(tmp_path / "recorded.yaml", ["engine=autograd"])  # chaos: the same engine
    block = session_of(study, tmp_path).next_block()
    assert block is not None
    run = BlockRun(study, block)
    list(run.progress())
    row = run.result().members.iloc[0]
    problem = study.problem(block.trials[0].point)
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
        ("training.batch_size=10", "their noise alone turns the loss"),
        (
            "space={extends: spirals-mlp, name: short, parameters: {period: {low: 4}}}",
            "the class weights alone turn the loss",
        ),
    ],
)
def test_instabilities_that_cannot_be_told_are_refused(
    study: Study, tmp_path: Path, change: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_study(tmp_path / "recorded.yaml", [change])


MEASURED = """\
schema: 1
name: measured
mode: confirm
data: {name: digits}
model: {name: wide_resnet, depth: 10, widening: 1}
training:
  batch_size: 64
  learning_rate_schedule: {curvature: {every: 2, target: 0.001, samples: 20}}
budget: {total: 5, static_tail: 1, evaluate_every: 2}
space: spirals-mlp
winners:
  dynamical: {period: 300, amplitude: 20.0, learning_rate: 0.1}
  static: {learning_rate: 0.1}
confirm_seeds: 2
record: {curvature_every: 2, curvature_samples: 20, trace_probes: 2, final_curvature: true}
"""


def test_a_wide_residual_network_under_a_rate_that_follows_its_curvature(tmp_path: Path) -> None:
    path = tmp_path / "measured.yaml"
    path.write_text(MEASURED)
    study = load_study(path)
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


def test_a_stable_run_beside_an_unstable_one(study: Study, tmp_path: Path) -> None:
    """A run without instabilities must not turn the flags of another one's into numbers."""
    text = (tmp_path / "recorded.yaml").read_text()
    text = text.replace("mode: confirm", "mode: map").replace("confirm_seeds: 3\n", "")
    before, _, after = text.partition("winners:")
    space = (
        "grid: {}\nseeds_per_point: 2\nblock_size: 2\n"
        "space: {extends: spirals-mlp, name: two, points: [], parameters: {period: "
        "{type: const, value: 300, unit: steps}, amplitude: {type: const, value: 20.0}, "
        "learning_rate: {type: choice, values: [0.01, 10.0]}}}\n"
    )
    text = before.replace("space: spirals-mlp\n", space) + "record:" + after.split("record:")[1]
    (tmp_path / "two.yaml").write_text(text.replace("name: recorded", "name: two"))
    study = load_study(tmp_path / "two.yaml")
    session = session_of(study, tmp_path)
    finish(session)
    rows = session.folder.parts.gather("instabilities")
    assert set(rows[keys.LEARNING_RATE]) == {10.0}
    assert rows["begins_before"].dtype == bool
    write_results(study, session.folder)
