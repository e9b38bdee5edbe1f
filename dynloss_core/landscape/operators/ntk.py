r"""The empirical neural tangent kernel as an operator: its largest eigenvalue without the Jacobian.

.. math::
    \Theta_{ic,jd} = \Big\langle \frac{\partial f_c(x_i)}{\partial \theta},
                           \frac{\partial f_d(x_j)}{\partial \theta} \Big\rangle

Symbols
    n      samples
    C      outputs
    P      trainable parameters
    K      vectors
    J_c    Jacobian of output c on the samples, (n, P)

Three kernels go by this name, and the difference is a factor:

    full   (n C, n C), all pairs of outputs
    sum    (n, n), sum over c of J_c J_c^T: the same output in both places, added up
    mean   sum / C: the convention of the figure in Ruiz-Garcia et al., ICML 2021

The product with `sum` pulls a vector back through each output separately (C reverse passes) and
pushes each result forward (C forward passes); the passes run side by side. `full` needs one of
each.

Source of the kernel: A. Jacot, F. Gabriel, C. Hongler, "Neural tangent kernel", NeurIPS 2018,
arXiv:1806.07572.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp, vmap

from dynloss_core.landscape.algorithms.lanczos import TopEigen, top_eigen
from dynloss_core.landscape.algorithms.random_vectors import Purpose, start_vectors
from dynloss_core.landscape.operators.hessian import trainable
from dynloss_core.landscape.refusals import LandscapeError, refuse_unmeasurable

__all__ = ["Kernel", "NTKOperator", "ntk_top"]

Kernel = Literal["mean", "sum", "full"]


class NTKOperator:
    """Multiplies vectors by a network's tangent kernel at its present parameters.

    It does not depend on the loss, hence not on class weights. The graph of one forward pass over
    the samples stays in memory.

    Args:
        network: the network, in the mode to measure it in, usually `eval()`.
        inputs: (n, ...) samples, moved to the network's device and dtype.
        kernel: which of the three.

    Raises:
        LandscapeError: for a network that cannot be measured (see `refuse_unmeasurable`), for no
            samples, or an unknown kernel.
    """

    def __init__(self, network: nn.Module, inputs: Tensor, kernel: Kernel = "mean") -> None:
        if kernel not in ("mean", "sum", "full"):
            raise LandscapeError(f"unknown kernel {kernel!r}", "use 'mean', 'sum' or 'full'")
        if not len(inputs):
            raise LandscapeError("there are no samples", "give the kernel some inputs")
        refuse_unmeasurable(network, inputs[:2])
        self._network, self._kernel = network, kernel
        self._parameters = trainable(network)
        first = next(iter(self._parameters.values()))
        self.dtype, self.device = first.dtype, first.device
        self._inputs = inputs.to(self.device, self.dtype)
        outputs, self._pull = vjp(self._outputs, self._parameters)[:2]
        self.samples, self.classes = outputs.shape
        self.dimension = self.samples * (self.classes if kernel == "full" else 1)

    def __call__(self, vectors: Tensor) -> Tensor:
        """The kernel times each row of `vectors`: (K, n), or (K, n C) with the output last."""
        rows = vectors.to(self.device, self.dtype)
        product = self._full if self._kernel == "full" else self._summed
        scale = 1 / self.classes if self._kernel == "mean" else 1.0
        return (scale * torch.stack([product(row) for row in rows])).to(
            vectors.device, vectors.dtype
        )

    def dense(self) -> Tensor:
        """The kernel itself, row by row."""
        return self(torch.eye(self.dimension, dtype=self.dtype, device=self.device))

    def _full(self, row: Tensor) -> Tensor:
        (back,) = self._pull(row.view(self.samples, self.classes))
        return self._push(back).reshape(-1)

    def _summed(self, row: Tensor) -> Tensor:
        unit = torch.eye(self.classes, dtype=self.dtype, device=self.device)
        (back,) = vmap(self._pull)(row[:, None] * unit[:, None])  # (C, n, C): row in output c
        forward = vmap(self._push)(back)  # (C, n, C)
        return torch.diagonal(forward, dim1=0, dim2=2).sum(-1)

    def _push(self, along: dict[str, Tensor]) -> Tensor:
        """J times a direction in parameter space, (n, C)."""
        pushed: Tensor = jvp(self._outputs, (self._parameters,), (along,))[1]
        return pushed

    def _outputs(self, parameters: dict[str, Tensor]) -> Tensor:
        outputs: Tensor = functional_call(self._network, parameters, (self._inputs,))
        return outputs


def ntk_top(
    network: nn.Module,
    inputs: Tensor,
    *,
    kernel: Kernel = "mean",
    k: int = 1,
    seed: int = 0,
    start: Tensor | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 300,
) -> TopEigen:
    """The `k` largest eigenvalues of the tangent kernel on `inputs`, see `top_eigen`.

    Args:
        network: the network, in the mode to measure it in.
        inputs: (n, ...) samples.
        kernel: which of the three; `mean` is the convention of the paper's figure.
        k: number of eigenvalues.
        seed: the seed of the random start vector, which has a stream of its own.
        start: a start vector to use instead, such as `warm_start(previous, fresh)`.
        tolerance: bound on the residual, relative to the largest eigenvalue.
        max_iterations: most products.

    Raises:
        LandscapeError: as `NTKOperator`.
    """
    operator = NTKOperator(network, inputs, kernel)
    if start is None:
        start = start_vectors(operator.dimension, [seed], Purpose.NTK_START)[0]
    start = start.to(operator.device)
    return top_eigen(operator, start, k=k, tolerance=tolerance, max_iterations=max_iterations)
