"""The rival in JAX trains the same networks; it is measured by `make bench`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynloss_core.data import SpiralsConfig
from dynloss_core.models import MLPConfig
from dynloss_core.training import Member, Problem, Setup, choose_engine
from tests.benchmarks.jax_scan import JaxScan

pytest.importorskip("jax")

STEPS = 60


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_it_trains_what_the_engine_trains(dtype: str) -> None:
    problem = Problem(
        data=SpiralsConfig(points_per_class=20),
        model=MLPConfig(width=6),
        dtype=dtype,  # type: ignore[arg-type]
        steps=10 * STEPS,
        static_tail=0,
        evaluate_every=10 * STEPS,
    )
    members = [Member(0.1 * (seed + 1), seed, period=20, amplitude=30.0) for seed in range(3)]
    setup = Setup.build(problem, members)
    before = {
        name: torch.stack([network.get_parameter(name) for network in setup.networks]).detach()
        for name, _ in setup.networks[0].named_parameters()
    }
    rival = JaxScan(setup)
    rival(STEPS // 3)
    rival(STEPS - STEPS // 3)
    engine = choose_engine(problem, "autograd", "cpu")(setup, "cpu")
    engine.train(STEPS)
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    for index in range(len(members)):
        for name, trained in engine.parameters(index).items():
            found = np.asarray(rival.parameters[name][index])
            assert found.dtype == dtype
            np.testing.assert_allclose(found, trained.detach().numpy(), atol=tolerance)
            assert abs(found - before[name][index].numpy()).max() > 1e-2, "it learned"
