"""Many small networks, each trained by one loop that stays in registers and the nearest cache.

For one hidden layer, few inputs and classes, and full batches, as on the spirals. The engines for
the CPU and for CUDA share the layout, the metrics and the state, which are here. Each member is
trained by itself, so its result depends neither on the others nor on how the members are
distributed.

Symbols
    M      members
    D      inputs
    W      hidden units; S >= W are stored, the rest stay zero
    C      classes
    N      samples

The parameters of hidden unit w are column w of one array (D + 1 + C, S): D input weights, the bias,
C output weights.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from dynloss_core.losses import one_hot_rows, refusal_of_form
from dynloss_core.training.engine import Engine, SplitName
from dynloss_core.training.problem.problem import Problem, plain_refusal

__all__ = ["FusedEngine"]

_MAX_CLASSES = 8  # sums of all classes must fit the registers
_MAX_ROWS = 10  # D + C, for the same reason
_HIDDEN_VALUES = 2**26  # hidden activations held at once in an evaluation


class FusedEngine(Engine):
    """One fused loop per member, with its own learning rate, momentum and weight decay."""

    name = "fused"
    summary = "one compiled loop per small perceptron"

    def _prepare(self) -> None:
        setup = self.setup
        dtype = setup.problem.torch_dtype
        members, classes = len(setup.members), setup.num_classes
        sizes = setup.traits.one_hidden_layer
        assert sizes is not None
        self._inputs, self._width, _ = sizes
        rows = self._inputs + 1 + classes
        stored = self._stored_width()
        self._weights = torch.zeros(members, rows, stored, dtype=dtype)
        self._bias = torch.zeros(members, classes, dtype=dtype)
        for member, network in enumerate(setup.networks):
            named = {name: tensor.detach() for name, tensor in network.named_parameters()}
            hidden, offset, output, bias = named.values()  # (W, D), (W,), (C, W), (C,)
            self._weights[member, :, : self._width] = torch.cat([hidden.T, offset[None], output])
            self._bias[member] = bias
        self._weights = self._weights.to(self.device)
        self._bias = self._bias.to(self.device)
        self._velocity = torch.zeros_like(self._weights)
        self._bias_velocity = torch.zeros_like(self._bias)
        self._own_splits = setup.own_splits()

    @classmethod
    def refusal(cls, problem: Problem, device: str = "cpu") -> str | None:
        if problem.traits.one_hidden_layer is None:
            return "it only trains networks with one hidden layer"
        if problem.batch_size is not None:
            return "it only trains on full batches"
        shape, classes = problem.data.input_shape, problem.data.num_classes
        if len(shape) != 1 or classes > _MAX_CLASSES or shape[0] + classes > _MAX_ROWS:
            return (
                f"it only trains on flat inputs and up to {_MAX_CLASSES} classes, "
                f"together at most {_MAX_ROWS}"
            )
        reason = refusal_of_form(problem.loss, "kernel") or plain_refusal(problem)
        if reason is not None:
            return reason
        return cls._machine_refusal(problem, torch.device(device).type)

    @classmethod
    @abstractmethod
    def _machine_refusal(cls, problem: Problem, device: str) -> str | None:
        """Why a problem that suits the loop cannot be trained on `device` here; None if it can."""

    @abstractmethod
    def _stored_width(self) -> int:
        """S, columns stored for a member's hidden units."""

    def _samples(self, pad_to: int = 1) -> tuple[Tensor, Tensor]:
        """Training samples (M or 1, D, N) and one-hot targets (M or 1, C, N), with N padded by
        zeros to a multiple of `pad_to`, on the device."""
        dtype = self.setup.problem.torch_dtype
        inputs = torch.stack([splits.train.inputs.T for splits in self._own_splits]).to(dtype)
        targets = torch.stack([splits.train.targets for splits in self._own_splits])
        one_hot = one_hot_rows(targets, self.setup.num_classes, dtype)
        padding = (0, -inputs.shape[-1] % pad_to)
        pad = torch.nn.functional.pad
        return (
            pad(inputs, padding).contiguous().to(self.device),
            pad(one_hot, padding).contiguous().to(self.device),
        )

    def _outputs(self, split: SplitName) -> Tensor:
        x = torch.stack([getattr(splits, split).inputs for splits in self._own_splits])
        x = x.to(self.device, self._weights.dtype)  # (M or 1, N, D)
        x = x.expand(len(self.setup.members), -1, -1)
        weights = self._weights[:, :, : self._width]  # (M, D + 1 + C, W)
        at_once = max(1, _HIDDEN_VALUES // (x.shape[1] * self._width))
        parts = zip(
            *(torch.split(part, at_once) for part in (x, weights, self._bias[:, None])),
            strict=True,
        )
        return torch.cat([self._part_outputs(*part) for part in parts])

    def _part_outputs(self, x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        into, offset = weights[:, : self._inputs], weights[:, self._inputs, None]
        hidden = torch.baddbmm(offset, x, into).relu_()  # (M, N, W)
        return torch.baddbmm(bias, hidden, weights[:, self._inputs + 1 :].mT)

    def _freeze(self, members: Tensor) -> None:
        """Set the parameters to zero, which is finite; `_advance` skips frozen members."""
        for tensor in (self._weights, self._bias, self._velocity, self._bias_velocity):
            tensor[members.to(self.device)] = 0

    def _member_parameters(self, member: int) -> dict[str, Tensor]:
        named = self._named(self._weights[member], self._bias[member])
        return {name: tensor.to("cpu", copy=True) for name, tensor in named.items()}

    def _named(self, weights: Tensor, bias: Tensor) -> dict[str, Tensor]:
        """Views of weights (..., D + 1 + C, S) and biases (..., C), named as in the network."""
        weights = weights[..., : self._width]
        return {
            "layers.0.weight": weights[..., : self._inputs, :].mT,
            "layers.0.bias": weights[..., self._inputs, :],
            "layers.1.weight": weights[..., self._inputs + 1 :, :],
            "layers.1.bias": bias,
        }

    def _parameters_state(self) -> Any:
        """Without padding, so that a run can continue on another device."""
        stored = (self._weights[..., : self._width], self._bias)
        moving = (self._velocity[..., : self._width], self._bias_velocity)
        return [tensor.cpu().clone() for tensor in (*stored, *moving)]

    def _load_parameters_state(self, state: Any) -> None:
        weights, bias, velocity, bias_velocity = state
        self._weights[..., : self._width] = weights
        self._velocity[..., : self._width] = velocity
        self._bias.copy_(bias)
        self._bias_velocity.copy_(bias_velocity)
