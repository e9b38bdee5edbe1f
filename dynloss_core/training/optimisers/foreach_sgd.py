"""Stochastic gradient descent over the parameters of one network, with the conventions of
`torch.optim.SGD`, in a handful of calls for all parameters together.

Learning rate, momentum and weight decay are tensors, so that a recorded CUDA graph of an update can
be replayed for another member and another step of the schedule. torch's own optimiser makes its
momentum buffers at its first step, and cannot be recorded before it. It uses the same operations on
lists of tensors, which have no public names (see tests/core/test_private_torch.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynloss_core.training.problem.ensemble import Setup

__all__ = ["ForeachSGD"]


class ForeachSGD:
    """Updates the parameters of a network in place.

    Args:
        setup: the ensemble; momentum or weight decay that no member needs is left out.
        parameters: the parameters of the network.
    """

    def __init__(self, setup: Setup, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._nesterov = setup.problem.nesterov
        self._decays = any(member.weight_decay > 0 for member in setup.members)
        moves = any(member.momentum > 0 for member in setup.members)
        self.velocity = [torch.zeros_like(parameter) for parameter in parameters] if moves else []

    @torch.no_grad()
    def step(
        self, gradients: Sequence[Tensor], rate: Tensor, momentum: Tensor, decay: Tensor
    ) -> None:
        """Do one update; the gradients, which may share memory, are not changed."""
        change = list(gradients)
        if self._decays:
            change = list(torch._foreach_add(change, torch._foreach_mul(self._parameters, decay)))
        if self.velocity:
            torch._foreach_mul_(self.velocity, momentum)
            torch._foreach_add_(self.velocity, change)
            ahead = torch._foreach_mul(self.velocity, momentum) if self._nesterov else None
            change = list(torch._foreach_add(change, ahead)) if ahead else self.velocity
        torch._foreach_sub_(self._parameters, torch._foreach_mul(change, rate))
