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
from torch import Tensor

from dynloss_core.data import Labelled, SpiralsConfig, Splits
from dynloss_core.models import MLP, MLPConfig
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    Engine,
    FusedCPUEngine,
    FusedCUDAEngine,
    Member,
    Problem,
    Setup,
)

TOLERANCE = 1e-9
_ALTERNATIONS = 10


def first_instability(weighted_loss: np.ndarray) -> int:
    """The first index at which F rises and falls in turn for ten steps running; the length if
    there is none."""
    sign = np.sign(np.diff(weighted_loss))
    turns = sign[1:] * sign[:-1] < 0
    run = 0
    for index, turn in enumerate(turns):
        run = run + 1 if turn else 0
        if run == _ALTERNATIONS:
            return index - _ALTERNATIONS + 1
    return len(weighted_loss)


def as_setup(stored: dict[str, np.ndarray], steps: int) -> Setup:
    """The run of a reference file as an ensemble of one."""
    width, rate = int(stored["width"]), float(stored["learning_rate"])
    problem = Problem(
        data=SpiralsConfig(),
        model=MLPConfig(width=width),
        dtype="float64",
        steps=steps,
        static_tail=0,
        evaluate_every=1,
    )
    network = MLP(2, [width], 3).double()
    with torch.no_grad():
        for layer, name in zip(network.layers, "12", strict=True):
            layer.weight.copy_(torch.from_numpy(stored[f"W{name}"].T))
            layer.bias.copy_(torch.from_numpy(stored[f"b{name}"]))
    train = Labelled(torch.from_numpy(stored["X"]), torch.from_numpy(stored["y"]).long())
    weights = torch.cat([torch.ones(1, 3), torch.from_numpy(stored["class_weights"])])

    def class_weights(indices: Tensor) -> Tensor:
        chosen = weights.to(indices.device)[indices]  # engines may ask on their own device
        return chosen[:, None].double()  # (n, 1, C); update s uses the weights of s - 1

    return Setup(
        problem,
        (Member(rate, seed=0),),
        (Splits(train, train, train, 3),),
        (network,),
        class_weights,
    )


@pytest.mark.parametrize(
    ("engine", "device"),
    [
        (AutogradEngine, "cpu"),
        (BatchedEngine, "cpu"),
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
