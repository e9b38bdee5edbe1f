"""The fused engine on CUDA: one Triton program per member, whose parameters stay on the chip for
many steps; thousands of members per launch.

Symbols as in `fused`; n steps per launch.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from dynloss_core.training.engines.fused import FusedEngine
from dynloss_core.training.problem.problem import Problem
from dynloss_core.training.tracing import TraceBuffer

__all__ = ["FusedCUDAEngine"]

_CHUNK = 512  # steps per launch: enough to hide its cost, few enough for its class weights


class FusedCUDAEngine(FusedEngine):
    """The fused loop as a Triton kernel, compiled when first used."""

    def _prepare(self) -> None:
        setup = self.setup
        super()._prepare()
        self._train_samples, self._one_hot = self._samples()
        self._groups = setup.groups(self.device)  # (M, N), or None
        self._learning_rate = self._column([member.learning_rate for member in setup.members])
        self._momentum = self._column([member.momentum for member in setup.members])
        self._weight_decay = self._column([member.weight_decay for member in setup.members])

    @classmethod
    def _machine_refusal(cls, problem: Problem, device: str) -> str | None:
        if device != "cuda":
            return "it only runs on CUDA"
        if problem.sam_radius:
            return "it does not support sharpness-aware minimisation on CUDA"
        if importlib.util.find_spec("triton") is None:
            return "it needs triton (pip install triton)"
        return None

    def _stored_width(self) -> int:
        return self._width

    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        from dynloss_core.compute.fused_steps_triton import train_steps

        problem, end = self.setup.problem, self.step + steps
        schedule = problem.learning_rate_schedule
        active = torch.tensor(self._active(), device=self.device)
        members, classes = self._bias.shape
        for begin in range(self.step, end, _CHUNK):
            chunk = torch.arange(begin, min(begin + _CHUNK, end), device=self.device)
            factors = [schedule.factor(step, problem.steps) for step in chunk.tolist()]
            rates = self._column(factors)[:, None] * self._learning_rate  # (n, M)
            if self._caps is not None:
                rates = torch.minimum(rates, self._caps)
            class_losses = correct = weighted = None
            if trace is not None:  # of all members: the kernel does not select
                class_losses = self._bias.new_full((len(chunk), members, classes), torch.nan)
                correct = self._bias.new_full((len(chunk), members), torch.nan)
                if self._groups is not None:
                    weighted = torch.full_like(correct, torch.nan)
            train_steps(
                self._weights,
                self._velocity,
                self._bias,
                self._bias_velocity,
                self._train_samples,
                self._one_hot,
                self.setup.class_weights(chunk).to(problem.torch_dtype),
                rates,
                self._momentum,
                self._weight_decay,
                active,
                count=self._one_hot.shape[-1],
                loss=problem.loss,
                nesterov=problem.nesterov,
                class_losses=class_losses,
                correct=correct,
                groups=self._groups,
                weighted=weighted,
            )
            if trace is not None and class_losses is not None and correct is not None:
                chosen, at = (
                    list(trace.members),
                    slice(begin - self.step, begin - self.step + len(chunk)),
                )
                trace.class_losses[:, at] = class_losses[:, chosen].transpose(0, 1)
                trace.correct[:, at] = correct[:, chosen].T
                if weighted is not None:
                    trace.weighted[:, at] = weighted[:, chosen].T

    def _column(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=self._bias.dtype, device=self.device)
