"""Recorded runs: their instabilities, and the six-row figure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dynloss_core import keys
from studies.analysis.figures.landscape.trajectory import draw_trajectory
from studies.analysis.landscape.instabilities import kernel_falls, sentences
from studies.analysis.landscape.recorded_runs import RecordedRun, Recordings, recordings
from tests.studies.analysis.unstable_runs import unstable_runs


def test_known_instabilities_and_their_curvature() -> None:
    found = unstable_runs()
    table = found.table()
    assert table[keys.SEED].tolist() == [0, 1]
    assert table["onset"].to_numpy() == pytest.approx([600, 620], abs=2)
    assert table["hessian_before"].to_numpy() == pytest.approx([2.0, 2.0], abs=0.06)
    assert (table["ntk_after"] < table["ntk_before"]).all()
    assert table["hessian_at_onset"].to_numpy() == pytest.approx([2.0, 2.0], abs=0.01)
    first, sharp, kernel, calm, end = sentences(found)
    assert first.startswith("2 of 2 runs of dynamical become unstable, 1.0 ± 0.0 times per run")
    assert "n = 2 instabilities; on a quadratic, this optimiser is stable below 2" in sharp
    assert "falls across 2 of 2" in kernel
    assert "against" in kernel
    assert calm == "0 of 1 runs of static become unstable."
    assert "static 1.25, training accuracy 0.900 (n = 1)" in end


def test_a_kernel_that_falls_in_every_period_is_no_effect_of_an_instability() -> None:
    """It falls by a tenth in each period at the same place, with and without an instability, but
    for one run, where the instability adds another tenth."""
    steps = np.arange(0, 5001, 20)
    within = steps % 1000
    for extra in (0.0, 0.1):
        kernel = 100.0 * 0.9 ** (steps // 1000 + (within >= 700))
        kernel = np.where(steps >= 2800, kernel * (1 - extra), kernel)
        one = {
            "onset": 2600, "end": 2800, "begins_before": False, "period_number": 2,
            "ntk_before": kernel[130], "ntk_after": kernel[140],
        }  # fmt: skip
        run = RecordedRun(
            arm="random",
            seed=0,
            point={keys.PERIOD: 1000},
            instabilities=pd.DataFrame([one]),
            trace=pd.DataFrame(),
            curvature=pd.DataFrame({keys.STEP: steps, keys.NTK_LAMBDA_MAX: kernel}),
            final_accuracy=0.9,
            stop=5000,
        )
        found = kernel_falls(run)
        assert found["fall"].tolist() == pytest.approx([1 - 0.9 * (1 - extra)])
        assert found["placebo"].tolist() == pytest.approx([0.1])
        early = kernel_falls(replace(run, stop=2800))  # two earlier periods are left
        assert early["placebo"].tolist() == pytest.approx([0.1])
        assert kernel_falls(replace(run, point={}))["placebo"].isna().all()


def test_runs_that_were_watched_and_stayed_calm_are_counted() -> None:
    calm = unstable_runs().runs[-1]
    assert calm.instabilities.empty
    assert "0 of 1 runs of static become unstable." in sentences(Recordings((calm,)))
    assert sentences(Recordings((calm,), watched=False)) == []


def test_winners_of_several_searches_are_counted_together_and_points_of_a_map_are_not() -> None:
    runs = unstable_runs().runs
    first, second = (run for run in runs if run.arm == "dynamical")
    other = replace(second, point={**second.point, "learning_rate": 0.7})
    found = replace(unstable_runs(), runs=(first, other))
    assert sentences(found) == []
    told = sentences(replace(found, winners=True))
    assert told[0].startswith("2 of 2 runs of dynamical become unstable, 1.0 ± 0.0 times per run")


def test_the_figure_has_the_papers_six_rows() -> None:
    figure = draw_trajectory(unstable_runs().runs[0])
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
