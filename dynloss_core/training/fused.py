"""Many small networks, each trained by one compiled loop that never leaves the cache.

For one hidden layer, few inputs and classes, and full batches: the case of the spirals. Members are
spread over the threads that torch was given; each is trained by itself, so that its result does not
depend on its neighbours or on the number of threads.

Symbols
    M      members
    D      inputs
    W      hidden units
    C      classes
    N      samples
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynloss_core.data import SpiralsConfig
from dynloss_core.models import MLPConfig
from dynloss_core.training.engine import Engine, SplitName
from dynloss_core.training.problem import Problem
from dynloss_core.training.setup import Setup

__all__ = ["FusedEngine"]

_CHUNK = 512  # steps between two looks at the class weights
_MOST_CLASSES = 8  # sums of all classes must fit the registers


class FusedEngine(Engine):
    """One compiled loop a member, on the CPU; its own learning rate, momentum and weight decay."""

    name = "fused"

    def __init__(self, setup: Setup, device: torch.device | str = "cpu") -> None:
        from dynloss_core.training import fused_kernel, lanes

        super().__init__(setup, device)
        dtype = np.dtype(setup.problem.dtype)
        count = lanes.lane_count(dtype.itemsize)
        members, classes = len(setup.members), setup.num_classes
        inputs = setup.splits[0].train.inputs.shape[1]
        self._inputs, self._width = inputs, setup.problem.model.width
        shape = (members, inputs + 1 + classes, self._width)
        self._weights = fused_kernel.zeros_padded(shape, dtype, count)
        self._bias = np.zeros((members, classes), dtype)
        for member, network in enumerate(setup.networks):
            named = {name: tensor.detach() for name, tensor in network.named_parameters()}
            hidden, offset, output, bias = named.values()  # (W, D), (W,), (C, W), (C,)
            rows = torch.cat([hidden.T, offset[None], output])  # (D + 1 + C, W)
            self._weights[member, :, : self._width] = rows.numpy()
            self._bias[member] = bias.numpy()
        self._velocity = np.zeros_like(self._weights)
        self._bias_velocity = np.zeros_like(self._bias)
        self._kernel = fused_kernel.steps_kernel(inputs, classes, setup.problem.loss)
        self._lanes = count
        self._train = [self._padded_split(member) for member in range(members)]
        own = {id(splits) for splits in setup.splits}
        self._shared = len(own) == 1

    @classmethod
    def refusal(cls, problem: Problem, device: str = "cpu") -> str | None:
        if not isinstance(problem.model, MLPConfig) or problem.model.depth != 1:
            return "it trains networks with one hidden layer"
        if problem.batch_size is not None:
            return "it trains on full batches"
        if not isinstance(problem.data, SpiralsConfig) or problem.data.num_classes > _MOST_CLASSES:
            return f"it trains on two inputs and up to {_MOST_CLASSES} classes"
        if torch.device(device).type != "cpu":
            return "it runs on the CPU"
        if importlib.util.find_spec("numba") is None:
            return "it needs numba (pip install numba)"
        return None

    def _advance(self, steps: int) -> None:
        problem, dtype = self.setup.problem, self._weights.dtype
        schedule = problem.learning_rate_schedule
        active = [m for m, found in enumerate(self.diverged_step.tolist()) if found < 0]
        threads = min(torch.get_num_threads(), len(active))
        with ThreadPoolExecutor(threads) as pool:
            for start in range(self.step, self.step + steps, _CHUNK):
                chunk = range(start, min(start + _CHUNK, self.step + steps))
                weights = self.setup.class_weights(torch.arange(chunk.start, chunk.stop))
                by_member = weights.transpose(0, 1).contiguous().numpy().astype(dtype)  # (M, n, C)
                factors = np.array([schedule.factor(step, problem.steps) for step in chunk])
                work = [(m, by_member[m], factors) for m in active]
                list(pool.map(self._train_member, *zip(*work, strict=True)))

    def _train_member(self, m: int, class_weights: np.ndarray, factors: np.ndarray) -> None:
        member, dtype = self.setup.members[m], self._weights.dtype.type
        samples, one_hot, count = self._train[m]
        self._kernel(
            self._weights[m],
            self._velocity[m],
            self._bias[m],
            self._bias_velocity[m],
            samples,
            one_hot,
            np.empty_like(one_hot),
            np.empty((len(one_hot), self._lanes), self._weights.dtype),
            class_weights,
            (member.learning_rate * factors).astype(dtype),
            count,
            dtype(member.momentum),
            dtype(member.weight_decay),
            self.setup.problem.nesterov and member.momentum > 0,
        )

    def _padded_split(self, member: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Samples (D, N), one-hot targets (C, N), both padded, and how many are there."""
        from dynloss_core.training.fused_kernel import zeros_padded

        train = self.setup.splits[member].train
        count, dtype = len(train), self._weights.dtype
        samples = zeros_padded((self._inputs, count), dtype, self._lanes)
        samples[:, :count] = train.inputs.numpy().T
        one_hot = zeros_padded((self.setup.num_classes, count), dtype, self._lanes)
        one_hot[train.targets.numpy(), np.arange(count)] = 1
        return samples, one_hot, count

    def _outputs(self, split: SplitName) -> Tensor:
        used = self.setup.splits[:1] if self._shared else self.setup.splits
        x = torch.stack([getattr(splits, split).inputs for splits in used])  # (M or 1, N, D)
        x = x.to(self.setup.problem.torch_dtype).expand(len(self.setup.members), -1, -1)
        weights = torch.from_numpy(self._weights[:, :, : self._width])  # (M, D + 1 + C, W)
        into, offset = weights[:, : self._inputs], weights[:, self._inputs, None]
        hidden = torch.baddbmm(offset, x, into).relu_()  # (M, N, W)
        bias = torch.from_numpy(self._bias)[:, None]
        return torch.baddbmm(bias, hidden, weights[:, self._inputs + 1 :].mT)

    def _freeze(self, members: Tensor) -> None:
        """Zero parameters: finite, and `_advance` passes over them."""
        chosen = members.numpy()
        for array in (self._weights, self._bias, self._velocity, self._bias_velocity):
            array[chosen] = 0

    def _parameters_state(self) -> Any:
        arrays = (self._weights, self._bias, self._velocity, self._bias_velocity)
        return [torch.from_numpy(array.copy()) for array in arrays]

    def _load_parameters_state(self, state: Any) -> None:
        arrays = [tensor.numpy().copy() for tensor in state]
        self._weights, self._bias, self._velocity, self._bias_velocity = arrays
