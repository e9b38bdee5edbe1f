"""An ensemble of networks without batch statistics, by `torch.func`; meant for small convnets.

The members' parameters are stacked, and `torch.func.vmap` runs all of them as one network. Networks
with layers that couple the samples of a batch or draw random numbers are refused.

Symbols
    M      members
    B      samples of a batch
    C      classes
"""

from __future__ import annotations

import copy
import math
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from dynloss_core.losses import class_losses, one_hot_rows, weighted_loss
from dynloss_core.training.engine import Engine, SplitName
from dynloss_core.training.optimisers.sharpness_aware import steepest_ascent
from dynloss_core.training.optimisers.stacked_sgd import StackedSGD
from dynloss_core.training.problem.problem import Problem, plain_refusal
from dynloss_core.training.problem.split_samples import PIXELS_TOGETHER, samples_of
from dynloss_core.training.tracing import TraceBuffer

__all__ = ["VmappedEngine"]

_MAX_ACTIVATIONS = 2**14  # activations in a layer of one member, see `VmappedEngine.is_faster`


class VmappedEngine(Engine):
    """Stacked networks of any kind, each with its own learning rate, momentum and weight decay."""

    name = "batched"
    summary = "networks stacked by torch.func.vmap"

    def _prepare(self) -> None:
        setup = self.setup
        stacked, _ = stack_module_state(list(setup.networks))
        self._stacked = {
            name: tensor.detach().to(self.device).clone() for name, tensor in stacked.items()
        }
        self._sgd = StackedSGD(setup, list(self._stacked.values()))
        self._network = copy.deepcopy(setup.networks[0]).to("meta")
        self._split_samples = cache(partial(samples_of, setup, device=self.device))
        train = self._split_samples("train")
        shared = all(samples.inputs is train[0].inputs for samples in train)
        self._train_inputs = torch.stack(  # (M or 1, N, ...), bytes if they are bytes
            [samples.inputs for samples in (train[:1] if shared else train)]
        )
        self._train_targets = self._targets("train")  # (M, N)
        self._groups = setup.groups(self.device)  # (M, N), or None
        self._gradients = vmap(grad(self._loss, has_aux=True))

    @classmethod
    def refusal(cls, problem: Problem, device: str = "cpu") -> str | None:
        traits = problem.traits
        if traits.unusual is not None:
            return f"in the network {problem.model.name!r}, {traits.unusual}"
        if traits.couples_samples:
            return "it cannot stack networks with batch statistics"
        if traits.draws:
            return "it cannot stack networks with dropout"
        if traits.buffers:
            return "it cannot stack networks with buffers"
        return plain_refusal(problem)

    @classmethod
    def is_faster(cls, problem: Problem) -> bool:
        """Whether several members of a convolutional network gain more from sharing each call than
        they lose by its layout.

        Measured on one CPU core, Myrtle5 on digits in batches of 64: the time of a member's step
        when stacked, relative to one by one, is with 2 channels 0.5 (8 members) and 0.8 (4), with 4
        channels 0.9 and 1.0, with 8 channels 0.8 and 1.2, with 16 channels 1.0 and 1.2; on images
        of 28 x 28 it is 1.1 with 2 channels and 1.7 with 4. It was never measured on CUDA.
        """
        channels = problem.traits.channels
        if channels is None:
            return False
        batch = problem.batch_size or problem.data.training_samples
        return batch * math.prod(problem.data.input_shape[1:]) * channels <= _MAX_ACTIVATIONS

    @torch.no_grad()
    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        problem = self.setup.problem
        every_step = torch.arange(self.step, self.step + steps)
        weights = self.setup.class_weights(every_step).to(self.device, problem.torch_dtype)
        for offset, class_weights in enumerate(weights):
            step = self.step + offset
            inputs, targets, *groups = self._batch(step)
            seen = inputs, targets, class_weights, *groups
            gradients, (loss, outputs) = self._gradients(self._stacked, *seen)
            if problem.sam_radius:
                ascent = steepest_ascent(list(gradients.values()), problem.sam_radius, stacked=True)
                tensors = torch._foreach_add([self._stacked[name] for name in gradients], ascent)
                worst = dict(zip(gradients, tensors, strict=True))
                gradients, _ = self._gradients(worst, *seen)
            if trace is not None:
                self._record(trace, offset, outputs, targets, loss)
            factor = problem.learning_rate_schedule.factor(step, problem.steps)
            ordered = [gradients[name] for name in self._stacked]
            self._sgd.step(list(self._stacked.values()), ordered, factor, self._caps)

    def _loss(
        self,
        parameters: dict[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        class_weights: Tensor,
        *groups: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """F of one member; as auxiliary output F again, and the outputs (B, C)."""
        outputs = functional_call(self._network, parameters, (inputs,))
        loss = weighted_loss(self.setup.problem.loss, outputs, targets, class_weights, *groups)
        return loss, (loss, outputs)

    def _record(
        self, trace: TraceBuffer, offset: int, outputs: Tensor, targets: Tensor, loss: Tensor
    ) -> None:
        chosen = list(trace.members)
        trace.weighted[:, offset] = loss[chosen]
        seen, expected = outputs[chosen], targets[chosen]  # (K, B, C), (K, B)
        one_hot = one_hot_rows(expected, seen.shape[-1], seen.dtype)
        trace.class_losses[:, offset] = class_losses(self.setup.problem.loss, seen.mT, one_hot)
        trace.correct[:, offset] = (seen.argmax(-1) == expected).sum(-1).to(seen.dtype)

    def _batch(self, step: int) -> tuple[Tensor, ...]:
        """Inputs (M, B, ...), targets (M, B) and, where they matter, groups (M, B) of one step."""
        inputs, targets = self._train_inputs, self._train_targets
        labels = (targets,) if self._groups is None else (targets, self._groups)
        members = range(len(self.setup.members))
        if self.setup.problem.batch_size is None:
            return self._seen(inputs).expand(len(members), *inputs.shape[1:]), *labels
        indices = [self.setup.batch(m, step) for m in members]
        rows = torch.stack([i for i in indices if i is not None]).to(self.device)  # (M, B)
        own = torch.arange(len(inputs), device=self.device)[:, None]
        return self._seen(inputs[own, rows]), *(label.gather(1, rows) for label in labels)

    def _seen(self, inputs: Tensor) -> Tensor:
        """Inputs (M or 1, B, ...) as the networks see them."""
        pairs = zip(inputs, self._split_samples("train"), strict=False)
        return torch.stack([samples.seen(own) for own, samples in pairs])

    @torch.no_grad()
    def _outputs(self, split: SplitName) -> Tensor:
        outputs = []
        for member, samples in enumerate(self._split_samples(split)):
            own = {name: tensor[member] for name, tensor in self._stacked.items()}
            network = partial(functional_call, self._network, own)
            outputs.append(samples.outputs(network, PIXELS_TOGETHER))
        return torch.stack(outputs)

    def _freeze(self, members: Tensor) -> None:
        """Set parameters and learning rate to zero: finite, and unchanged by further steps."""
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
        self._freeze(self.frozen)
