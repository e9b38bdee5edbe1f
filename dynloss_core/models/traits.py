"""What an engine must know about a network, found from its layers and never from its name.

An engine that splits a batch, stacks networks or replays a recorded step is correct only for
networks that allow it. For an unknown layer the worst is assumed: only the reference engine trains
its network, with whole batches.
"""

from __future__ import annotations

import itertools
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
"""Layers of torch that treat samples independently, draw no random numbers and keep no state. A
user's own class declares with `samplewise = True` that the same holds for what it does besides its
layers. Subclasses do not inherit such declarations, because they may do something else."""

# torch has no public way to ask whether a module has hooks
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Traits:
    """What decides how a network can be trained.

    Args:
        couples_samples: whether a sample's output depends on the rest of its batch, by batch
            statistics or their running averages.
        draws: whether training steps draw random numbers.
        buffers: whether it holds more than trained parameters.
        unusual: why only the reference engine is sure to train it correctly; None if every engine
            is.
        relu_mlp: the sizes of a plain multilayer perceptron: inputs, units of each hidden layer,
            outputs. Its class declares `relu_mlp = True`: a sample is flattened and goes through
            `layers`, linear with biases, with a ReLU between any two. None for other networks.
        channels: the largest number of channels in a plain stack of convolutions, whose class
            declares `convolutions_only = True`. None for other networks.
    """

    couples_samples: bool
    draws: bool
    buffers: bool
    unusual: str | None
    relu_mlp: tuple[int, ...] | None
    channels: int | None

    @property
    def one_hidden_layer(self) -> tuple[int, int, int] | None:
        """Inputs, hidden units and outputs of a `relu_mlp` with one hidden layer, else None."""
        sizes = self.relu_mlp or ()
        return (sizes[0], sizes[1], sizes[2]) if len(sizes) == 3 else None


def traits_of(network: nn.Module) -> Traits:
    """The traits of a network as it is built."""
    layers = list(network.modules())
    unusual = next(_unusual(network), None)
    known = all(_is_known(layer) for layer in layers)
    return Traits(
        couples_samples=not known or any(_keeps_statistics(layer) for layer in layers),
        draws=not known or any(isinstance(layer, _DropoutNd) and layer.p > 0 for layer in layers),
        buffers=next(network.buffers(), None) is not None,
        unusual=unusual,
        relu_mlp=_relu_mlp(network) if unusual is None else None,
        channels=_channels(network),
    )


def _says(layer: nn.Module, trait: str) -> bool:
    """Whether the very class of a layer declares a trait."""
    return bool(vars(type(layer)).get(trait, False))


def _is_known(layer: nn.Module) -> bool:
    if "forward" in vars(layer) or any(getattr(layer, hooks) for hooks in _HOOKS):
        return False
    kind = type(layer)
    looked_into = isinstance(layer, _NormBase | _DropoutNd) and kind.__module__.startswith("torch.")
    return looked_into or kind in _SAMPLEWISE or kind is Dropout or _says(layer, "samplewise")


def _is_torchs(layer: nn.Module) -> bool:
    return type(layer).__module__.startswith("torch.")


def _relu_mlp(network: nn.Module) -> tuple[int, ...] | None:
    """Its sizes, if it declares itself a plain multilayer perceptron and holds nothing else."""
    linear = [layer for layer in network.modules() if type(layer) is nn.Linear]
    kinds = {type(layer) for layer in network.modules()}
    if not _says(network, "relu_mlp") or kinds != {type(network), nn.ModuleList, nn.Linear}:
        return None
    sizes = linear[0].in_features, *(layer.out_features for layer in linear)
    expected: dict[str, tuple[int, ...]] = {}
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        expected[f"layers.{index}.weight"] = (after, before)
        expected[f"layers.{index}.bias"] = (after,)
    held = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return sizes if held == expected else None


def _channels(network: nn.Module) -> int | None:
    if not _says(network, "convolutions_only"):
        return None
    every = [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return max(every, default=None)


def _keeps_statistics(layer: nn.Module) -> bool:
    by_batch = isinstance(layer, _BatchNorm)
    return by_batch or (isinstance(layer, _NormBase) and layer.track_running_stats)


def _unusual(network: nn.Module) -> Iterator[str]:
    """Everything that engines other than the reference cannot handle, in words."""
    for layer in network.modules():
        called = type(layer).__name__
        if not _is_known(layer):
            remedy = " (`samplewise = True` in its class says: each sample by itself)"
            yield f"how {called} treats a batch is unknown{'' if _is_torchs(layer) else remedy}"
        elif isinstance(layer, _DropoutNd) and layer.p > 0 and type(layer) is not Dropout:
            yield f"what torch's {called} drops depends on the memory layout of activations"
        elif isinstance(layer, _BatchNorm) and not layer.track_running_stats:
            yield f"{called} without running statistics normalises by the batch in evaluation too"
    everything = list(network.named_parameters(remove_duplicate=False))
    if len(everything) > len({id(tensor) for _, tensor in everything}):
        yield "some of its parameters are shared"
    for name, tensor in everything:
        if not tensor.requires_grad:
            yield f"its parameter {name!r} is not trained"
    saved = network.state_dict()
    for name, _ in network.named_buffers():
        if name not in saved:
            yield f"its state_dict omits the buffer {name!r}"
