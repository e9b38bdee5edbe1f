"""The fused engine on the CPU: one compiled loop per member, with members spread over torch's
threads.

Symbols as in `fused`; n steps for which class weights are computed at once, `lanes` values in a
vector, k moments at which the parameters of K members are kept.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynloss_core.losses import kernel_form
from dynloss_core.training.engines.fused import FusedEngine
from dynloss_core.training.problem.problem import Problem
from dynloss_core.training.tracing import TraceBuffer

__all__ = ["FusedCPUEngine"]

_CHUNK = 512  # steps for which class weights are computed at once
_STORED_BYTES = 2**19  # of activations: as many stay in the second cache from pass to pass
_KEPT_VALUES = 2**22  # parameters kept at once for the probes
_MAX_MOMENTS = 64  # kept at once; more would not be cheaper


@dataclass(frozen=True, eq=False)
class _Kept:
    """Parameters of some members at some moments.

    Args:
        moments: k numbers of updates done, ascending.
        rows: the place of each of the K members in the arrays.
        weights: (K, k, D + 1 + C, S); the part that one member writes is contiguous, like the empty
            arrays, so that one compiled kernel serves both.
        bias: (K, k, C).
    """

    moments: range
    rows: Mapping[int, int]
    weights: np.ndarray
    bias: np.ndarray

    def within(self, chunk: range, member: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What to keep within the steps of a chunk: after how many of them, (k',), and where the
        weights (k', D + 1 + C, S) and biases (k', C) of a member go."""
        due = [i for i, moment in enumerate(self.moments) if chunk.start < moment <= chunk.stop]
        if not due or member not in self.rows:
            return self.nothing(self.weights.dtype)
        place = self.rows[member], slice(due[0], due[-1] + 1)
        after = np.array([self.moments[i] - chunk.start for i in due])
        return after, self.weights[place], self.bias[place]

    @staticmethod
    def nothing(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same where no parameters are to be kept."""
        return np.empty(0, np.int64), np.empty((0, 0, 0), dtype), np.empty((0, 0), dtype)


class FusedCPUEngine(FusedEngine):
    """The fused loop in vector instructions, compiled when first used."""

    def _prepare(self) -> None:
        from dynloss_core.compute import fused_steps_cpu, simd

        setup = self.setup
        self._lanes = simd.lane_count(setup.problem.torch_dtype.itemsize)
        super()._prepare()
        samples, one_hot = self._samples(pad_to=self._lanes)
        self._train_samples, self._one_hot = samples.numpy(), one_hot.numpy()
        size = self._width, one_hot.shape[-1]  # activations of a member
        stored = math.prod(size) * setup.problem.torch_dtype.itemsize <= _STORED_BYTES
        self._hidden_size = (self._stored_width(), size[1]) if stored else (0, 0)
        groups = setup.groups()
        self._groups = np.empty((len(setup.members), 0), np.int64)
        if groups is not None:
            self._groups = groups.contiguous().numpy()  # (M, N)
        kernel = partial(
            fused_steps_cpu.steps_kernel,
            *(self._inputs, setup.num_classes, kernel_form(setup.problem.loss)),
            grouped=groups is not None,
            sharp=setup.problem.sam_radius > 0,
            stored=stored,
        )
        self._kernel = kernel(traced=False)
        if self.traced:
            self._traced_kernel = kernel(traced=True)

    @classmethod
    def _machine_refusal(cls, problem: Problem, device: str) -> str | None:
        if device != "cpu":
            return "it only runs on the CPU"
        if importlib.util.find_spec("numba") is None:
            return "it needs numba (pip install numba)"
        return None

    def _stored_width(self) -> int:
        return -(-self._width // self._lanes) * self._lanes

    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        self._advance_keeping(steps, trace, None)

    def _moments_at_once(self) -> int:
        assert self._prober is not None
        values = len(self._prober.members) * self._weights[0].numel()
        return max(1, min(_MAX_MOMENTS, _KEPT_VALUES // values))

    def _advance_by_moments(
        self, moments: range, members: Sequence[int], trace: TraceBuffer | None
    ) -> Mapping[str, Tensor]:
        """The loop over steps stores the parameters without stopping: between two moments, the
        steps of a small network cost no more than a few calls into torch."""
        dtype = self.setup.problem.torch_dtype
        lead = len(members), len(moments)
        weights = torch.full((*lead, *self._weights.shape[1:]), torch.nan, dtype=dtype)
        bias = torch.full((*lead, self.setup.num_classes), torch.nan, dtype=dtype)
        rows = {member: row for row, member in enumerate(members)}
        kept = _Kept(moments, rows, weights.numpy(), bias.numpy())
        self._advance_keeping(moments[-1] - self.step, trace, kept)  # leaves NaN for frozen members
        return self._named(weights.transpose(0, 1), bias.transpose(0, 1))

    def _advance_keeping(self, steps: int, trace: TraceBuffer | None, kept: _Kept | None) -> None:
        problem = self.setup.problem
        schedule = problem.learning_rate_schedule
        active = self._active()
        threads = min(torch.get_num_threads(), len(active))
        empty = self._one_hot.dtype
        rows = {} if trace is None else {m: row for row, m in enumerate(trace.members)}

        def train(m: int, chunk: range, class_weights: Tensor, factors: np.ndarray) -> None:
            into = None
            if trace is not None and m in rows:
                place = rows[m], slice(chunk.start - self.step, chunk.stop - self.step)
                seen = trace.class_losses, trace.correct, trace.weighted
                into = tuple(tensor[place].numpy() for tensor in seen)
            due = _Kept.nothing(empty) if kept is None else kept.within(chunk, m)
            self._train_member(m, class_weights.numpy(), factors, into, due)

        with _spread_over(threads) as run_all:
            for begin in range(self.step, self.step + steps, _CHUNK):
                chunk = range(begin, min(begin + _CHUNK, self.step + steps))
                with _torch_on_this_thread():  # (M, n, C)
                    weights = self.setup.class_weights(torch.arange(chunk.start, chunk.stop))
                    weights = weights.to(problem.torch_dtype).transpose(0, 1)[active].contiguous()
                factors = np.array([schedule.factor(step, problem.steps) for step in chunk])
                for_all = itertools.repeat(chunk), weights, itertools.repeat(factors)
                run_all(train, active, *for_all)

    def _train_member(
        self,
        m: int,
        class_weights: np.ndarray,
        factors: np.ndarray,
        trace: tuple[np.ndarray, ...] | None,
        kept: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        """Do the n steps of one member; `trace` receives class losses (n, C), correct answers (n,)
        and weighted losses (n,), `kept` the parameters after some of the steps."""
        member = self.setup.members[m]
        own = 0 if len(self._one_hot) == 1 else m
        samples, one_hot = self._train_samples[own], self._one_hot[own]
        dtype = one_hot.dtype.type
        kernel = self._kernel if trace is None else self._traced_kernel
        rates = member.learning_rate * factors
        if self._caps is not None:
            rates = np.minimum(rates, float(self._caps[m]))
        with np.errstate(over="ignore"):  # an infinite rate is seen as divergence
            rates = rates.astype(dtype)
        kernel(
            self._weights[m].numpy(),
            self._velocity[m].numpy(),
            self._bias[m].numpy(),
            self._bias_velocity[m].numpy(),
            samples,
            one_hot,
            np.empty(self._hidden_size, dtype),
            np.empty_like(one_hot),
            np.empty((2 * len(one_hot) + 2, self._lanes), dtype),
            np.zeros((self._weights.shape[2], self._weights.shape[1], self._lanes), dtype),
            class_weights,
            rates,
            self._width,
            len(self.setup.splits[m].train),
            dtype(member.momentum),
            dtype(member.weight_decay),
            self.setup.problem.nesterov and member.momentum > 0,
            *(trace or (np.empty((0, 0), dtype), np.empty(0, dtype), np.empty(0, dtype))),
            *kept,
            self._groups[m],
            np.zeros(one_hot.shape[1] if self._groups.size else 0, dtype),
            dtype(self.setup.problem.sam_radius),
            *self._scratch(m),
        )

    def _scratch(self, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scratch for the sharpness-aware steps of a member; empty without them."""
        weights, bias = self._weights[m].numpy(), self._bias[m].numpy()
        if not self.setup.problem.sam_radius:
            weights, bias = weights[:0], bias[:0]
        return np.zeros_like(weights), np.zeros_like(weights), np.zeros_like(bias)


@contextmanager
def _torch_on_this_thread() -> Iterator[None]:
    """Torch without its other threads: after an operation they spin for milliseconds, on the cores
    that the loops over steps are to have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _spread_over(threads: int) -> Iterator[Callable[..., None]]:
    """A function that calls another for each row of some columns, like `map`, by so many threads,
    of which this one is one. Each takes the next row when it is free: a future for each would cost
    as much as many steps of a small network."""
    with ThreadPoolExecutor(max(1, threads - 1)) as pool:  # starts a thread when it has work for it

        def run_all(work: Callable[..., None], *columns: Iterable[Any]) -> None:
            rows, places = list(zip(*columns, strict=False)), itertools.count()

            def take() -> None:
                while (place := next(places)) < len(rows):
                    work(*rows[place])

            helpers = [pool.submit(take) for _ in range(threads - 1)]
            take()
            for helper in helpers:
                helper.result()

        yield run_all
