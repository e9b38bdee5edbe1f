"""Trackers that keep the vectors of their last measurement as tensors.

Symbols
    M      members
    P      trainable parameters of a member
    n      samples of the tangent kernel
"""

from __future__ import annotations

from torch import Tensor

from dynloss_core.landscape.algorithms.random_vectors import Purpose, start_vectors
from dynloss_core.landscape.trackers.tracker import CurvatureTracker

__all__ = ["RitzTracker"]


class RitzTracker(CurvatureTracker):
    """Starts with random vectors, then from the last Ritz vectors: `_hessian` (M, 2, P) and
    `_ntk` (M, 2, n), with `_fresh` (M, P) and `_ntk_fresh` (M, n) as the random part.
    """

    def _prepare(self) -> None:
        seeds = self.problem.seeds
        self._fresh = start_vectors(self.dimension, seeds).to(self.device)
        kernel = start_vectors(self.ntk_samples, seeds, Purpose.NTK_START)
        self._ntk_fresh = kernel.to(self.device)
        self._hessian = self._fresh.new_zeros(self.members, 2, self.dimension)
        self._ntk = self._fresh.new_zeros(self.members, 2, self.ntk_samples)

    def _found(self) -> tuple[Tensor, Tensor]:
        return self._hessian, self._ntk

    def _resume_from(self, hessian: Tensor, ntk: Tensor) -> None:
        self._hessian = hessian.to(self.device, copy=True)
        self._ntk = ntk.to(self.device, copy=True)
