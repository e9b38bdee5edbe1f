"""Ensembles of small networks whose curvature the tests follow."""

from __future__ import annotations

import torch
from torch import Tensor

from dynloss_core.landscape import (
    Curvature,
    CurvatureTracker,
    TrackedProblem,
    Tracking,
    choose_tracker,
    stack_parameters,
)
from dynloss_core.losses import LossName
from dynloss_core.models import MLP
from tests.core.landscape.cases import labelled, network_like, normal, weights_of


class Ensemble:
    """M networks with their data and class weights."""

    def __init__(
        self, members: int = 3, *, loss: LossName = "cross_entropy", width: int = 11, seed: int = 0
    ) -> None:
        self.networks = [network_like(MLP(2, [width], 3), seed + m) for m in range(members)]
        self.data = [labelled(20, (2,), 3, seed + m) for m in range(members)]
        self.class_weights = torch.stack([weights_of(3, seed + m) for m in range(members)])
        self.problem = TrackedProblem(self.networks[0], loss, self.data, range(members))

    @property
    def parameters(self) -> dict[str, Tensor]:
        return stack_parameters([dict(each.named_parameters()) for each in self.networks])

    def tracker(self, name: str, **options: float) -> CurvatureTracker:
        tracking = Tracking(**options)  # type: ignore[arg-type]
        return choose_tracker(self.problem, name=name)(self.problem, tracking)  # type: ignore[arg-type]

    def measured(self, tracker: CurvatureTracker) -> Curvature:
        return tracker.measure(self.parameters, self.class_weights)

    def alone(self, m: int) -> Ensemble:
        one = object.__new__(Ensemble)
        one.networks, one.data = self.networks[m : m + 1], self.data[m : m + 1]
        one.class_weights = self.class_weights[m : m + 1]
        one.problem = TrackedProblem(one.networks[0], self.problem.loss, one.data, [m])
        return one


def member(found: Curvature, m: int) -> list[Tensor]:
    return [
        getattr(which, name)[m]
        for which in (found.hessian, found.ntk)
        for name in ("value", "residual", "converged", "iterations")
    ]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 0.0) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def drift(ensemble: Ensemble, seed: int, size: float = 0.01) -> None:
    """Move all networks a little, each by its own draw."""
    with torch.no_grad():
        for m, network in enumerate(ensemble.networks):
            for place, parameter in enumerate(network.parameters()):
                parameter += size * normal(*parameter.shape, seed=1000 * seed + 10 * m + place)
