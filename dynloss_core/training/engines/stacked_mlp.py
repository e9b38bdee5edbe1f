"""An ensemble of multilayer perceptrons as stacked matrices: one batched product for all members.

Symbols
    M      members
    I, O   inputs and outputs of a layer
    N      samples of a batch or a split
    C      classes

Samples are the last axis: a layer's activations are (M, O, N), so that the long axis is contiguous
whatever the width. Biases are the last column of the weights, (M, O, I + 1), and every input has a
last row of ones: forward, gradient and update then have one form per layer.
The gradients are written out rather than left to autograd, so they need no graph and no copies.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from dynloss_core.losses import (
    class_losses,
    one_hot_rows,
    output_gradient,
    refusal_of_form,
    weighted_loss,
)
from dynloss_core.training.engine import Engine, SplitName
from dynloss_core.training.optimisers.sharpness_aware import steepest_ascent
from dynloss_core.training.optimisers.stacked_sgd import StackedSGD
from dynloss_core.training.problem.ensemble import Setup
from dynloss_core.training.problem.problem import Problem, plain_refusal
from dynloss_core.training.tracing import TraceBuffer

__all__ = ["BatchedEngine"]

_CHUNK = 256  # steps whose class weights are computed at once


class BatchedEngine(Engine):
    """Stacked MLPs with their own learning rate, momentum, weight decay, period and amplitude."""

    name = "batched"
    summary = "perceptrons trained as stacked matrices"

    def _prepare(self) -> None:
        setup = self.setup
        dtype = setup.problem.torch_dtype
        self._weights = [w.to(self.device, dtype) for w in _stack(setup)]  # [(M, O, I + 1)]
        self._sgd = StackedSGD(setup, self._weights)
        self._workspaces: dict[int, list[Tensor]] = {}
        self._own_splits = setup.own_splits()
        self._groups = setup.groups(self.device)  # (M, N), or None
        self._inputs: dict[str, Tensor] = {}  # (M or 1, I + 1, N) a split
        train = torch.stack([splits.train.targets for splits in self._own_splits])
        self._one_hot = one_hot_rows(train.to(self.device), setup.num_classes, dtype)

    @classmethod
    def refusal(cls, problem: Problem, device: str = "cpu") -> str | None:
        if problem.traits.relu_mlp is None:
            return f"it only trains multilayer perceptrons, not {problem.model.name!r}"
        return refusal_of_form(problem.loss, "gradient") or plain_refusal(problem)

    @torch.no_grad()
    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        problem = self.setup.problem
        for start in range(self.step, self.step + steps, _CHUNK):
            chunk = torch.arange(start, min(start + _CHUNK, self.step + steps))
            weights = self.setup.class_weights(chunk).to(self.device, problem.torch_dtype)
            for step, class_weights in zip(chunk.tolist(), weights, strict=True):
                inputs, one_hot, groups = self._batch(step)
                activations, outputs = self._forward(inputs)
                if trace is not None:
                    self._record(trace, step - self.step, outputs, one_hot, class_weights, groups)
                seen = one_hot, class_weights, groups
                delta = output_gradient(problem.loss, outputs, *seen)
                gradients = self._gradients(activations, delta)
                if problem.sam_radius:
                    gradients = self._gradients_at_the_worst(inputs, gradients, *seen)
                factor = problem.learning_rate_schedule.factor(step, problem.steps)
                self._sgd.step(self._weights, gradients, factor, self._caps)

    def _record(
        self,
        trace: TraceBuffer,
        offset: int,
        outputs: Tensor,
        one_hot: Tensor,
        class_weights: Tensor,
        groups: Tensor | None,
    ) -> None:
        everyone = len(trace.members) == len(self.setup.members)
        chosen = slice(None) if everyone else list(trace.members)
        seen, targets = outputs[chosen], one_hot.expand_as(outputs)[chosen]  # (K, C, B)
        trace.class_losses[:, offset] = class_losses(self.setup.problem.loss, seen, targets)
        trace.correct[:, offset] = _correct(seen, targets)
        if groups is not None:
            loss = torch.vmap(partial(weighted_loss, self.setup.problem.loss))
            labels = targets.argmax(1), class_weights[chosen], groups[chosen]
            trace.weighted[:, offset] = loss(seen.mT, *labels)

    def _gradients(self, activations: list[Tensor], delta: Tensor) -> list[Tensor]:
        """Gradients of F, one (M, O, I + 1) per layer, from those of the outputs (M, C, N)."""
        gradients = [torch.bmm(delta, activations[-1].mT)]
        for weights, activation, below in zip(
            self._weights[:0:-1], activations[:0:-1], activations[-2::-1], strict=True
        ):
            back = torch.bmm(weights[:, :, :-1].mT, delta)  # (M, I, N)
            delta = torch.ops.aten.threshold_backward(back, activation[:, :-1], 0)
            gradients.append(torch.bmm(delta, below.mT))
        return gradients[::-1]

    def _gradients_at_the_worst(
        self,
        inputs: Tensor,
        gradients: list[Tensor],
        one_hot: Tensor,
        class_weights: Tensor,
        groups: Tensor | None,
    ) -> list[Tensor]:
        """Gradients where F is largest within the radius (see `steepest_ascent`)."""
        problem, stood = self.setup.problem, self._weights
        ascent = steepest_ascent(gradients, problem.sam_radius, stacked=True)
        self._weights = list(torch._foreach_add(stood, ascent))
        activations, outputs = self._forward(inputs)
        delta = output_gradient(problem.loss, outputs, one_hot, class_weights, groups)
        worst_gradients = self._gradients(activations, delta)
        self._weights = stood
        return worst_gradients

    def _forward(self, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """The input of every layer, each with its row of ones, and the outputs (M, C, N)."""
        activations = [inputs]
        for weights, buffer in zip(
            self._weights[:-1], self._workspace(inputs.shape[-1]), strict=True
        ):
            hidden = buffer[:, :-1]  # (M, O, N)
            torch.bmm(weights, activations[-1], out=hidden)
            hidden.relu_()
            activations.append(buffer)
        return activations, torch.bmm(self._weights[-1], activations[-1])

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Inputs (M, I + 1, N), one-hot targets (M or 1, C, N) and, where they matter, groups
        (M, N) of one step."""
        inputs, groups = self._split_inputs("train"), self._groups
        if self.setup.problem.batch_size is None:
            return inputs, self._one_hot, groups
        members = range(len(self.setup.members))
        indices = [self.setup.batch(m, step) for m in members]
        columns = torch.stack([i for i in indices if i is not None]).to(self.device)  # (M, B)
        groups = None if groups is None else groups.gather(1, columns)
        return _take(inputs, columns), _take(self._one_hot, columns), groups

    def _split_inputs(self, split: SplitName) -> Tensor:
        if split not in self._inputs:
            dtype = self.setup.problem.torch_dtype
            parts = [getattr(splits, split).to(dtype, self.device) for splits in self._own_splits]
            flat = torch.stack([part.inputs.flatten(1) for part in parts])  # (M or 1, N, I)
            with_ones = torch.cat([flat, torch.ones_like(flat[:, :, :1])], dim=-1)
            members = len(self.setup.members)
            self._inputs[split] = with_ones.mT.contiguous().expand(members, -1, -1)
        return self._inputs[split]

    def _workspace(self, samples: int) -> list[Tensor]:
        """Buffers (M, O + 1, N) for the hidden activations, their last row ones."""
        if samples not in self._workspaces:
            self._workspaces[samples] = [
                weights.new_ones(weights.shape[0], weights.shape[1] + 1, samples)
                for weights in self._weights[:-1]
            ]
        return self._workspaces[samples]

    @torch.no_grad()
    def _outputs(self, split: SplitName) -> Tensor:
        return self._forward(self._split_inputs(split))[1].mT

    def _freeze(self, members: Tensor) -> None:
        """Set parameters and learning rate to zero: finite, and unchanged by further steps."""
        for weights in self._weights:
            weights[members.to(self.device)] = 0
        self._sgd.freeze(members)

    def _member_parameters(self, member: int) -> dict[str, Tensor]:
        named = {}
        for layer, stacked in enumerate(self._weights):
            weights = stacked[member].cpu()  # (O, I + 1)
            named[f"layers.{layer}.weight"] = weights[:, :-1].clone()
            named[f"layers.{layer}.bias"] = weights[:, -1].clone()
        return named

    def _parameters_state(self) -> Any:
        return {
            "weights": [weights.clone() for weights in self._weights],
            "velocity": [velocity.clone() for velocity in self._sgd.velocity],
        }

    def _load_parameters_state(self, state: Any) -> None:
        self._weights = [weights.to(self.device).clone() for weights in state["weights"]]
        for velocity, saved in zip(self._sgd.velocity, state["velocity"], strict=True):
            velocity.copy_(saved)
        self._freeze(self.frozen)


