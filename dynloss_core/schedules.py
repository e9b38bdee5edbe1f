"""Class weights that oscillate: each class is given its turn.

Symbols
    C      number of classes
    T      period in steps: how long ONE class stays active (a full turn takes C*T steps)
    A      amplitude, A >= 1; A = 1 is the static loss
    t      step: number of optimiser updates done so far, t = 0, 1, 2, ...
    k      period number, k = t // T; the active class is i = k mod C
    tau    step inside the period, tau = t mod T
    m      raw weight of the active class, a triangle from 1 up to A and back
    Gamma  class weights, shape (C,), sum(Gamma) = C

Source: Ruiz-Garcia, Zhang, Schoenholz, Liu, "Tilting the playing field: Dynamical loss functions
for machine learning", ICML 2021, arXiv:2102.03793.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ClassWeightSchedule", "class_weights", "oscillation_stop"]


def class_weights(
    step: Tensor, period: Tensor, amplitude: Tensor, stop: Tensor, num_classes: int
) -> Tensor:
    r"""Class weights Gamma at given steps, in float64.

    .. math::
        m = 1 + 2 (A - 1) \frac{\min(\tau, T - \tau)}{T}, \qquad
        \Gamma_c = \frac{C\, (m\ \text{if}\ c = k \bmod C\ \text{else}\ 1)}{m + C - 1}

    The arguments broadcast against each other, so that one call serves one schedule at many steps
    as well as an ensemble of schedules at one step.

    Args:
        step: integer steps, any shape.
        period: integer periods T in steps.
        amplitude: amplitudes A.
        stop: step from which on the weights are 1.
        num_classes: C.

    Returns:
        float64 of the broadcast shape with a last axis of length C; exactly 1 where A = 1.
    """
    tau = torch.remainder(step, period)
    active = torch.remainder(torch.div(step, period, rounding_mode="floor"), num_classes)
    ramp = torch.minimum(tau, period - tau).double() / period
    raw_active = 1 + 2 * (amplitude.double() - 1) * ramp
    raw_active = torch.where(step < stop, raw_active, torch.ones_like(raw_active))
    scale = num_classes / (raw_active + (num_classes - 1))  # (...)
    classes = torch.arange(num_classes, device=step.device)
    raw = torch.where(classes == active[..., None], raw_active[..., None], 1.0)  # (..., C)
    return raw * scale[..., None]


def oscillation_stop(total_steps: int, static_tail: int, period: int) -> int:
    """The step at which the oscillation ends, so that a run finishes on the static loss.

    The tail lasts at least `static_tail` steps. It begins on the last period boundary that allows
    that, where Gamma = 1 anyway and nothing jumps; if not even one whole period fits before it,
    it begins exactly `static_tail` steps before the end.

    Args:
        total_steps: length of the run in steps.
        static_tail: steps to train statically at the end; 0 oscillates to the end.
        period: T in steps.

    Raises:
        ValueError: if the tail is negative or longer than the run.
    """
    if not 0 <= static_tail <= total_steps:
        raise ValueError(f"static_tail must lie in [0, {total_steps}], got {static_tail}")
    if static_tail == 0:
        return total_steps
    last = total_steps - static_tail
    return last - last % period if last >= period else last


@dataclass(frozen=True)
class ClassWeightSchedule:
    """Class weights of the dynamical loss as a function of the step.

    >>> ClassWeightSchedule(num_classes=2, period=4, amplitude=3.0)(2)
    tensor([1.5000, 0.5000])

    Args:
        num_classes: C >= 1.
        period: T >= 2, in steps, for which one class is active.
        amplitude: A >= 1; A = 1 gives weights of exactly 1, the static loss.
        stop: step from which on all weights are 1 (see `oscillation_stop`); None: never.

    Raises:
        ValueError: for a value outside these ranges.
    """

    num_classes: int
    period: int
    amplitude: float
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")
        if self.period != int(self.period) or self.period < 2:
            raise ValueError(f"period must be an integer of at least 2 steps, got {self.period}")
        if not 1 <= self.amplitude < float("inf"):
            raise ValueError(f"amplitude must be finite and at least 1, got {self.amplitude}")
        if self.stop is not None and self.stop < 0:
            raise ValueError(f"stop must be a step >= 0 or None, got {self.stop}")

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
            dtype: the dtype of the result; torch's default dtype if None. They are computed in
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
        never = torch.iinfo(torch.int64).max
        weights = class_weights(
            steps.cpu().to(torch.int64),
            torch.tensor(self.period),
            torch.tensor(self.amplitude, dtype=torch.float64),
            torch.tensor(never if self.stop is None else self.stop),
            self.num_classes,
        )
        return weights.to(dtype=dtype or torch.get_default_dtype(), device=device or steps.device)
