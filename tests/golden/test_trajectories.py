"""Trajectories of the authors' update rule, which engines must follow.

`pytest tests/golden --trajectory FILE.npz` runs the same check on any file in the reference format:
arrays X, y, W1, b1, W2, b2, per-step loss, weighted_loss, accuracy and class_weights, and the
scalars width and learning_rate. The stored class weights drive the run, for the published periods
are one step longer than T. Beyond the first instability the dynamics is chaotic and not compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    Engine,
    FusedCPUEngine,
    FusedCUDAEngine,
)
from tests.golden.reference_runs import as_setup, first_instability

TOLERANCE = 1e-9


@pytest.mark.parametrize(
    ("engine", "device"),
    [
        pytest.param(AutogradEngine, "cpu", marks=pytest.mark.slow),
        pytest.param(BatchedEngine, "cpu", marks=pytest.mark.slow),
        (FusedCPUEngine, "cpu"),
        pytest.param(
            FusedCUDAEngine,
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
        ),
    ],
)
def test_agrees_with_the_reference_up_to_the_first_instability(
    trajectory: Path, engine: type[Engine], device: str
) -> None:
    with np.load(trajectory) as file:
        stored = {name: file[name] for name in file.files}
    steps = first_instability(stored["weighted_loss"])
    assert steps > 100, "the file should hold a stretch that is not chaotic"
    setup = as_setup(stored, steps)
    found = list(engine(setup, device).evaluations())[1:]
    for name, key in {"loss": "train_loss", "weighted_loss": "weighted_loss"}.items():
        ours = np.array([getattr(each, key).item() for each in found])
        np.testing.assert_allclose(
            ours, stored[name][:steps], rtol=0, atol=TOLERANCE, err_msg=f"{name} of {trajectory}"
        )
    samples = len(stored["y"])  # the files hold accuracies in float32: compare what they count
    correct = np.array([each.train_accuracy.item() for each in found]) * samples
    expected = np.rint(stored["accuracy"][:steps].astype(float) * samples)
    np.testing.assert_allclose(correct, expected, rtol=0, atol=TOLERANCE * samples)
