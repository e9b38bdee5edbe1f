"""Dynamical losses: per-sample losses, each weighted by the weight of its class at this moment.

Symbols
    N      samples
    C      classes
    z      model outputs (logits), (N, C)
    y      targets: class indices, (N,)
    Gamma  class weights, (C,), sum(Gamma) = C

All losses divide by N. `torch.nn.functional.cross_entropy(weight=...)` divides by the sum of the
samples' weights instead, which cancels the oscillation on a batch of one class and is another loss.
With Gamma = 1 each function equals its unweighted counterpart bit for bit.

Source of the cross-entropy: Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793. The two mean squared
errors are this project's own definitions, in the spirit of arXiv:2410.10690.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from torch import Tensor, nn

from dynloss_core.schedules import ClassWeightSchedule, oscillation_stop

__all__ = [
    "DynamicalCrossEntropy",
    "DynamicalLoss",
    "DynamicalMSE",
    "LossName",
    "MSEVariant",
    "class_losses",
    "output_gradient",
    "weighted_cross_entropy",
    "weighted_loss",
    "weighted_mse",
]

MSEVariant = Literal["sample_weighted", "output_weighted"]
LossName = Literal["cross_entropy", "mse_sample_weighted", "mse_output_weighted"]


def weighted_cross_entropy(logits: Tensor, targets: Tensor, class_weights: Tensor) -> Tensor:
    r"""Dynamical cross-entropy at given class weights.

    .. math:: F = \frac{1}{N} \sum_j \Gamma_{y_j} \, \mathrm{CE}(z_j, y_j)

    Args:
        logits: (N, C).
        targets: (N,) class indices of any integer type.
        class_weights: (C,).

    Returns:
        A scalar. The denominator is N, not the sum of the samples' weights.

    Raises:
        TypeError: for targets that are not integers, such as class probabilities.
        ValueError: if the shapes do not fit together, or for a target outside 0..C-1. On CUDA,
            which is not waited for, that is torch's own device-side assertion.
    """
    targets = _class_indices(logits, targets, class_weights)
    per_sample = F.cross_entropy(logits, targets, reduction="none")
    return (class_weights.gather(0, targets) * per_sample).mean()


def weighted_mse(
    outputs: Tensor,
    targets: Tensor,
    class_weights: Tensor,
    *,
    variant: MSEVariant = "sample_weighted",
) -> Tensor:
    r"""Dynamical mean squared error against one-hot targets, at given class weights.

    .. math::
        \text{sample-weighted:}\quad F &= \frac{1}{NC} \sum_j \Gamma_{y_j}
            \lVert z_j - \mathrm{onehot}(y_j) \rVert^2 \\
        \text{output-weighted:}\quad F &= \frac{1}{NC} \sum_j \sum_c \Gamma_c
            \, (z_{jc} - \mathrm{onehot}(y_j)_c)^2

    Args:
        outputs: (N, C).
        targets: (N,) class indices of any integer type.
        class_weights: (C,).
        variant: whose class decides the weight, the sample's or the output unit's.

    Raises:
        TypeError, ValueError: as `weighted_cross_entropy`; ValueError for an unknown variant too.
    """
    targets = _class_indices(outputs, targets, class_weights)
    one_hot = targets[:, None] == torch.arange(outputs.shape[-1], device=outputs.device)
    squared = (outputs - one_hot.to(outputs.dtype)) ** 2  # (N, C)
    if variant == "sample_weighted":
        return (class_weights.gather(0, targets)[:, None] * squared).mean()
    if variant == "output_weighted":
        return (class_weights * squared).mean()
    raise ValueError(f"variant must be 'sample_weighted' or 'output_weighted', got {variant!r}")


def weighted_loss(
    name: LossName, outputs: Tensor, targets: Tensor, class_weights: Tensor
) -> Tensor:
    """The dynamical loss called `name`; arguments and result as for `weighted_cross_entropy`."""
    if name == "cross_entropy":
        return weighted_cross_entropy(outputs, targets, class_weights)
    variant: MSEVariant = "sample_weighted" if name == "mse_sample_weighted" else "output_weighted"
    return weighted_mse(outputs, targets, class_weights, variant=variant)


def class_losses(name: LossName, outputs: Tensor, one_hot: Tensor) -> Tensor:
    r"""What each class contributes to the static loss: the weighted one is their weighted sum.

    .. math:: F = \sum_c \Gamma_c L_c, \qquad
        L_c = \frac{1}{N} \sum_{j: y_j = c} \mathrm{CE}(z_j, y_j)

    and likewise for the mean squared errors, where a class is the sample's or the output unit's.

    Args:
        name: which loss.
        outputs: (..., C, N), samples last as in `output_gradient`.
        one_hot: (..., C, N) one-hot targets.

    Returns:
        (..., C).
    """
    classes = outputs.shape[-2]
    if name == "mse_output_weighted":
        return ((outputs - one_hot) ** 2).mean(-1) / classes
    if name == "mse_sample_weighted":
        per_sample = ((outputs - one_hot) ** 2).sum(-2, keepdim=True) / classes  # (..., 1, N)
        return (per_sample * one_hot).mean(-1)
    return -(torch.log_softmax(outputs, -2) * one_hot).mean(-1)


def output_gradient(
    name: LossName, outputs: Tensor, one_hot: Tensor, class_weights: Tensor
) -> Tensor:
    r"""Gradient of the dynamical loss with respect to the outputs, in closed form, for ensembles.

    Cross-entropy: :math:`\Gamma_{y_j} (\mathrm{softmax}(z_j) - \mathrm{onehot}(y_j)) / N`.

    Samples are the LAST axis here: that is how the batched engine lays out its activations.

    Args:
        name: which loss.
        outputs: (M, C, N) for M members.
        one_hot: (M or 1, C, N) one-hot targets.
        class_weights: (M, C).

    Returns:
        (M, C, N).
    """
    classes, samples = outputs.shape[-2:]
    weights = class_weights[:, :, None]  # (M, C, 1)
    if name == "mse_output_weighted":
        return (outputs - one_hot) * (weights * (2 / (samples * classes)))
    of_sample = (one_hot * weights).sum(1, keepdim=True)  # (M, 1, N), Gamma of the sample's class
    if name == "mse_sample_weighted":
        return (outputs - one_hot) * (of_sample * (2 / (samples * classes)))
    return (torch.softmax(outputs, 1) - one_hot) * (of_sample / samples)


def _class_indices(outputs: Tensor, targets: Tensor, class_weights: Tensor) -> Tensor:
    """The targets as int64 in [0, C), (N,), once everything fits together.

    They are looked up in 0..C-1 by `gather`, which asserts what indexing and comparing let pass: a
    negative index, which would be counted from the end, -100, which `cross_entropy` leaves out, and
    one that is too large. It does so under vmap and in a compiled or recorded step too, and on CUDA
    without waiting for the device.
    """
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(
            f"targets must be class indices (N,) of an integer type, got {targets.dtype} "
            f"{tuple(targets.shape)}: class probabilities and masks are not taken"
        )
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
        raise ValueError(
            f"expected outputs (N, C) and targets (N,), got {tuple(outputs.shape)} and "
            f"{tuple(targets.shape)}"
        )
    classes = outputs.shape[1]
    if class_weights.shape != (classes,):
        raise ValueError(
            f"expected {classes} class weights, got shape {tuple(class_weights.shape)}"
        )
    try:
        return torch.arange(classes, device=targets.device).gather(0, targets.long())
    except RuntimeError as error:
        if "out of bounds" not in str(error):
            raise
        problem = f"a target is not a class index from 0 to {classes - 1}: {error}"
        raise ValueError(problem) from None


class DynamicalLoss(nn.Module, ABC):
    """A loss whose class weights oscillate with its own step counter.

    Call `step()` once after each `optimizer.step()`. In evaluation mode (`criterion.eval()`) the
    module returns the static loss, the one to report. `state_dict()` carries the step.

    Args:
        num_classes: C.
        period: T in steps (optimiser updates) for which one class is active, >= 2.
        amplitude: A >= 1; 1 is the static loss.
        total_steps: length of the run in steps; needed for `static_tail` only.
        static_tail: steps at the end that train statically, rounded up so that the oscillation
            ends on a period boundary where one fits (see `oscillation_stop`).

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
    ) -> None:
        super().__init__()
        stop = None
        if total_steps is not None:
            stop = oscillation_stop(total_steps, static_tail, period)
        elif static_tail:
            raise ValueError("static_tail needs total_steps: say how long the run is")
        self.schedule = ClassWeightSchedule(num_classes, period, amplitude, stop)
        self.current_step = 0

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of `outputs` (N, C) against `targets` (N,), class indices of any integer type,
        at the current step: a scalar."""
        return self._loss(outputs, targets, self.class_weights(outputs))

    def class_weights(self, like: Tensor) -> Tensor:
        """Class weights now, (C,), with the dtype and device of `like`; 1 in evaluation mode."""
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
    def _loss(self, outputs: Tensor, targets: Tensor, class_weights: Tensor) -> Tensor: ...


class DynamicalCrossEntropy(DynamicalLoss):
    """Dynamical cross-entropy, a drop-in for `torch.nn.CrossEntropyLoss`.

    >>> criterion = DynamicalCrossEntropy(num_classes=10, period=500, amplitude=20)
    >>> loss = criterion(torch.zeros(4, 10), torch.tensor([0, 1, 2, 3]))
    >>> criterion.step()
    """

    def _loss(self, outputs: Tensor, targets: Tensor, class_weights: Tensor) -> Tensor:
        return weighted_cross_entropy(outputs, targets, class_weights)


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
    ) -> None:
        super().__init__(
            num_classes, period, amplitude, total_steps=total_steps, static_tail=static_tail
        )
        if variant not in ("sample_weighted", "output_weighted"):
            raise ValueError(
                f"variant must be 'sample_weighted' or 'output_weighted', got {variant!r}"
            )
        self.variant: MSEVariant = variant

    def _loss(self, outputs: Tensor, targets: Tensor, class_weights: Tensor) -> Tensor:
        return weighted_mse(outputs, targets, class_weights, variant=self.variant)
