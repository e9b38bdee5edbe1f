"""The dynamical losses as modules: drop-in replacements with a step counter of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from dynloss_core.losses.weighted import MSEVariant, weighted_cross_entropy, weighted_mse
from dynloss_core.oscillation import ClassWeightSchedule, Oscillation, oscillation_stop

__all__ = ["DynamicalCrossEntropy", "DynamicalLoss", "DynamicalMSE"]


class DynamicalLoss(nn.Module, ABC):
    """A loss whose class weights oscillate with its own step counter.

    Call `step()` once after each `optimizer.step()`. In evaluation mode (`criterion.eval()`) the
    module returns the static loss, the one to report. `state_dict()` carries the step.

    Args:
        num_classes: C; the number of groups G where the oscillation is one of other groups.
        period: T in steps (optimiser updates) for which one class is active, >= 2.
        amplitude: A >= 1; 1 is the static loss.
        total_steps: length of the run in steps; needed for `static_tail` only.
        static_tail: steps at the end that train statically, rounded up so that the oscillation
            ends on a period boundary where one fits (see `oscillation_stop`).
        oscillation: what oscillates, and how; by default each class has its turn.
        seed: of what is random about turns and phases.

    Raises:
        ValueError: for a value outside its range, or `static_tail` without `total_steps`.
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
        seed: int = 0,
    ) -> None:
        super().__init__()
        stop = None
        if total_steps is not None:
            stop = oscillation_stop(total_steps, static_tail, period)
        elif static_tail:
            raise ValueError("static_tail needs total_steps: say how long the run is")
        self.schedule = ClassWeightSchedule(
            num_classes, period, amplitude, stop, oscillation or Oscillation(), seed
        )
        self.current_step = 0

    def forward(self, outputs: Tensor, targets: Tensor, groups: Tensor | None = None) -> Tensor:
        """The loss of `outputs` (N, C) against `targets` (N,), class indices of any integer type,
        at the current step: a scalar. Where other groups than the classes oscillate, `groups` (N,)
        says which each sample belongs to (see `Oscillation.assign`)."""
        if groups is None and not self.schedule.oscillation.is_by_class:
            raise ValueError("say the group of each sample: they do not oscillate by class")
        return self._loss(outputs, targets, self.class_weights(outputs), groups)

    def class_weights(self, like: Tensor) -> Tensor:
        """Class weights now, (C,), or those of the groups, with the dtype and device of `like`; 1
        in evaluation mode."""
        if not self.training:
            return torch.ones(self.schedule.num_classes, dtype=like.dtype, device=like.device)
        return self.schedule(self.current_step, dtype=like.dtype, device=like.device)

    def step(self) -> None:
        """Count one optimiser update."""
        self.current_step += 1

    def get_extra_state(self) -> dict[str, Any]:
        return {"step": self.current_step}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.current_step = int(state["step"])

    def extra_repr(self) -> str:
        return f"{self.schedule}, step={self.current_step}"

    @abstractmethod
    def _loss(
        self, outputs: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
    ) -> Tensor: ...


class DynamicalCrossEntropy(DynamicalLoss):
    """Dynamical cross-entropy, a drop-in for `torch.nn.CrossEntropyLoss`.

    >>> criterion = DynamicalCrossEntropy(num_classes=10, period=500, amplitude=20)
    >>> loss = criterion(torch.zeros(4, 10), torch.tensor([0, 1, 2, 3]))
    >>> criterion.step()
    """

    def _loss(
        self, outputs: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
    ) -> Tensor:
        return weighted_cross_entropy(outputs, targets, class_weights, groups)


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
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_classes,
            period,
            amplitude,
            total_steps=total_steps,
            static_tail=static_tail,
            oscillation=oscillation,
            seed=seed,
        )
        if variant not in ("sample_weighted", "output_weighted"):
            raise ValueError(
                f"variant must be 'sample_weighted' or 'output_weighted', got {variant!r}"
            )
        self.variant: MSEVariant = variant

    def _loss(
        self, outputs: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
    ) -> Tensor:
        return weighted_mse(outputs, targets, class_weights, groups, variant=self.variant)
