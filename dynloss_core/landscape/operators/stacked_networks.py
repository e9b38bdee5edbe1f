"""Curvature of an ensemble of networks of any kind without batch statistics, by `torch.func`.

Symbols
    M      members
    P      trainable parameters of a member, flattened in the order of their names
    N      samples
    n      samples of the tangent kernel
    C      classes
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap

from dynloss_core.losses import LossName, weighted_loss

__all__ = ["VmappedHessian", "VmappedNTK"]

Named = dict[str, Tensor]


class _Stacked:
    """Stacked parameters, and vectors (M, P) in their shape."""

    def __init__(self, network: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        self._network, self._parameters = network, dict(parameters)
        self._sizes = [tensor[0].numel() for tensor in parameters.values()]
        self._dtype = next(iter(parameters.values())).dtype

    def _named(self, vectors: Tensor) -> Named:
        parts = torch.split(vectors.to(self._dtype), self._sizes, dim=1)
        named = zip(self._parameters.items(), parts, strict=True)
        return {name: part.view_as(tensor) for (name, tensor), part in named}

    def _outputs(self, parameters: Named, inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._network, parameters, (inputs,))
        return outputs


class VmappedHessian(_Stacked):
    """Multiplies each row of (M, P) by the Hessian of its member's F.

    Args:
        network: the architecture, which has trained parameters only; their values are not used.
        parameters: stacked, named as in the network.
        loss: which dynamical loss.
        inputs: (M or 1, N, ...).
        targets: (M or 1, N) class indices.
        class_weights: (M, C) Gamma at the moment of the measurement; with `groups`, the weights
            (M, G) of the groups.
        groups: (M or 1, N) the group of each sample, which decides the sample's weight.
        max_samples_per_pass: samples times members seen together, which bounds the memory. A larger
            data set is split into batches, which changes nothing but the rounding.
    """

    def __init__(
        self,
        network: nn.Module,
        parameters: Mapping[str, Tensor],
        loss: LossName,
        inputs: Tensor,
        targets: Tensor,
        class_weights: Tensor,
        groups: Tensor | None = None,
        *,
        max_samples_per_pass: int = 4096,
    ) -> None:
        super().__init__(network, parameters)
        self._at_once = max_samples_per_pass
        members = len(class_weights)
        self._groups = None if groups is None else groups.expand(members, -1)
        self._loss = loss
        self._inputs = inputs.expand(members, *inputs.shape[1:])
        self._targets = targets.expand(members, -1)
        self._class_weights = class_weights.to(self._dtype)
        self.dimension = sum(self._sizes)

    def __call__(self, vectors: Tensor) -> Tensor:
        samples = self._targets.shape[1]
        batch = min(samples, self._at_once)
        product = vmap(self._product, chunk_size=max(1, self._at_once // batch))
        along = self._named(vectors)
        total = torch.zeros(vectors.shape, dtype=torch.float64, device=vectors.device)
        seen = [self._inputs, self._targets, *([] if self._groups is None else [self._groups])]
        parts = (torch.split(tensor, batch, dim=1) for tensor in seen)
        for inputs, targets, *groups in zip(*parts, strict=True):
            named = product(self._parameters, along, self._class_weights, inputs, targets, *groups)
            flat = torch.cat([named[name].flatten(1) for name in self._parameters], dim=1)
            total += targets.shape[1] / samples * flat
        return total.to(vectors.dtype)

    def _product(
        self, at: Named, along: Named, class_weights: Tensor, inputs: Tensor, *labels: Tensor
    ) -> Named:
        targets, *groups = labels

        def value(parameters: Named) -> Tensor:
            outputs = self._outputs(parameters, inputs)
            return weighted_loss(self._loss, outputs, targets, class_weights, *groups)

        product: Named = jvp(grad(value), (at,), (along,))[1]
        return product


class VmappedNTK(_Stacked):
    """Multiplies each row of (M, n) by its member's tangent kernel, averaged over the outputs.

    Args:
        network: the architecture; its own parameters are not used.
        parameters: stacked, named as in the network.
        inputs: (M or 1, n, ...).
        max_samples_per_pass: samples times members seen together, which bounds the memory.
    """

    def __init__(
        self,
        network: nn.Module,
        parameters: Mapping[str, Tensor],
        inputs: Tensor,
        *,
        max_samples_per_pass: int = 4096,
    ) -> None:
        super().__init__(network, parameters)
        self._at_once = max_samples_per_pass
        members = len(next(iter(parameters.values())))
        self._inputs = inputs.expand(members, *inputs.shape[1:])
        self.dimension = inputs.shape[1]

    def __call__(self, vectors: Tensor) -> Tensor:
        product = vmap(self._product, chunk_size=max(1, self._at_once // self.dimension))
        products = product(self._parameters, self._inputs, vectors.to(self._dtype))
        return products.to(vectors.dtype)

    def _product(self, at: Named, inputs: Tensor, row: Tensor) -> Tensor:
        of = partial(self._outputs, inputs=inputs)
        outputs, pull = vjp(of, at)[:2]
        unit = torch.eye(outputs.shape[1], dtype=row.dtype, device=row.device)
        (back,) = vmap(pull)(row[:, None] * unit[:, None])  # (C, n, C): the row in output c
        forward = vmap(lambda along: jvp(of, (at,), (along,))[1])(back)  # (C, n, C)
        return torch.diagonal(forward, dim1=0, dim2=2).mean(-1)
