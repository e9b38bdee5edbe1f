"""The class weights of one network as a function of the step."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property

import torch
from torch import Tensor

from dynloss_core.oscillation.oscillation import Oscillation
from dynloss_core.oscillation.weights import GroupWeights, OneGroupWeights

__all__ = ["ClassWeightSchedule"]


@dataclass(frozen=True, repr=False)
class ClassWeightSchedule:
    """Class weights of the dynamical loss, or weights of other groups, as a function of the step.

    >>> ClassWeightSchedule(num_classes=2, period=4, amplitude=3.0)(2)
    tensor([1.5000, 0.5000])

    Args:
        num_classes: C >= 1; if groups other than the classes oscillate, their number G (see
            `Oscillation.count`).
        period: T >= 2, in steps, for which one class is active.
        amplitude: A >= 1; A = 1 gives weights of exactly 1, the static loss.
        stop: the step from which all weights are 1 (see `oscillation_stop`); None: never.
        oscillation: what oscillates, and how.
        seed: the seed of random turns and phases.

    Raises:
        ValueError: for a value outside these ranges.
    """

    num_classes: int
    period: int
    amplitude: float
    stop: int | None = None
    oscillation: Oscillation = field(default_factory=Oscillation)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        counted = self.oscillation.count(self.num_classes, self.num_classes)
        if self.num_classes != counted:
            groups = self.oscillation.groups
            raise ValueError(f"groups {groups!r} are {counted}, got {self.num_classes}")
        if self.period != int(self.period) or self.period < 2:
            raise ValueError(f"period must be an integer of at least 2 steps, got {self.period}")
        if not 1 <= self.amplitude < float("inf"):
            raise ValueError(f"amplitude must be finite and at least 1, got {self.amplitude}")
        if self.stop is not None and self.stop < 0:
            raise ValueError(f"stop must be a step >= 0 or None, got {self.stop}")

    def __repr__(self) -> str:
        """The published schedule in short form; others with what differs from it."""
        given = [field for field in fields(self) if field.name not in ("oscillation", "seed")]
        if self.oscillation != Oscillation():
            given = list(fields(self))
        values = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in given)
        return f"{type(self).__name__}({values})"

    def __call__(
        self,
        step: int | Tensor,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Class weights at one step, shape (C,), or at n steps, shape (n, C).

        Args:
            step: an integer, or a 1-D integer tensor of n steps; steps count from 0.
            dtype: the dtype of the result; torch's default dtype if None. Weights are computed in
                float64.
            device: the device of the result; that of `step` if None.

        Raises:
            TypeError: if `step` is not an integer or a 1-D integer tensor.
            ValueError: if a step is negative.
        """
        steps = step if isinstance(step, Tensor) else torch.tensor(step)
        if steps.is_floating_point() or steps.is_complex() or steps.dtype == torch.bool:
            raise TypeError(f"step must be an integer, got {steps.dtype}")
        if steps.ndim > 1:
            raise TypeError(f"step must be an integer or a 1-D tensor, got {tuple(steps.shape)}")
        if steps.numel() and int(steps.min()) < 0:
            raise ValueError(f"step must be >= 0, got {int(steps.min())}")
        weights = self._weights(steps.cpu().to(torch.int64).reshape(-1))[:, 0]
        weights = weights.reshape(*steps.shape, self.num_classes)
        return weights.to(dtype=dtype or torch.get_default_dtype(), device=device or steps.device)

    def as_module(self) -> OneGroupWeights:
        """The same schedule as a module from a step () to weights (C,) in float64; it uses only
        tensor operations, so it can be compiled."""
        return OneGroupWeights(
            self.oscillation, self.num_classes, self.period, self.amplitude, self.stop, self.seed
        )

    @cached_property
    def _weights(self) -> GroupWeights:
        stop = torch.iinfo(torch.int64).max if self.stop is None else self.stop
        return GroupWeights(
            self.oscillation,
            self.num_classes,
            torch.tensor([self.period]),
            torch.tensor([self.amplitude], dtype=torch.float64),
            torch.tensor([stop]),
            [self.seed],
        )
