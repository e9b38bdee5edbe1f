"""Caps on the learning rates of an ensemble, measured during training.

Symbols
    M      members
    C      classes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dynloss_core.landscape.trackers.choose_tracker import choose_tracker
from dynloss_core.landscape.trackers.tracker import Tracking
from dynloss_core.training.problem.ensemble import Setup
from dynloss_core.training.problem.learning_rate_cap import CurvatureRate

__all__ = ["RateFollower"]

_TRACKING = Tracking(ntk_samples=2)  # the tangent kernel is not needed: two samples cost nothing


class RateFollower:
    """Measures lambda_max of F, each time starting from the last eigenvectors, and keeps the caps.

    - lambda_max <= 0: no cap; F curves upwards in no direction, so no rate is too large.
    - not converged: a Ritz value is at most lambda_max, so target divided by it is at least the
      true cap; the smaller of it and the last cap is used.
    - not finite, because the member's parameters are not: the last cap stays.

    Args:
        rule: how often to measure, on what, and the target.
        setup: the ensemble.
        device: where to measure.
    """

    def __init__(self, rule: CurvatureRate, setup: Setup, device: torch.device) -> None:
        self.rule, self._setup = rule, setup
        problem = setup.tracked(range(len(setup.members)), rule.samples)
        self._tracker = choose_tracker(problem, str(device))(problem, _TRACKING, device)
        self.caps = torch.full((len(setup.members),), torch.inf, dtype=torch.float64)  # (M,)

    def next_due(self, step: int) -> int:
        """The next step to measure at, after `step`."""
        return (step // self.rule.every + 1) * self.rule.every

    def measure(self, step: int, parameters: Mapping[str, Tensor]) -> None:
        """Renew the caps after `step` steps, from the parameters (M, ...) of all members."""
        weights = self._setup.class_weights(torch.tensor([step]))[0]  # (M, C)
        hessian = self._tracker.measure(parameters, weights).hessian
        self.caps = caps_of(hessian.value, hessian.converged, self.rule.target, self.caps)

    def state_dict(self) -> dict[str, Any]:
        """The caps, and what the next measurement starts from."""
        return {"caps": self.caps.clone(), "tracker": self._tracker.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self.caps = state["caps"].clone()
        self._tracker.load_state_dict(state["tracker"])


def caps_of(lambda_max: Tensor, converged: Tensor, target: float, before: Tensor) -> Tensor:
    """Caps (M,) from the measurements (M,) and the previous caps, see `RateFollower`."""
    caps = torch.where(lambda_max > 0, target / lambda_max, torch.inf)
    caps = torch.where(converged, caps, torch.minimum(caps, before))
    return torch.where(torch.isfinite(lambda_max), caps, before)
