"""The dynamical losses as modules: drop-in replacements with their own step counter."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, get_args

import torch
from torch import Tensor, nn

from dynloss_core.losses.weighted import (
    MSEVariant,
    Reduction,
    weighted_cross_entropy,
    weighted_mse,
)
from dynloss_core.oscillation import ClassWeightSchedule, Oscillation, oscillation_stop

__all__ = ["DynamicalCrossEntropy", "DynamicalLoss", "DynamicalMSE"]

_STATE = ("step_count", "period", "amplitude")


class DynamicalLoss(nn.Module, ABC):
    """A loss whose class weights oscillate with its own step counter.

    Call `step()` once after each `optimizer.step()`, not after each backward pass if gradients are
    accumulated. In evaluation mode (`criterion.eval()`) the module returns the static loss, which
    is the one to report. The step, the period and the amplitude are buffers in the state_dict, and
    follow the outputs to their device: a step on CUDA does not synchronise, and a compiled step is
    compiled only once. Loading a checkpoint without them, from a static loss, leaves the step where
    it is. One with another period or amplitude adds it to the missing keys, which `load_state_dict`
    refuses if strict.

    Args:
        num_classes: C.
        period: T in steps (optimiser updates) for which one class is active, >= 2.
        amplitude: A >= 1; 1 is the static loss.
        total_steps: length of the run in steps; needed only for `static_tail`.
        static_tail: steps at the end that train statically, rounded up so that the oscillation
            ends on a period boundary where one fits (see `oscillation_stop`).
        oscillation: what oscillates, and how; by default each class has its turn. Without
            `total_steps`, random orders repeat after 16,384 turns.
        samples: N, the number of training samples; needed only if each of them oscillates by
            itself.
        seed: the seed of random turns and phases.

    Raises:
        ValueError: for a value outside its range, `static_tail` without `total_steps`, or groups
            `samples` without `samples`.
    """

    step_count: Tensor
    period: Tensor
    amplitude: Tensor

    def __init__(
        self,
        num_classes: int,
        period: int,
        amplitude: float,
        *,
        total_steps: int | None = None,
        static_tail: int = 0,
        oscillation: Oscillation | None = None,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        stop, oscillates = None, oscillation or Oscillation()
        if total_steps is not None:
            stop = oscillation_stop(total_steps, static_tail, period)
        elif static_tail:
            raise ValueError("static_tail needs total_steps: give the length of the run")
        if num_classes != int(num_classes) or num_classes < 1:
            raise ValueError(f"num_classes must be a whole number of at least 1, got {num_classes}")
        if oscillates.groups == "samples" and (samples is None or samples < 1):
            raise ValueError("groups 'samples' needs samples: give the number of training samples")
        self.num_classes = num_classes
        groups = oscillates.count(num_classes, samples or 0)
        self.schedule = ClassWeightSchedule(groups, period, amplitude, stop, oscillates, seed)
        self._weights = self.schedule.as_module()
        self.register_buffer("step_count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("period", torch.tensor(float(period), dtype=torch.float32))
        self.register_buffer("amplitude", torch.tensor(float(amplitude), dtype=torch.float32))
        self.register_load_state_dict_pre_hook(_compare_state)  # type: ignore[no-untyped-call]

    @property
    def current_step(self) -> int:
        """Optimiser updates counted so far. Reading it waits for the device."""
        return int(self.step_count)

    @current_step.setter
    def current_step(self, step: int) -> None:
        self.step_count.fill_(step)

    def forward(self, outputs: Tensor, targets: Tensor, groups: Tensor | None = None) -> Tensor:
        """The loss of `outputs` (N, C) against `targets` (N,), class indices of any integer type,
        at the current step. If groups other than the classes oscillate, `groups` (N,) gives the
        group of each sample (see `Oscillation.assign`); in evaluation mode none is needed."""
        if not self.training:
            return self._loss(outputs, targets, self._ones(self.num_classes, outputs), None)
        if groups is None and not self.schedule.oscillation.is_by_class:
            raise ValueError("give the group of each sample: the weights do not oscillate by class")
        classes = outputs.shape[min(outputs.ndim - 1, 1)]
        if groups is not None and classes != self.num_classes:
            said = f"outputs have {classes} classes, the loss {self.num_classes}"
            raise ValueError(f"{said}: num_classes must be {classes}")
        return self._loss(outputs, targets, self.class_weights(outputs), groups)

    def class_weights(self, like: Tensor) -> Tensor:
        """Current class weights, (C,), or weights of the groups, on the device of `like` and in its
        dtype, but at least float32; 1 in evaluation mode."""
        if not self.training or like.is_meta:
            return self._ones(self.schedule.num_classes, like)
        dtype = torch.promote_types(like.dtype, torch.float32)
        if like.device.type == "mps":  # which has no float64
            return self.schedule(self.current_step, dtype=dtype, device=like.device)
        if self.step_count.device != like.device:
            self.to(like.device)
        weights: Tensor = self._weights(self.step_count)
        return weights.to(dtype)

    @staticmethod
    def _ones(number: int, like: Tensor) -> Tensor:
        dtype = torch.promote_types(like.dtype, torch.float32)
        return torch.ones(number, dtype=dtype, device=like.device)

    def step(self) -> None:
        """Count one optimiser update."""
        self.step_count += 1

    def reset_parameters(self) -> None:
        """Go back to step 0, as torch requires of a module made on the meta device."""
        self.step_count.zero_()
        self.period.fill_(self.schedule.period)
        self.amplitude.fill_(self.schedule.amplitude)
        self._weights.reset_parameters()

    def extra_repr(self) -> str:
        step = "?" if self.step_count.is_meta else self.current_step
        return f"{self.schedule}, step={step}"

    @abstractmethod
    def _loss(
        self, outputs: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
    ) -> Tensor: ...


class DynamicalCrossEntropy(DynamicalLoss):
    """Dynamical cross-entropy, a drop-in for `torch.nn.CrossEntropyLoss`.

    It takes outputs (N, C), (N, C, d...) or (C,), class indices of any integer type or class
    probabilities, and a mean divides by the number of samples that count, not by the sum of their
    weights (see `weighted_cross_entropy`). Half-precision outputs give a loss in float32.

    >>> criterion = DynamicalCrossEntropy(num_classes=10, period=500, amplitude=20)
    >>> loss = criterion(torch.zeros(4, 10), torch.tensor([0, 1, 2, 3]))
    >>> criterion.step()

    Args:
        num_classes, period, amplitude, total_steps, static_tail, oscillation, samples, seed: as for
            `DynamicalLoss`.
        ignore_index, label_smoothing, reduction: as for `torch.nn.CrossEntropyLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        period: int,
        amplitude: float,
        *,
        total_steps: int | None = None,
        static_tail: int = 0,
        oscillation: Oscillation | None = None,
        samples: int | None = None,
        seed: int = 0,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(
            num_classes,
            period,
            amplitude,
            total_steps=total_steps,
            static_tail=static_tail,
            oscillation=oscillation,
            samples=samples,
            seed=seed,
        )
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.reduction: Reduction = reduction

    def _loss(
        self, outputs: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
    ) -> Tensor:
        return weighted_cross_entropy(
            outputs,
            targets,
            class_weights,
            groups,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )


class DynamicalMSE(DynamicalLoss):
    """Dynamical mean squared error against one-hot targets, in either variant of `weighted_mse`."""

    def __init__(
        self,
        num_classes: int,
        period: int,
        amplitude: float,
        *,
        variant: MSEVariant = "sample_weighted",
        total_steps: int | None = None,
        static_tail: int = 0,
        oscillation: Oscillation | None = None,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_classes,
            period,
            amplitude,
            total_steps=total_steps,
            static_tail=static_tail,
            oscillation=oscillation,
            samples=samples,
            seed=seed,
        )
        if variant not in ("sample_weighted", "output_weighted"):
            raise ValueError(
                f"variant must be 'sample_weighted' or 'output_weighted', got {variant!r}"
            )
        if variant == "output_weighted" and not self.schedule.oscillation.is_by_class:
            raise ValueError("variant 'output_weighted' weights classes: no other groups oscillate")
        self.variant: MSEVariant = variant

    def _loss(
        self, outputs: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
    ) -> Tensor:
        return weighted_mse(outputs, targets, class_weights, groups, variant=self.variant)


def _compare_state(
    module: DynamicalLoss,
    state_dict: dict[str, Any],
    prefix: str,
    _metadata: dict[str, Any],
    _strict: bool,
    missing: list[str],
    _unexpected: list[str],
    _errors: list[str],
) -> None:
    """Before a state is loaded: if its period or amplitude differs, report it as missing and keep
    the module's own. A state without any of them, from a static loss, changes nothing."""
    own = {prefix + name: getattr(module, name) for name in _STATE}
    if (before := state_dict.pop(f"{prefix}_extra_state", None)) is not None:  # of version 0.1
        state_dict.update(own)
        state_dict[f"{prefix}step_count"] = torch.tensor(before["step"])
    if not own.keys() & state_dict.keys():
        state_dict.update(own)
        return
    for name in ("period", "amplitude"):
        saved, current = state_dict.get(prefix + name), float(getattr(module.schedule, name))
        if saved is None:
            continue
        # averaging states rounds; half precision rounds more, or cannot hold the number
        rounding = torch.finfo(saved.dtype).eps if saved.is_floating_point() else 0.0
        tolerance = max(1e-5, 2 * rounding)
        if math.isfinite(float(saved)) and abs(float(saved) - current) > tolerance * current:
            missing.append(f"{prefix}{name} = {current:g} (the state has {float(saved):g})")
        state_dict[prefix + name] = own[prefix + name]
