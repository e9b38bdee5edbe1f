"""Multilayer perceptron: inputs -> (width, ReLU) x depth -> classes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from torch import Tensor, nn

from dynloss_core.config import ConfigError

__all__ = ["MLP", "Initialisation", "MLPConfig"]

Initialisation = Literal["lecun_normal", "glorot_normal"]


@dataclass(frozen=True)
class MLPConfig:
    """A multilayer perceptron.

    Args:
        width: units in each hidden layer, >= 1.
        depth: number of hidden layers, >= 0 (0 is a linear classifier).
        initialisation: of the weights; biases start at 0 and are trained. `lecun_normal` has
            variance 1 / fan_in and is what the published spiral figure came from; `glorot_normal`
            has variance 2 / (fan_in + fan_out).
    """

    name: Literal["mlp"] = "mlp"
    width: int = 100
    depth: int = 1
    initialisation: Initialisation = "lecun_normal"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError("width", f"{self.width} is below 1", "use >= 1")
        if self.depth < 0:
            raise ConfigError("depth", f"{self.depth} is negative", "use >= 0")

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> MLP:
        """The network, with parameters not yet drawn (see `MLP.initialise`)."""
        return MLP(math.prod(input_shape), [self.width] * self.depth, num_classes)


class MLP(nn.Module):
    """Fully connected ReLU network.

    Args:
        inputs: size of one flattened sample.
        hidden: units of each hidden layer.
        outputs: C.
    """

    def __init__(self, inputs: int, hidden: list[int], outputs: int) -> None:
        super().__init__()
        sizes = [inputs, *hidden, outputs]
        self.layers = nn.ModuleList(
            nn.Linear(before, after) for before, after in itertools.pairwise(sizes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (N, C) of inputs (N, ...)."""
        hidden = inputs.flatten(1)
        for layer in self.layers[:-1]:
            hidden = F.relu(layer(hidden))
        return self.layers[-1](hidden)  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialise(self, scheme: Initialisation, draws: np.random.Generator) -> MLP:
        """Draw the weights by `scheme` and set the biases to 0, in place.

        The draws are made in float64, so that networks of different dtypes start alike.
        """
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            fan_out, fan_in = layer.weight.shape
            variance = 1 / fan_in if scheme == "lecun_normal" else 2 / (fan_in + fan_out)
            weight = draws.standard_normal((fan_out, fan_in)) * math.sqrt(variance)
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.zero_()
        return self
