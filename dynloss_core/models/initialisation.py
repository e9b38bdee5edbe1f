"""How the weights of a network are drawn; biases start at 0 and are trained.

Published figures of the spirals came from `lecun_normal` with zero biases, and are not reached
without the biases.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import nn

__all__ = ["Initialisation", "initialise"]

Initialisation = Literal["lecun_normal", "glorot_normal", "he_normal"]

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def initialise(network: Network, scheme: Initialisation, draws: np.random.Generator) -> Network:
    """Draw the weights of all linear and convolutional layers, in place.

    The draws are made in float64, so that networks of different dtypes start alike.

    Args:
        network: whose layers.
        scheme: `lecun_normal` has variance 1 / fan_in; `glorot_normal` 2 / (fan_in + fan_out);
            `he_normal` 2 / fan_in, which keeps the variance behind a ReLU (He et al., ICCV 2015,
            arXiv:1502.01852).
        draws: where the numbers come from.
    """
    for layer in network.modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        weight = layer.weight  # (out, in) or (out, in, height, width)
        field = math.prod(weight.shape[2:])
        fan_out, fan_in = weight.shape[0] * field, weight.shape[1] * field
        drawn = draws.standard_normal(tuple(weight.shape)) * math.sqrt(
            _variance(scheme, fan_in, fan_out)
        )
        weight.copy_(torch.from_numpy(drawn))
        if layer.bias is not None:
            layer.bias.zero_()
    return network


def _variance(scheme: Initialisation, fan_in: int, fan_out: int) -> float:
    if scheme == "glorot_normal":
        return 2 / (fan_in + fan_out)
    return (2 if scheme == "he_normal" else 1) / fan_in
