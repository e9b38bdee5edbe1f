"""The engine for convolutional networks on images, one member after another.

The images stay on the device as bytes; crop, mirror and scale are computed there for a whole batch.
Images and weights are stored channels last, the layout that oneDNN and cuDNN convolutions prefer.

On the CPU a batch goes through the network in parts, one or more per thread, and the gradients of
the parts are added: the same batch up to rounding. A network with batch statistics or dropout sees
its batch whole; one with unknown layers is refused. On CUDA the step is compiled, if the run is
long enough to make up for it, and recorded as a graph. On the CPU compiling does not pay: it takes
22 s to save a tenth of a step of Myrtle5-16, and 30 s to save a twentieth of one of WRN-10-1.

Symbols
    M      members
    N      samples of a split
    B      samples of a batch
    b      samples of a part of a batch
    C      classes
    n      steps
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from dynloss_core.compute.allocator import keep_freed_memory
from dynloss_core.compute.batch_threads import PartThreads
from dynloss_core.compute.cuda_graph import Step, captured
from dynloss_core.losses import weighted_loss
from dynloss_core.training.engine import Engine, SplitName
from dynloss_core.training.optimisers.foreach_sgd import ForeachSGD
from dynloss_core.training.problem.augmentation import gather_augmented
from dynloss_core.training.problem.dropout_masks import dropout_noise
from dynloss_core.training.problem.problem import Problem
from dynloss_core.training.problem.split_samples import Samples, samples_of, together
from dynloss_core.training.tracing import TraceBuffer

__all__ = ["PIXELS", "ConvnetEngine"]

PIXELS = {"cpu": 2**16, "cuda": 2**21}  # seen at once by a network
_MIN_STEPS_TO_COMPILE = 5_000  # member-steps on CUDA


class ConvnetEngine(Engine):
    """One network on the device, which the members use in turn between two evaluations."""

    name = "convnet"
    summary = "one network, members in turn"

    def _prepare(self) -> None:
        setup = self.setup
        self._traits = setup.traits
        if self.device.type == "cpu":
            keep_freed_memory()
        self._threads = PartThreads(self.device)
        network = copy.deepcopy(setup.networks[0]).to(self.device)
        self._network = network.to(memory_format=torch.channels_last)
        self._parameters = list(self._network.parameters())
        self._sgd = ForeachSGD(setup, self._parameters)
        self._working = [*self._network.state_dict(keep_vars=True).values(), *self._sgd.velocity]
        self._parked = [self._initial(member) for member in range(len(setup.members))]
        self._held = -1  # the member whose state is in the network
        self._split_samples = cache(
            partial(samples_of, setup, device=self.device, channels_last=True)
        )
        self._steps: dict[int, Step] = {}  # by data set: a recorded step is bound to its memory
        self._loss = self._weighted_loss
        kinds = ("learning_rate", "momentum", "weight_decay")
        dtype = setup.problem.torch_dtype
        self._hyperparameters = {
            kind: torch.tensor(
                [getattr(member, kind) for member in setup.members], dtype=dtype, device=self.device
            )
            for kind in kinds
        }  # (M,) each

    @classmethod
    def refusal(cls, problem: Problem, device: str = "cpu") -> str | None:
        if problem.sam_radius:
            return "it does not support sharpness-aware minimisation"
        unusual = problem.traits.unusual
        return None if unusual is None else f"in the network {problem.model.name!r}, {unusual}"

    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        problem = self.setup.problem
        every_step = range(self.step, self.step + steps)
        weights = self.setup.class_weights(torch.tensor(every_step))
        weights = weights.to(self.device, problem.torch_dtype)  # (n, M, C)
        schedule = problem.learning_rate_schedule
        factors = torch.tensor(
            [schedule.factor(step, problem.steps) for step in every_step],
            dtype=problem.torch_dtype,
            device=self.device,
        )  # (n,)
        rows = {} if trace is None else {m: row for row, m in enumerate(trace.members)}
        self._network.train()
        for member in self._active():
            self._load_member(member)
            rates = factors * self._hyperparameters["learning_rate"][member]
            if self._caps is not None:
                rates = torch.minimum(rates, self._caps[member])
            for offset, step in enumerate(every_step):
                own = weights[offset, member]
                outputs, targets, groups = self._update(member, step, own, rates[offset])
                if trace is not None and member in rows:
                    row = rows[member]
                    trace.record(row, offset, problem.loss, outputs, targets)
                    if groups is not None:
                        trace.weighted[row, offset] = weighted_loss(
                            problem.loss, outputs, targets, own, groups
                        )

    def _update(
        self, member: int, step: int, class_weights: Tensor, rate: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Do one update; return the outputs (B, C) before it, their targets (B,), and their groups
        where they matter."""
        samples = self._split_samples("train")[member]
        batch = self.setup.batch(member, step)
        places = torch.arange(len(samples.targets)) if batch is None else batch
        places = places.to(self.device, non_blocking=True)
        draws = self.setup.augmentation_draws(member, step)
        own = [self._hyperparameters[kind][member] for kind in ("momentum", "weight_decay")]
        arguments = [places, class_weights, rate, *own]
        if draws is not None:
            arguments.append(draws.to(self.device, non_blocking=True))
        seed = self.setup.members[member].seed
        with dropout_noise(self._traits.draws, seed, step, self.device):
            outputs = self._step_on(samples, arguments)(*arguments)
        return outputs, samples.targets[places], _at(samples.groups, places)

    def _step_on(self, samples: Samples, arguments: Sequence[Tensor]) -> Step:
        """The update on a data set, recorded or not."""
        key = id(samples)
        if key not in self._steps:

            def step(
                places: Tensor,
                class_weights: Tensor,
                rate: Tensor,
                momentum: Tensor,
                decay: Tensor,
                draws: Tensor | None = None,
            ) -> Tensor:
                outputs, gradients = self._gradients(samples, places, draws, class_weights)
                self._sgd.step(gradients, rate, momentum, decay)
                return outputs

            # a graph would repeat the dropout masks that it was recorded with
            records = self.device.type == "cuda" and not self._traits.draws
            if records and self._worth_compiling():
                self._loss = torch.compile(self._weighted_loss, dynamic=False)
            self._steps[key] = captured(step, arguments, self._working) if records else step
        return self._steps[key]

    def _worth_compiling(self) -> bool:
        work = self.setup.problem.steps * len(self.setup.members)
        return work >= _MIN_STEPS_TO_COMPILE and importlib.util.find_spec("triton") is not None

    def _gradients(
        self, samples: Samples, places: Tensor, draws: Tensor | None, class_weights: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs (B, C) of a batch, and the gradients of F, part by part."""
        size = len(places)
        parts = self._parts(samples, size)
        pieces = [None] * parts if draws is None else draws.tensor_split(parts)

        def part(own: tuple[Tensor, Tensor | None]) -> tuple[Tensor, tuple[Tensor, ...]]:
            images, targets = self._batch(samples, *own), samples.targets[own[0]]
            groups = _at(samples.groups, own[0])
            loss, outputs = self._loss(images, targets, class_weights, groups)
            share = loss if parts == 1 else loss * (len(targets) / size)
            return outputs.detach(), torch.autograd.grad(share, self._parameters)

        results = self._threads.map(part, zip(places.tensor_split(parts), pieces, strict=True))
        outputs, total = results[0]
        for _, gradients in results[1:]:
            total = torch._foreach_add(total, gradients)
        return torch.cat([chunk for chunk, _ in results]) if parts > 1 else outputs, total

    def _parts(self, samples: Samples, size: int) -> int:
        """The number of parts for a batch of `size` samples: equal shares for the threads, none
        larger than a network should see at once."""
        whole = self._traits.couples_samples or self._traits.draws
        if whole or self.device.type != "cpu":
            return 1
        threads = min(self._threads.count, size)
        rounds = -(-size // (threads * together(samples.inputs, PIXELS["cpu"])))
        return min(threads * rounds, size)

    def _batch(self, samples: Samples, places: Tensor, draws: Tensor | None) -> Tensor:
        """Training images (b, channels, H, W) as the network sees them, channels last in memory."""
        inputs = samples.inputs
        if draws is None or inputs.ndim != 4:
            return samples.seen(inputs[places])
        crop = self.setup.problem.augmentation.crop
        images = gather_augmented(inputs.permute(0, 2, 3, 1), places, draws, crop)
        return samples.seen(images.permute(0, 3, 1, 2))

    def _weighted_loss(
        self, images: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """F of some samples, and their outputs (b, C)."""
        outputs, loss = self._forward(images), self.setup.problem.loss
        return weighted_loss(loss, outputs, targets, class_weights, groups), outputs

    def _forward(self, images: Tensor) -> Tensor:
        problem = self.setup.problem
        with problem.autocast(self.device):
            outputs: Tensor = self._network(images)
        return outputs.to(problem.torch_dtype)

    @torch.no_grad()
    def _outputs(self, split: SplitName) -> Tensor:
        self._network.eval()
        outputs, pixels = [], PIXELS[self.device.type]
        for member, samples in enumerate(self._split_samples(split)):
            self._load_member(member)
            outputs.append(samples.outputs(self._forward, pixels, self._threads))
        return torch.stack(outputs)

    def _initial(self, member: int) -> list[Tensor]:
        """A member's initial state in the order of `_working`, with zero velocity."""
        own = [
            tensor.detach().to(self.device, copy=True)
            for tensor in self.setup.networks[member].state_dict().values()
        ]
        return own + [torch.zeros_like(velocity) for velocity in self._sgd.velocity]

    @torch.no_grad()
    def _load_member(self, member: int) -> None:
        """Load a member's state into the network, and park the state that was there."""
        if self._held == member:
            return
        self._park()
        torch._foreach_copy_(self._working, self._parked[member])
        self._held = member

    @torch.no_grad()
    def _park(self) -> None:
        if self._held >= 0:
            torch._foreach_copy_(self._parked[self._held], self._working)

    def _freeze(self, members: Tensor) -> None:
        """Nothing to do: `_advance` skips frozen members."""

    def _member_parameters(self, member: int) -> dict[str, Tensor]:
        self._park()
        names = self._network.state_dict()
        return {
            name: tensor.cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in zip(names, self._parked[member], strict=False)
        }

    def _parameters_state(self) -> Any:
        self._park()
        return [[tensor.cpu().clone() for tensor in tensors] for tensors in self._parked]

    @torch.no_grad()
    def _load_parameters_state(self, state: Any) -> None:
        for parked, saved in zip(self._parked, state, strict=True):
            for tensor, old in zip(parked, saved, strict=True):
                tensor.copy_(old)
        self._held = -1


def _at(labels: Tensor | None, places: Tensor) -> Tensor | None:
    return None if labels is None else labels[places]
