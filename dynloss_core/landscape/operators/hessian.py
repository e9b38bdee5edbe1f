r"""The Hessian of the dynamical loss as an operator: Hessian-vector products, never the matrix.

.. math::
    F(\theta) = \frac{1}{N} \sum_j \Gamma_{y_j} \ell(f_\theta(x_j), y_j), \qquad
    v \mapsto \nabla^2 F(\theta)\, v
        = \frac{\partial}{\partial r} \nabla F(\theta + r v) \Big|_{r = 0}

Symbols
    N      samples
    P      trainable parameters, flattened one after the other in the order of the network's names
    K      vectors
    C      classes
    Gamma  class weights at the moment of the measurement, (C,)

The class weights are part of the function: with those of step t this is the landscape that update t
sees; with weights of 1 it is that of the static loss.

Source of the product: B. Pearlmutter, "Fast exact multiplication by the Hessian", Neural
Computation 6 (1994), here as the forward derivative of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from dynloss_core.data import Labelled
from dynloss_core.landscape.algorithms.lanczos import TopEigen, top_eigen
from dynloss_core.landscape.algorithms.random_vectors import start_vectors
from dynloss_core.landscape.refusals import LandscapeError, refuse_unmeasurable
from dynloss_core.losses import LossName, weighted_loss

__all__ = ["HessianOperator", "hessian_top", "trainable"]

_MAX_DENSE_PARAMETERS = 20_000  # 3.2 GB in float64


class HessianOperator:
    """Multiplies vectors by the Hessian of F at a network's present parameters.

    Parameters are copied: later changes of the network do not change the operator.

    Args:
        network: the network, in the mode to measure it in, usually `eval()`.
        loss: which dynamical loss.
        data: N samples on any device; moved to the network's device and dtype batch by batch.
        class_weights: (C,) Gamma at the moment of the measurement; (G,) if the data have groups.
        batch_size: samples seen at once; None for all. It bounds the memory and changes nothing
            but the rounding: a batch is weighted by its number of samples, and the divisor is N.
        vectors_at_once: products computed together, for small networks.

    Raises:
        LandscapeError: for a network that cannot be measured (see `refuse_unmeasurable`), for no
            data, or for class weights that do not fit the outputs.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: LossName,
        data: Labelled,
        class_weights: Tensor,
        *,
        batch_size: int | None = None,
        vectors_at_once: int = 1,
    ) -> None:
        if not len(data):
            raise LandscapeError("there are no samples", "give the operator some data")
        if batch_size is not None and batch_size < 1:
            raise LandscapeError(f"batch_size {batch_size} is below 1", "use >= 1, or None for all")
        few = data.inputs[:2]
        refuse_unmeasurable(network, few)
        self._network, self._loss, self._data = network, loss, data
        self._parameters = trainable(network)
        first = next(iter(self._parameters.values()))
        self.dtype, self.device = first.dtype, first.device
        self.dimension = sum(tensor.numel() for tensor in self._parameters.values())  # P
        self._batch_size = batch_size or len(data)
        self._vectors_at_once = vectors_at_once
        with torch.no_grad():
            classes = network(few.to(self.device, self.dtype)).shape[-1]
        if class_weights.shape != (classes,) and data.groups is None:
            raise LandscapeError(
                f"class weights of shape {tuple(class_weights.shape)} for {classes} outputs",
                f"give {classes} of them, as at the step to be measured",
            )
        self._class_weights = class_weights.to(self.device, self.dtype)

    def __call__(self, vectors: Tensor) -> Tensor:
        """The Hessian times each row of `vectors` (K, P); batches are summed in float64."""
        rows = vectors.to(self.device, self.dtype)
        total = torch.zeros(rows.shape, dtype=torch.float64, device=self.device)
        for batch in self._batches():
            share = len(batch) / len(self._data)
            gradient = grad(self._loss_on(batch))

            def product(row: Tensor, gradient: Callable[..., Tensor] = gradient) -> Tensor:
                at, along = self._parameters, self._unflatten(row)
                return self._flatten(jvp(gradient, (at,), (along,))[1])

            if self._vectors_at_once > 1:
                total += share * vmap(product, chunk_size=self._vectors_at_once)(rows).double()
            else:
                for k, row in enumerate(rows):
                    total[k] += share * product(row)
        return total.to(vectors.device, vectors.dtype)

    def dense(self) -> Tensor:
        """The Hessian itself, (P, P), row by row; for small networks and tests.

        Raises:
            LandscapeError: above 20,000 parameters.
        """
        if self.dimension > _MAX_DENSE_PARAMETERS:
            raise LandscapeError(
                f"a Hessian of {self.dimension} parameters does not fit in memory",
                "use the operator with `top_eigen`, `hutchinson_trace` or `spectral_density`",
            )
        return self(torch.eye(self.dimension, dtype=self.dtype, device=self.device))

    def _loss_on(self, batch: Labelled) -> Callable[[dict[str, Tensor]], Tensor]:
        """F of one batch as a function of the parameters."""

        def value(parameters: dict[str, Tensor]) -> Tensor:
            outputs = functional_call(self._network, parameters, (batch.inputs,))
            return weighted_loss(
                self._loss, outputs, batch.targets, self._class_weights, batch.groups
            )

        return value

    def _batches(self) -> Iterator[Labelled]:
        for first in range(0, len(self._data), self._batch_size):
            part = self._data.at(slice(first, first + self._batch_size))
            yield part.to(self.dtype, self.device)

    def _unflatten(self, row: Tensor) -> dict[str, Tensor]:
        sizes = [tensor.numel() for tensor in self._parameters.values()]
        parts = zip(self._parameters.items(), torch.split(row, sizes), strict=True)
        return {name: part.view_as(tensor) for (name, tensor), part in parts}

    def _flatten(self, named: dict[str, Tensor]) -> Tensor:
        return torch.cat([named[name].reshape(-1) for name in self._parameters])


def trainable(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters that are trained, by name."""
    named = network.named_parameters()
    return {name: tensor.detach().clone() for name, tensor in named if tensor.requires_grad}


def hessian_top(
    network: nn.Module,
    loss: LossName,
    data: Labelled,
    class_weights: Tensor,
    *,
    k: int = 1,
    seed: int = 0,
    tolerance: float = 1e-6,
    batch_size: int | None = None,
) -> TopEigen:
    """The `k` largest (algebraic) eigenvalues of the Hessian of F, see `top_eigen`.

    Args:
        network: the network, in the mode to measure it in.
        loss: which dynamical loss.
        data: the samples F is a mean over.
        class_weights: (C,) Gamma at the moment of the measurement.
        k: number of eigenvalues.
        seed: the seed of the random start vector, which has a stream of its own.
        tolerance: bound on the residual, relative to the largest eigenvalue in magnitude.
        batch_size: samples seen at once.

    Returns:
        Values (k,), vectors (k, P).

    Raises:
        LandscapeError: as `HessianOperator`.
    """
    operator = HessianOperator(network, loss, data, class_weights, batch_size=batch_size)
    start = start_vectors(operator.dimension, [seed])[0].to(operator.device)
    return top_eigen(operator, start, k=k, tolerance=tolerance)
