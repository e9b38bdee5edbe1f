"""The fused engine on the CPU: one compiled loop a member, members spread over the threads that
torch was given.

Symbols as in `fused`; n steps between two looks at the class weights, `lanes` values in a vector.
"""

from __future__ import annotations

import importlib.util
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from dynloss_core.training.engine import TraceBuffer
from dynloss_core.training.fused import FusedEngine
from dynloss_core.training.problem import Problem

__all__ = ["FusedCPUEngine"]

_CHUNK = 512  # steps between two looks at the class weights


class FusedCPUEngine(FusedEngine):
    """The fused loop in vector instructions, compiled when it is first used."""

    def _prepare(self) -> None:
        from dynloss_core.training import fused_kernel, lanes

        setup = self.setup
        self._lanes = lanes.lane_count(setup.problem.torch_dtype.itemsize)
        super()._prepare()
        samples, one_hot = self._samples(pad_to=self._lanes)
        self._train_samples, self._one_hot = samples.numpy(), one_hot.numpy()
        sizes = self._inputs, setup.num_classes, setup.problem.loss
        self._kernel = fused_kernel.steps_kernel(*sizes, traced=False)
        if self.traced:
            self._traced_kernel = fused_kernel.steps_kernel(*sizes, traced=True)

    @classmethod
    def _machine_refusal(cls, problem: Problem, device: str) -> str | None:
        if device != "cpu":
            return "it runs on the CPU"
        if importlib.util.find_spec("numba") is None:
            return "it needs numba (pip install numba)"
        return None

    def _stored_width(self) -> int:
        return -(-self._width // self._lanes) * self._lanes

    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        problem = self.setup.problem
        schedule = problem.learning_rate_schedule
        active = self._active()
        threads = min(torch.get_num_threads(), len(active))
        rows = {} if trace is None else {m: row for row, m in enumerate(trace.members)}

        def train(m: int, chunk: range, class_weights: Tensor, factors: np.ndarray) -> None:
            into = None
            if trace is not None and m in rows:
                here = rows[m], slice(chunk.start - self.step, chunk.stop - self.step)
                into = trace.class_losses[here].numpy(), trace.correct[here].numpy()
            self._train_member(m, class_weights.numpy(), factors, into)

        with ThreadPoolExecutor(threads) as pool:
            for begin in range(self.step, self.step + steps, _CHUNK):
                chunk = range(begin, min(begin + _CHUNK, self.step + steps))
                weights = self.setup.class_weights(torch.arange(chunk.start, chunk.stop))
                weights = weights.to(problem.torch_dtype).transpose(0, 1).contiguous()  # (M, n, C)
                factors = np.array([schedule.factor(step, problem.steps) for step in chunk])
                for_all = itertools.repeat(chunk), weights[active], itertools.repeat(factors)
                list(pool.map(train, active, *for_all))

    def _train_member(
        self,
        m: int,
        class_weights: np.ndarray,
        factors: np.ndarray,
        trace: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        """The steps (n,) of one member; `trace` takes class losses (n, C) and correct ones (n,)."""
        member = self.setup.members[m]
        own = 0 if len(self._one_hot) == 1 else m
        samples, one_hot = self._train_samples[own], self._one_hot[own]
        dtype = one_hot.dtype.type
        kernel = self._kernel if trace is None else self._traced_kernel
        kernel(
            self._weights[m].numpy(),
            self._velocity[m].numpy(),
            self._bias[m].numpy(),
            self._bias_velocity[m].numpy(),
            samples,
            one_hot,
            np.empty_like(one_hot),
            np.empty((2 * len(one_hot) + 1, self._lanes), dtype),
            class_weights,
            (member.learning_rate * factors).astype(dtype),
            len(self.setup.splits[m].train),
            dtype(member.momentum),
            dtype(member.weight_decay),
            self.setup.problem.nesterov and member.momentum > 0,
            *(trace or (np.empty((0, 0), dtype), np.empty(0, dtype))),
        )
