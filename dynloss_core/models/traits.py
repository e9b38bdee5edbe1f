"""What an engine must know of a network, found from its layers and never asked by its name.

An engine that splits a batch, stacks networks or repeats a recorded step is right only for networks
that allow it. What is not known is taken for the worst: such a network is trained by the reference
engine, a batch as a whole, and never otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

from dynloss_core.models.dropout import Dropout

__all__ = ["Traits", "traits_of"]

_SAMPLEWISE = frozenset({
    nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity, nn.Flatten, nn.Unflatten,
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding,
    nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm,
    nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
    nn.ConstantPad1d, nn.ConstantPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d,
    nn.ZeroPad1d, nn.ZeroPad2d,
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.GLU,
})  # fmt: skip
"""Layers of torch that treat each sample alone, draw nothing and keep nothing. A class of its own
that does so beside what its layers do says `samplewise = True` (subclasses say it anew)."""


@dataclass(frozen=True)
class Traits:
    """What decides how a network can be trained.

    Args:
        couples_samples: what a sample does depends on the batch that it comes with, by statistics
            of the batch or what is kept of them.
        draws: training steps draw random numbers.
        buffers: it holds more than trained parameters.
        unusual: why only the reference engine is sure to train it rightly; None if nothing is.
    """

    couples_samples: bool
    draws: bool
    buffers: bool
    unusual: str | None


def traits_of(network: nn.Module) -> Traits:
    """The traits of a network as it is built."""
    layers = list(network.modules())
    unusual = next(_unusual(network), None)
    known = all(_is_known(layer) for layer in layers)
    return Traits(
        couples_samples=not known or any(_keeps_statistics(layer) for layer in layers),
        draws=not known or any(isinstance(each, _DropoutNd) and each.p > 0 for each in layers),
        buffers=next(network.buffers(), None) is not None,
        unusual=unusual,
    )


def _is_known(layer: nn.Module) -> bool:
    kind = type(layer)
    declared = bool(vars(kind).get("samplewise", False))
    return declared or kind in _SAMPLEWISE or isinstance(layer, _NormBase | _DropoutNd)


def _keeps_statistics(layer: nn.Module) -> bool:
    by_batch = isinstance(layer, _BatchNorm)
    return by_batch or (isinstance(layer, _NormBase) and layer.track_running_stats)


def _unusual(network: nn.Module) -> Iterator[str]:
    """Everything that engines other than the reference do not count on, each in words."""
    for layer in network.modules():
        called = type(layer).__name__
        if not _is_known(layer):
            yield f"what {called} does with a batch is not known"
        elif isinstance(layer, _DropoutNd) and layer.p > 0 and type(layer) is not Dropout:
            yield f"what torch's {called} drops depends on how activations lie in memory"
        elif isinstance(layer, _BatchNorm) and not layer.track_running_stats:
            yield f"{called} without running statistics normalises evaluations by their batch too"
    everything = list(network.named_parameters(remove_duplicate=False))
    if len(everything) > len({id(tensor) for _, tensor in everything}):
        yield "some of its parameters are shared"
    for name, tensor in everything:
        if not tensor.requires_grad:
            yield f"its parameter {name!r} is not trained"
    saved = network.state_dict()
    for name, _ in network.named_buffers():
        if name not in saved:
            yield f"its state leaves out the buffer {name!r}"
