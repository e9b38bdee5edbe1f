"""The authors' runs as files hold them, and how to run them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dynloss_core.data import Labelled, SpiralsConfig, Splits
from dynloss_core.models import MLP, MLPConfig
from dynloss_core.training import Member, Problem, Setup

GOLDEN = Path(__file__).parent
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
