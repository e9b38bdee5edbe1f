"""Multilayer perceptron: inputs -> (width, ReLU) x depth -> classes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F  # noqa: N812  torch's own convention
from torch import Tensor, nn

from dynloss_core.config import refuse_other_choices
from dynloss_core.models.initialisation import Initialisation
from dynloss_core.models.sizes import require_size

__all__ = ["MLP", "MLPConfig"]


@dataclass(frozen=True)
class MLPConfig:
    """A multilayer perceptron.

    Args:
        width: units in each hidden layer, 1 to 10,000,000.
        depth: number of hidden layers, 0 (a linear classifier) to 1,000.
        initialisation: the initialisation of the weights, see `initialisation.initialise`.
    """

    name: Literal["mlp"] = "mlp"
    width: int = 100
    depth: int = 1
    initialisation: Initialisation = "lecun_normal"

    def __post_init__(self) -> None:
        refuse_other_choices(self)
        require_size("width", self.width, 1, 10_000_000)
        require_size("depth", self.depth, 0, 1_000)

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> MLP:
        """The network, with parameters not yet drawn (see `initialisation.initialise`)."""
        return MLP(math.prod(input_shape), [self.width] * self.depth, num_classes)


class MLP(nn.Module):
    """Fully connected ReLU network.

    Args:
        inputs: size of one flattened sample.
        hidden: units of each hidden layer.
        outputs: C.
    """

    samplewise: ClassVar[bool] = True
    relu_mlp: ClassVar[bool] = True

    def __init__(self, inputs: int, hidden: list[int], outputs: int) -> None:
        super().__init__()
        sizes = [inputs, *hidden, outputs]
        self.layers = nn.ModuleList(
            nn.Linear(before, after) for before, after in itertools.pairwise(sizes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, C) of inputs (N, ...)."""
        hidden, (*layers, last) = inputs.flatten(1), self.layers
        for layer in layers:
            hidden = F.relu(layer(hidden))
        logits: Tensor = last(hidden)
        return logits
