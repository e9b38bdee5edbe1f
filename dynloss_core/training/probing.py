"""Probes: the curvature of some members, measured along their training without touching it.

Symbols
    K      members probed
    k      moments
    C      classes
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dynloss_core.landscape.ensemble import choose_tracker
from dynloss_core.landscape.tracker import Curvature, TrackedProblem, Tracking
from dynloss_core.training.records import CurvatureSeries
from dynloss_core.training.setup import Setup

__all__ = ["Prober", "Probes"]


@dataclass(frozen=True)
class Probes:
    """What to measure, and when.

    Args:
        every: steps between two measurements, >= 1; the first is before the first step.
        members: indices of the members in the ensemble.
        tracking: how carefully the eigenvalues are followed.

    Raises:
        ValueError: if `every` is below 1 or no member is named.
    """

    every: int
    members: tuple[int, ...]
    tracking: Tracking = field(default_factory=Tracking)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"probes every {self.every} steps: use >= 1")
        if not self.members:
            raise ValueError("probes of no member: name at least one")


class Prober:
    """Measures one ensemble, each time from the eigenvectors of the last.

    The landscape is that of F on the whole training set, at the class weights of the update that
    follows, whatever the batches are.

    Args:
        probes: what was asked for.
        setup: the ensemble.
        device: where to measure.
    """

    def __init__(self, probes: Probes, setup: Setup, device: torch.device) -> None:
        self.probes, self._setup = probes, setup
        self.members = tuple(sorted(set(probes.members)))
        if not 0 <= self.members[0] <= self.members[-1] < len(setup.members):
            raise ValueError(f"probes must name members 0 to {len(setup.members) - 1}")
        splits = [setup.splits[m] for m in self.members]
        shared = all(each is splits[0] for each in splits)
        problem = TrackedProblem(
            network=copy.deepcopy(setup.networks[self.members[0]]).eval(),
            loss=setup.problem.loss,
            data=[
                each.train.to(setup.problem.torch_dtype, "cpu")
                for each in (splits[:1] if shared else splits)
            ],
            seeds=[setup.members[m].seed for m in self.members],
        )
        self._tracker = choose_tracker(problem, str(device))(problem, probes.tracking, device)

    def moments(self, step: int, last: int) -> range:
        """The steps after `step`, up to `last` and with it, to measure at."""
        return range(
            (step // self.probes.every + 1) * self.probes.every, last + 1, self.probes.every
        )

    def is_due(self, step: int) -> bool:
        """Whether to measure at `step`."""
        return step % self.probes.every == 0

    def measure(self, steps: Sequence[int], parameters: Mapping[str, Tensor]) -> CurvatureSeries:
        """The curvature after so many steps, k moments in their order; `parameters` are those of
        the members probed, (k, K, ...)."""
        moments = torch.tensor(steps)
        weights = self._setup.class_weights(moments)[:, list(self.members)]  # (k, K, C)
        return _series(moments, self.members, self._tracker.follow(parameters, weights))

    def state_dict(self) -> dict[str, Any]:
        """What the next measurement starts from."""
        return self._tracker.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._tracker.load_state_dict(state)


def _series(steps: Tensor, members: tuple[int, ...], found: Curvature) -> CurvatureSeries:
    return CurvatureSeries(
        steps=steps,
        members=torch.tensor(members),
        hessian_lambda_max=found.hessian.value,
        hessian_residual=found.hessian.residual,
        hessian_converged=found.hessian.converged,
        ntk_lambda_max=found.ntk.value,
    )
