"""Which tracker follows an ensemble, and what none can follow."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from dynloss_core.data import Labelled
from dynloss_core.landscape import LandscapeError, TrackedProblem, Tracking, choose_tracker
from dynloss_core.models import MLP
from tests.core.landscape.cases import labelled
from tests.core.landscape.ensembles import Ensemble


def test_the_fastest_that_can_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    ensemble = Ensemble()
    assert choose_tracker(ensemble.problem).name == "compiled"
    assert choose_tracker(ensemble.problem, "cuda").name == "stacked"
    assert choose_tracker(ensemble.problem, name="stacked").name == "stacked"
    wide = replace(ensemble.problem, network=MLP(9, [4], 3), data=[labelled(5, (9,), 3, seed=0)])
    assert choose_tracker(wide).name == "stacked"
    with pytest.raises(
        LandscapeError, match=r"the compiled tracker: it only follows networks with C"
    ):
        choose_tracker(wide, name="compiled")
    with pytest.raises(LandscapeError, match="no tracker 'fast'"):
        choose_tracker(wide, name="fast")  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LandscapeError, match="it needs numba"):
        choose_tracker(ensemble.problem, name="compiled")
    assert choose_tracker(ensemble.problem).name == "stacked"


def test_refuses_what_cannot_be_followed() -> None:
    data = labelled(8, (2,), 3, seed=0)
    network = MLP(2, [4], 3)
    with pytest.raises(LandscapeError, match="without members"):
        TrackedProblem(network, "cross_entropy", [data], [])
    with pytest.raises(LandscapeError, match="2 data sets for 3 members"):
        TrackedProblem(network, "cross_entropy", [data, data], [0, 1, 2])
    few = Labelled(data.inputs[:3], data.targets[:3])
    with pytest.raises(LandscapeError, match="differ in size"):
        TrackedProblem(network, "cross_entropy", [data, few], [0, 1])
    normalised = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3)).eval()
    problem = TrackedProblem(normalised, "cross_entropy", [data], [0])
    assert choose_tracker(problem).name == "sequential"
    with pytest.raises(LandscapeError, match="keeps running statistics"):
        choose_tracker(problem, name="stacked")
    with pytest.raises(LandscapeError, match="BatchNorm1d '0' is in training mode"):
        TrackedProblem(normalised.train(), "cross_entropy", [data], [0])
    with pytest.raises(LandscapeError, match=r"tolerance = 1\.5"):
        Tracking(tolerance=1.5)
    with pytest.raises(LandscapeError, match="ntk_samples = 1"):
        Tracking(ntk_samples=1)


def test_measures_where_only_torch_and_numpy_are() -> None:
    code = """
import sys
for name in ("scipy", "numba", "llvmlite", "pandas", "sklearn", "curvlinops", "ray", "yaml"):
    sys.modules[name] = None
import torch
from dynloss_core.data import Labelled
from dynloss_core.landscape import TrackedProblem, choose_tracker, stack_parameters
from dynloss_core.models import MLP
network = MLP(2, [4], 3)
problem = TrackedProblem(
    network, "cross_entropy", [Labelled(torch.rand(9, 2), torch.arange(9) % 3)], [0]
)
found = choose_tracker(problem)(problem).measure(
    stack_parameters([dict(network.named_parameters())]), torch.ones(1, 3)
)
assert found.hessian.converged.all()
"""
    root = Path(__file__).parents[4]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