def _take(tensor: Tensor, columns: Tensor) -> Tensor:
    """Samples `columns` (M, B) of a tensor (M or 1, K, N): (M, K, B)."""
    members, rows = len(columns), tensor.shape[1]
    index = columns[:, None, :].expand(members, rows, -1)
    return tensor.expand(members, -1, -1).gather(2, index)


def _correct(outputs: Tensor, one_hot: Tensor) -> Tensor:
    """How many samples have their largest output at the target (of equal outputs the first): (K,)
    from outputs (K, C, N).

    Along a strided axis `argmax` is a hundred times slower than `amax`. Each class c with the
    largest output adds 4^-c, so the sum lies between the power of the first such class and twice
    that.
    """
    largest = (outputs == outputs.amax(1, keepdim=True)).to(outputs.dtype)
    power = torch.pow(0.25, torch.arange(outputs.shape[1], device=outputs.device))[:, None]
    power = power.to(outputs.dtype)
    first, expected = (largest * power).sum(1), (one_hot * power).sum(1)  # (K, N)
    return ((first >= expected) & (first < 2 * expected)).sum(-1)


def _stack(setup: Setup) -> list[Tensor]:
    """The initial parameters of all members, one (M, O, I + 1) per layer, the bias last."""
    named = [network.state_dict() for network in setup.networks]
    return [
        torch.stack(
            [
                torch.cat([own[f"layers.{k}.weight"], own[f"layers.{k}.bias"][:, None]], dim=1)
                for own in named
            ]
        )
        for k in range(len(named[0]) // 2)
    ]
