"""Recorded runs: their instabilities, and the six-row figure."""

from __future__ import annotations

import pandas as pd
import pytest

from dynloss_core import keys
from studies.analysis.figures import draw_trajectory
from studies.analysis.landscape.recorded_runs import recordings
from tests.studies.analysis.unstable_runs import unstable_runs


def test_known_instabilities_and_their_curvature() -> None:
    found = unstable_runs()
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
