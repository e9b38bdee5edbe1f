"""An ensemble of any networks without batch statistics, through `torch.func`: small convnets.

The members' parameters are stacked, and `torch.func.vmap` runs all of them as one network. Layers
that couple the samples of a batch or draw random numbers have no place here.

Symbols
    M      members
    B      samples of a batch
    C      classes
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from dynloss_core.losses import class_losses, weighted_loss
from dynloss_core.training.engine import Engine, SplitName, TraceBuffer
from dynloss_core.training.problem import Problem
from dynloss_core.training.stacked_sgd import StackedSGD

__all__ = ["VmappedEngine"]


class VmappedEngine(Engine):
    """Stacked networks of any kind, each with its own learning rate, momentum and weight decay."""

    name = "batched"

    def _prepare(self) -> None:
        setup = self.setup
        stacked, _ = stack_module_state(list(setup.networks))
        self._stacked = {
            name: tensor.detach().to(self.device).clone() for name, tensor in stacked.items()
        }
        self._sgd = StackedSGD(setup, list(self._stacked.values()))
        self._network = copy.deepcopy(setup.networks[0]).to("meta")
        shared = all(splits is setup.splits[0] for splits in setup.splits)
        self._own_splits = setup.splits[:1] if shared else setup.splits
        self._inputs: dict[str, Tensor] = {}  # (M or 1, N, ...) a split
        self._train_targets = self._targets("train")  # (M, N)
        self._gradients = vmap(grad(self._loss, has_aux=True))

    @classmethod
    def refusal(cls, problem: Problem, device: str = "cpu") -> str | None:
        return None

    @torch.no_grad()
    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        problem = self.setup.problem
        every_step = torch.arange(self.step, self.step + steps)
        weights = self.setup.class_weights(every_step).to(self.device, problem.torch_dtype)
        for offset, class_weights in enumerate(weights):
            step = self.step + offset
            inputs, targets = self._batch(step)
            gradients, outputs = self._gradients(self._stacked, inputs, targets, class_weights)
            if trace is not None:
                self._record(trace, offset, outputs, targets)
            factor = problem.learning_rate_schedule.factor(step, problem.steps)
            ordered = [gradients[name] for name in self._stacked]
            self._sgd.step(list(self._stacked.values()), ordered, factor)

    def _loss(
        self, parameters: dict[str, Tensor], inputs: Tensor, targets: Tensor, class_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """F of one member, and its outputs (B, C)."""
        outputs = functional_call(self._network, parameters, (inputs,))
        return weighted_loss(self.setup.problem.loss, outputs, targets, class_weights), outputs

    def _record(self, trace: TraceBuffer, offset: int, outputs: Tensor, targets: Tensor) -> None:
        chosen = list(trace.members)
        seen, expected = outputs[chosen], targets[chosen]  # (K, B, C), (K, B)
        one_hot = expected[:, None] == torch.arange(seen.shape[-1], device=self.device)[:, None]
        losses = class_losses(self.setup.problem.loss, seen.mT, one_hot.to(seen.dtype))
        trace.class_losses[:, offset] = losses
        trace.correct[:, offset] = (seen.argmax(-1) == expected).sum(-1).to(seen.dtype)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs (M, B, ...) and targets (M, B) of one step."""
        inputs, targets = self._split_inputs("train"), self._train_targets
        members = range(len(self.setup.members))
        if self.setup.problem.batch_size is None:
            return inputs.expand(len(members), *inputs.shape[1:]), targets
        indices = [self.setup.batch(m, step) for m in members]
        rows = torch.stack([i for i in indices if i is not None]).to(self.device)  # (M, B)
        own = torch.arange(len(inputs), device=self.device)[:, None]
        return inputs[own, rows], targets.gather(1, rows)

    def _split_inputs(self, split: SplitName) -> Tensor:
        if split not in self._inputs:
            dtype = self.setup.problem.torch_dtype
            parts = [getattr(splits, split).to(dtype, self.device) for splits in self._own_splits]
            self._inputs[split] = torch.stack([part.inputs for part in parts])
        return self._inputs[split]

    @torch.no_grad()
    def _outputs(self, split: SplitName) -> Tensor:
        inputs = self._split_inputs(split)
        members = range(len(self.setup.members))
        found = []
        for member in members:  # one at a time: a whole split of all would not fit
            own = {name: tensor[member] for name, tensor in self._stacked.items()}
            found.append(functional_call(self._network, own, (inputs[member % len(inputs)],)))
        return torch.stack(found)

    def _freeze(self, members: Tensor) -> None:
        """Zero parameters and learning rate: finite, and they stay as they are."""
        for tensor in self._stacked.values():
            tensor[members.to(self.device)] = 0
        self._sgd.freeze(members)

    def _member_parameters(self, member: int) -> dict[str, Tensor]:
        return {name: tensor[member].cpu().clone() for name, tensor in self._stacked.items()}

    def _parameters_state(self) -> Any:
        return {
            "parameters": {name: tensor.clone() for name, tensor in self._stacked.items()},
            "velocity": [velocity.clone() for velocity in self._sgd.velocity],
        }

    def _load_parameters_state(self, state: Any) -> None:
        for name, tensor in self._stacked.items():
            tensor.copy_(state["parameters"][name])
        for velocity, saved in zip(self._sgd.velocity, state["velocity"], strict=True):
            velocity.copy_(saved)
        self._freeze(self.diverged_step >= 0)
