"""The curvature of an ensemble as batched products in torch, on any device.

One hidden layer and few inputs: products with the activation pattern, see `one_hidden_layer`. Any
other network: `torch.func`, see `stacked_networks`. Symbols as in `tracker`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from dynloss_core.landscape.algorithms.krylov import Operator
from dynloss_core.landscape.algorithms.lanczos import TopEigen, top_eigen
from dynloss_core.landscape.operators.one_hidden_layer import PatternHessian, PatternNTK
from dynloss_core.landscape.operators.stacked_networks import VmappedHessian, VmappedNTK
from dynloss_core.landscape.trackers.ritz_tracker import RitzTracker
from dynloss_core.landscape.trackers.tracker import (
    Curvature,
    LargestEigenvalue,
    TrackedProblem,
)
from dynloss_core.losses import refusal_of_form

__all__ = ["StackedTracker"]

_BASIS = 24  # vectors held for each member


class StackedTracker(RitzTracker):
    """One batched product for all members, in the dtype of their parameters."""

    name = "stacked"

    def _prepare(self) -> None:
        super()._prepare()
        self._network = copy.deepcopy(self.problem.network).to("meta")
        self._samples: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    @classmethod
    def refusal(cls, problem: TrackedProblem, device: str = "cpu") -> str | None:
        if not problem.stateless:
            called = type(problem.network).__name__
            reason = "keeps running statistics or other buffers, or shares or freezes parameters"
            return f"{called} {reason}, or has unknown layers"
        return None

    @torch.no_grad()
    def _measure(self, parameters: Mapping[str, Tensor], class_weights: Tensor) -> Curvature:
        tensors = {name: parameters[name].detach().to(self.device) for name in self._shapes}
        dtype = next(iter(tensors.values())).dtype
        if dtype not in self._samples:
            self._samples[dtype] = self.problem.samples(dtype, self.device)
        hessian, ntk = self._operators(tensors, class_weights.to(self.device, dtype), dtype)
        of_loss, self._hessian = self._largest(hessian, self._hessian, self._fresh)
        of_kernel, self._ntk = self._largest(ntk, self._ntk, self._ntk_fresh)
        return Curvature(of_loss, of_kernel)

    def _operators(
        self, parameters: Mapping[str, Tensor], class_weights: Tensor, dtype: torch.dtype
    ) -> tuple[Operator, Operator]:
        inputs, targets = self._samples[dtype]
        groups = self.problem.groups(self.device)
        few = inputs[:, : self.ntk_samples]
        network, loss = self._network, self.problem.loss
        if _is_small(self.problem):
            return (
                PatternHessian(parameters, loss, inputs, targets, class_weights, groups),
                PatternNTK(parameters, few),
            )
        at_once = self.max_samples_per_pass
        hessian = VmappedHessian(
            network,
            parameters,
            loss,
            inputs,
            targets,
            class_weights,
            groups,
            max_samples_per_pass=at_once,
        )
        return hessian, VmappedNTK(network, parameters, few, max_samples_per_pass=at_once)

    def _largest(
        self, operator: Operator, ritz: Tensor, fresh: Tensor
    ) -> tuple[LargestEigenvalue, Tensor]:
        """The largest eigenvalues, and the Ritz vectors (M, 2, .) that the next measurement starts
        from."""
        top = top_eigen(
            operator,
            ritz.sum(1) + self.tracking.share * fresh,
            k=2,
            tolerance=self.tracking.tolerances,
            max_iterations=self.tracking.max_iterations,
            basis_size=_BASIS,
        )
        lost = ~torch.isfinite(top.vectors)
        return _first(top), torch.where(lost, torch.zeros_like(top.vectors), top.vectors)


def _is_small(problem: TrackedProblem) -> bool:
    """Whether the pattern needs fewer multiplications than the network's own layers."""
    sizes = problem.traits.one_hidden_layer
    if sizes is None or problem.data[0].inputs.ndim != 2:
        return False
    if refusal_of_form(problem.loss, "gradient", "curvature") is not None:
        return False
    inputs, _, classes = sizes
    return (inputs + 1) * classes <= 2 * (inputs + 1) + 6 * classes


def _first(top: TopEigen) -> LargestEigenvalue:
    return LargestEigenvalue(
        value=top.values[:, 0].cpu(),
        residual=top.residuals[:, 0].cpu(),
        converged=top.converged.all(1).cpu(),
        iterations=top.iterations.cpu(),
    )
