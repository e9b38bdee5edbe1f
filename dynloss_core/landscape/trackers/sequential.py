"""The curvature of an ensemble, one member after another, for any network that has a landscape.

Running statistics are held at their present values: the landscape is that of the network in
evaluation, a function of the trained parameters alone. Training sees a different landscape, in
which each batch has its own statistics.

Symbols as in `tracker`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from dynloss_core.data import Labelled
from dynloss_core.landscape.algorithms.krylov import Operator
from dynloss_core.landscape.algorithms.lanczos import TopEigen, top_eigen
from dynloss_core.landscape.operators.hessian import HessianOperator
from dynloss_core.landscape.operators.ntk import NTKOperator
from dynloss_core.landscape.trackers.ritz_tracker import RitzTracker
from dynloss_core.landscape.trackers.tracker import (
    Curvature,
    LargestEigenvalue,
    TrackedProblem,
)

__all__ = ["SequentialTracker"]


class SequentialTracker(RitzTracker):
    """One operator per member, in the dtype of its parameters; the slowest tracker, but it refuses
    nothing."""

    name = "sequential"

    def _prepare(self) -> None:
        super()._prepare()
        self._network = copy.deepcopy(self.problem.network).to(self.device)
        self._data: dict[torch.dtype, list[Labelled]] = {}  # one per member, or one for all

    @classmethod
    def refusal(cls, problem: TrackedProblem, device: str = "cpu") -> str | None:
        return None

    def _measure(self, parameters: Mapping[str, Tensor], class_weights: Tensor) -> Curvature:
        hessian, ntk = [], []
        for member in range(self.members):
            own = {name: parameters[name][member].detach() for name in self._shapes}
            if not all(bool(torch.isfinite(tensor).all()) for tensor in own.values()):
                self._hessian[member], self._ntk[member] = 0, 0
                hessian.append(_LOST)
                ntk.append(_LOST)
                continue
            operator, kernel = self._operators(member, own, class_weights[member])
            hessian.append(self._largest(operator, self._hessian[member], self._fresh[member]))
            ntk.append(self._largest(kernel, self._ntk[member], self._ntk_fresh[member]))
        return Curvature(_joined(hessian), _joined(ntk))

    def _operators(
        self, member: int, own: Mapping[str, Tensor], class_weights: Tensor
    ) -> tuple[HessianOperator, NTKOperator]:
        first = next(iter(own.values()))
        self._network.to(first.dtype).load_state_dict(own)
        if first.dtype not in self._data:
            everyones = self.problem.data
            self._data[first.dtype] = [
                samples.to(first.dtype, self.device) for samples in everyones
            ]
        data = self._data[first.dtype][member if len(self.problem.data) > 1 else 0]
        hessian = HessianOperator(
            self._network,
            self.problem.loss,
            data,
            class_weights,
            batch_size=self.max_samples_per_pass,
        )
        return hessian, NTKOperator(self._network, data.inputs[: self.ntk_samples])

    def _largest(self, operator: Operator, ritz: Tensor, fresh: Tensor) -> TopEigen:
        """The two largest eigenvalues; writes their Ritz vectors to `ritz` (2, .) for the next
        measurement."""
        top = top_eigen(
            operator,
            ritz.sum(0) + self.tracking.share * fresh,
            k=2,
            tolerance=self.tracking.tolerances,
            max_iterations=self.tracking.max_iterations,
        )
        ritz.copy_(torch.nan_to_num(top.vectors))
        return top


_LOST = TopEigen(
    values=torch.full((2,), torch.nan, dtype=torch.float64),
    vectors=torch.empty(2, 0, dtype=torch.float64),
    residuals=torch.full((2,), torch.nan, dtype=torch.float64),
    converged=torch.zeros(2, dtype=torch.bool),
    iterations=torch.tensor(0),
)
"""The result for a member whose parameters are not finite."""


def _joined(members: list[TopEigen]) -> LargestEigenvalue:
    return LargestEigenvalue(
        value=torch.stack([top.values[0].cpu() for top in members]),
        residual=torch.stack([top.residuals[0].cpu() for top in members]),
        converged=torch.stack([top.converged.all().cpu() for top in members]),
        iterations=torch.stack([top.iterations.cpu() for top in members]),
    )
