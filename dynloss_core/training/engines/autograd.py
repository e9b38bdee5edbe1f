"""The reference engine: torch's own autograd and optimiser, one member after another.

It trains any model, and the other engines are tested against it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from dynloss_core.losses import weighted_loss
from dynloss_core.training.engine import Engine, SplitName
from dynloss_core.training.optimisers.sharpness_aware import steepest_ascent
from dynloss_core.training.problem.augmentation import augment
from dynloss_core.training.problem.dropout_masks import dropout_noise
from dynloss_core.training.problem.problem import Problem
from dynloss_core.training.problem.split_samples import PIXELS_TOGETHER, samples_of
from dynloss_core.training.tracing import TraceBuffer

__all__ = ["AutogradEngine"]


class AutogradEngine(Engine):
    """One `torch.nn.Module` and one `torch.optim.SGD` per member."""

    name = "autograd"
    summary = "torch's autograd, for any network"

    def _prepare(self) -> None:
        setup = self.setup
        self._draws = setup.traits.draws
        self._split_samples = cache(partial(samples_of, setup, device=self.device))
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
        for member in self._active():
            for offset in range(steps):
                outputs, targets, loss = self._update(
                    member, self.step + offset, weights[offset, member]
                )
                if trace is not None and member in rows:
                    row = rows[member]
                    trace.weighted[row, offset] = loss
                    trace.record(row, offset, self.setup.problem.loss, outputs, targets)

    def _update(
        self, member: int, step: int, class_weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Do one update; return the outputs (B, C) before it, their targets (B,), and F."""
        problem, optimiser = self.setup.problem, self._optimisers[member]
        inputs, targets, groups = self._batch(member, step)
        factor = problem.learning_rate_schedule.factor(step, problem.steps)
        rate = self.setup.members[member].learning_rate * factor
        if self._caps is not None:
            rate = min(rate, float(self._caps[member]))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        network = self._networks[member].train()

        def backward() -> tuple[Tensor, Tensor]:
            with dropout_noise(self._draws, self.setup.members[member].seed, step, self.device):
                outputs = self._forward(network, inputs)
            loss = weighted_loss(problem.loss, outputs, targets, class_weights, groups)
            loss.backward()  # type: ignore[no-untyped-call]
            return outputs.detach(), loss.detach()

        outputs, loss = backward()
        if problem.sam_radius:
            with _at_the_worst(network, problem.sam_radius):
                backward()
        optimiser.step()
        return outputs, targets, loss

    def _batch(self, member: int, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Inputs (B, ...) as the network sees them, targets (B,), and groups where they matter."""
        train = self._split_samples("train")[member]
        batch = self.setup.batch(member, step)
        inputs, targets, groups = train.inputs, train.targets, train.groups
        if batch is not None:
            chosen = batch.to(self.device)
            inputs, targets = inputs[chosen], targets[chosen]
            groups = None if groups is None else groups[chosen]
        draws = self.setup.augmentation_draws(member, step)
        inputs = train.seen(inputs)
        if draws is not None:
            inputs = augment(inputs, draws, self.setup.problem.augmentation.crop)
        return inputs, targets, groups

    def _forward(self, network: nn.Module, inputs: Tensor) -> Tensor:
        with self.setup.problem.autocast(self.device):
            outputs: Tensor = network(inputs)
        return outputs.to(self.setup.problem.torch_dtype)

    @torch.no_grad()
    def _outputs(self, split: SplitName) -> Tensor:
        pairs = zip(self._networks, self._split_samples(split), strict=True)
        return torch.stack(
            [
                samples.outputs(partial(self._forward, network.eval()), PIXELS_TOGETHER)
                for network, samples in pairs
            ]
        )

    def _freeze(self, members: Tensor) -> None:
        """Nothing to do: `_advance` skips frozen members."""

    def _member_parameters(self, member: int) -> dict[str, Tensor]:
        named = self._networks[member].state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}

    def _parameters_state(self) -> Any:
        return [
            copy.deepcopy(
                {
                    "network": network.state_dict(),
                    "left out": _left_out(network),
                    "optimiser": optimiser.state_dict(),
                }
            )
            for network, optimiser in zip(self._networks, self._optimisers, strict=True)
        ]

    def _load_parameters_state(self, state: Any) -> None:
        for saved, network, optimiser in zip(state, self._networks, self._optimisers, strict=True):
            network.load_state_dict(saved["network"])
            for name, buffer in _left_out(network).items():
                buffer.copy_(saved["left out"][name])
            optimiser.load_state_dict(saved["optimiser"])


@contextmanager
def _at_the_worst(network: nn.Module, radius: float) -> Iterator[None]:
    """Move the network's parameters to where the loss is largest within a radius, with gradients
    zeroed; on exit restore the parameters and keep the new gradients. Other state, such as batch
    statistics, is that of the original parameters."""
    moved = [tensor for tensor in network.parameters() if tensor.grad is not None]
    stood = [tensor.detach().clone() for tensor in moved]
    kept = [buffer.clone() for buffer in network.buffers()]
    with torch.no_grad():
        ascent = steepest_ascent(
            [tensor.grad for tensor in moved if tensor.grad is not None], radius
        )
        for parameter, change in zip(moved, ascent, strict=True):
            parameter.add_(change)
    for parameter in moved:
        parameter.grad = None
    yield
    with torch.no_grad():
        for places, numbers in ((moved, stood), (network.buffers(), kept)):
            for place, number in zip(places, numbers, strict=True):
                place.copy_(number)


def _left_out(network: nn.Module) -> dict[str, Tensor]:
    """Buffers that the network's own `state_dict` omits; training may change them too."""
    saved = network.state_dict()
    return {name: buffer for name, buffer in network.named_buffers() if name not in saved}
