"""The reference engine: torch's own autograd and optimiser, one member after another.

It trains any model and serves as the truth that the ensemble engines are tested against.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from dynloss_core.losses import class_losses, weighted_loss
from dynloss_core.training.engine import Engine, SplitName, TraceBuffer
from dynloss_core.training.problem import Problem

__all__ = ["AutogradEngine"]


class AutogradEngine(Engine):
    """One `torch.nn.Module` and one `torch.optim.SGD` a member."""

    name = "autograd"

    def _prepare(self) -> None:
        setup = self.setup
        dtype = setup.problem.torch_dtype
        self._splits = [splits.to(dtype, self.device) for splits in setup.splits]
        self._networks = [copy.deepcopy(network).to(self.device) for network in setup.networks]
        self._optimisers = [
            torch.optim.SGD(
                network.parameters(),
                lr=member.learning_rate,
                momentum=member.momentum,
                weight_decay=member.weight_decay,
                nesterov=setup.problem.nesterov and member.momentum > 0,
            )
            for network, member in zip(self._networks, setup.members, strict=True)
        ]

    @classmethod
    def refusal(cls, problem: Problem, device: str = "cpu") -> str | None:
        return None

    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        weights = self.setup.class_weights(torch.arange(self.step, self.step + steps))
        weights = weights.to(self.device, self.setup.problem.torch_dtype)  # (n, M, C)
        rows = {} if trace is None else {m: row for row, m in enumerate(trace.members)}
        for member in range(len(self.setup.members)):
            if self.diverged_step[member] >= 0:
                continue
            for offset in range(steps):
                outputs, targets = self._update(member, self.step + offset, weights[offset, member])
                if trace is not None and member in rows:
                    row = rows[member]
                    one_hot = targets == torch.arange(outputs.shape[1], device=self.device)[:, None]
                    trace.class_losses[row, offset] = class_losses(
                        self.setup.problem.loss, outputs.T, one_hot.to(outputs.dtype)
                    )
                    trace.correct[row, offset] = (outputs.argmax(-1) == targets).sum()

    def _update(self, member: int, step: int, class_weights: Tensor) -> tuple[Tensor, Tensor]:
        """One update; returns the outputs (B, C) before it, and their targets (B,)."""
        problem, optimiser = self.setup.problem, self._optimisers[member]
        train = self._splits[member].train
        batch = self.setup.batch(member, step)
        inputs, targets = train.inputs, train.targets
        if batch is not None:
            inputs, targets = inputs[batch.to(self.device)], targets[batch.to(self.device)]
        factor = problem.learning_rate_schedule.factor(step, problem.steps)
        optimiser.param_groups[0]["lr"] = self.setup.members[member].learning_rate * factor
        optimiser.zero_grad()
        outputs = self._networks[member](inputs)
        weighted_loss(problem.loss, outputs, targets, class_weights).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return outputs.detach(), targets

    @torch.no_grad()
    def _outputs(self, split: SplitName) -> Tensor:
        pairs = zip(self._networks, self._splits, strict=True)
        return torch.stack([network(getattr(data, split).inputs) for network, data in pairs])

    def _freeze(self, members: Tensor) -> None:
        """Nothing to do: `_advance` passes over diverged members."""

    def _member_parameters(self, member: int) -> dict[str, Tensor]:
        named = self._networks[member].state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}

    def _parameters_state(self) -> Any:
        return [
            copy.deepcopy({"network": network.state_dict(), "optimiser": optimiser.state_dict()})
            for network, optimiser in zip(self._networks, self._optimisers, strict=True)
        ]

    def _load_parameters_state(self, state: Any) -> None:
        for saved, network, optimiser in zip(state, self._networks, self._optimisers, strict=True):
            network.load_state_dict(saved["network"])
            optimiser.load_state_dict(saved["optimiser"])
