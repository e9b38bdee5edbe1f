"""Stochastic gradient descent over stacked parameters: every member has its own learning rate,
momentum and weight decay, with the conventions of `torch.optim.SGD`.

Symbols
    M      members; the first axis of every stacked tensor
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynloss_core.training.problem.ensemble import Setup

__all__ = ["StackedSGD"]


class StackedSGD:
    """Updates stacked parameters in place.

    Args:
        setup: the ensemble.
        parameters: (M, ...) each; they also decide dtype and device.
    """

    def __init__(self, setup: Setup, parameters: Sequence[Tensor]) -> None:
        self._like, self._nesterov = parameters[0], setup.problem.nesterov
        self._rate = self._column([member.learning_rate for member in setup.members])
        momentum = self._column([member.momentum for member in setup.members])
        decay = self._column([member.weight_decay for member in setup.members])
        self._momentum = momentum if bool(momentum.any()) else None
        self._decay = decay if bool(decay.any()) else None
        moving = parameters if self._momentum is not None else ()
        self.velocity = [torch.zeros_like(parameter) for parameter in moving]

    def step(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        factor: float,
        caps: Tensor | None = None,
    ) -> None:
        """Do one update at `factor` times each member's learning rate, or at its cap (M,) if that
        is less; the gradients are overwritten."""
        rate = self._rate * factor
        if caps is not None:
            rate = torch.minimum(rate, caps)
        for index, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            shape = (-1, *(1,) * (parameter.ndim - 1))
            if self._decay is not None:
                gradient.addcmul_(parameter, self._decay.view(shape))
            if self._momentum is not None:
                momentum = self._momentum.view(shape)
                velocity = self.velocity[index].mul_(momentum).add_(gradient)
                gradient = gradient.addcmul_(velocity, momentum) if self._nesterov else velocity
            parameter.addcmul_(gradient, rate.view(shape), value=-1)

    def freeze(self, members: Tensor) -> None:
        """Stop the members (bool, (M,)) for good."""
        for tensor in (self._rate, *self.velocity):
            tensor[members.to(tensor.device)] = 0

    def _column(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=self._like.dtype, device=self._like.device)  # (M,)
