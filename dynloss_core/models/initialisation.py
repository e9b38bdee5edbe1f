"""How the weights of a network are drawn; biases start at 0 and are trained.

The published figures of the spirals used `lecun_normal` and zero biases; without biases they cannot
be reproduced.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar, assert_never

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from dynloss_core.config import ConfigError

__all__ = ["Initialisation", "initialise", "is_left_as_built"]

Initialisation = Literal["lecun_normal", "glorot_normal", "he_normal"]

Network = TypeVar("Network", bound=nn.Module)

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONSTANT = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.PReLU)
_HOLDERS = (nn.ParameterList, nn.ParameterDict)


@torch.no_grad()
def initialise(network: Network, scheme: Initialisation, draws: np.random.Generator) -> Network:
    """Draw the weights of all layers, in place.

    - linear and convolutional layers: the scheme, and biases of 0;
    - embeddings: standard normal, whatever the scheme, and 0 at a padding index;
    - normalisations and PReLU: torch's own constants, unchanged;
    - parameters that a user's own module holds itself: as they were built (`Setup.build` builds
      under the random state of the seed).

    A parameter shared by several layers is drawn once, for the first of them. The draws are made in
    float64, so that networks of different dtypes start alike.

    Args:
        network: the network to initialise.
        scheme: `lecun_normal` has variance 1 / fan_in; `glorot_normal` 2 / (fan_in + fan_out);
            `he_normal` 2 / fan_in, which keeps the variance behind a ReLU (He et al., ICCV 2015,
            arXiv:1502.01852).
        draws: where the numbers come from.

    Raises:
        ConfigError: for one of torch's layers without a rule.
    """
    for name, layer in network.named_modules():
        _refuse_without_rule(name, layer)
    done: set[int] = set()
    for layer in network.modules():
        named = layer.named_parameters(recurse=False)
        own = {name: tensor for name, tensor in named if id(tensor) not in done}
        done.update(id(tensor) for tensor in own.values())
        if isinstance(layer, _WEIGHTED):
            if "weight" in own:
                variance = _variance(scheme, *_fans(own["weight"]))
                _draw(own["weight"], draws, math.sqrt(variance))
            if "bias" in own:
                own["bias"].zero_()
        elif isinstance(layer, nn.Embedding) and "weight" in own:
            _draw(own["weight"], draws, 1.0)
            if layer.padding_idx is not None:
                own["weight"][layer.padding_idx] = 0
    return network


def is_left_as_built(layer: nn.Module) -> bool:
    """Whether the parameters that a module holds itself stay as they were built."""
    return isinstance(layer, _HOLDERS) or not type(layer).__module__.startswith("torch.")


def _refuse_without_rule(name: str, layer: nn.Module) -> None:
    if is_left_as_built(layer) or isinstance(layer, _CONSTANT):
        return
    ruled = {"weight", "bias"} if isinstance(layer, _WEIGHTED) else set()
    ruled = {"weight"} if isinstance(layer, nn.Embedding) else ruled
    others = {own for own, _ in layer.named_parameters(recurse=False)} - ruled
    if others:
        raise ConfigError(
            "model",
            f"the layer {name!r} ({type(layer).__name__}) has no rule to initialise its "
            f"{', '.join(sorted(others))}",
            "use linear, convolutional, embedding or normalisation layers, or hold parameters in a "
            "module of your own",
        )


def _draw(weight: Tensor, draws: np.random.Generator, deviation: float) -> None:
    weight.copy_(torch.from_numpy(draws.standard_normal(tuple(weight.shape)) * deviation))


def _fans(weight: Tensor) -> tuple[int, int]:
    """fan_in and fan_out of a weight (out, in, *field)."""
    field = math.prod(weight.shape[2:])
    return weight.shape[1] * field, weight.shape[0] * field


def _variance(scheme: Initialisation, fan_in: int, fan_out: int) -> float:
    if scheme == "lecun_normal":
        return 1 / fan_in
    if scheme == "glorot_normal":
        return 2 / (fan_in + fan_out)
    if scheme == "he_normal":
        return 2 / fan_in
    assert_never(scheme)
