"""The dynamical losses at given class weights, as functions.

Symbols
    N      samples
    C      classes
    z      model outputs (logits), (N, C)
    y      targets: class indices, (N,)
    Gamma  class weights, (C,), sum(Gamma) = C
    g      groups of samples, (N,): whose weight counts where that is not the class
    G      groups

All losses divide by N. `torch.nn.functional.cross_entropy(weight=...)` divides by the sum of the
samples' weights instead, which cancels the oscillation on a batch of one class and is another loss.
With Gamma = 1 each function equals its unweighted counterpart bit for bit.

Source of the cross-entropy: Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793. The two mean squared
errors are this project's own definitions, in the spirit of arXiv:2410.10690. The smoothed and the
focal cross-entropy are baselines, at the published values of their parameters.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from torch import Tensor

__all__ = [
    "FOCUS",
    "SMOOTHING",
    "MSEVariant",
    "weighted_cross_entropy",
    "weighted_focal",
    "weighted_mse",
    "weighted_smoothed_cross_entropy",
]

SMOOTHING = 0.1
"""Share of a target that label smoothing gives to all classes alike (Szegedy et al. 2016,
Rethinking the Inception Architecture for Computer Vision, CVPR, section 7)."""

FOCUS = 2
"""The focusing parameter of the focal loss (Lin et al. 2017, Focal Loss for Dense Object Detection,
ICCV, section 3.2)."""

MSEVariant = Literal["sample_weighted", "output_weighted"]


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None = None
) -> Tensor:
    r"""Dynamical cross-entropy at given class weights.

    .. math:: F = \frac{1}{N} \sum_j \Gamma_{y_j} \, \mathrm{CE}(z_j, y_j)

    Args:
        logits: (N, C).
        targets: (N,) class indices of any integer type.
        class_weights: (C,); with `groups`, the weights (G,) of those.
        groups: (N,) indices: the weight of sample j is then that of its group, Gamma_{g_j}.

    Returns:
        A scalar. The denominator is N, not the sum of the samples' weights.

    Raises:
        TypeError: for targets that are not integers, such as class probabilities.
        ValueError: if the shapes do not fit together, or for a target outside 0..C-1. On CUDA,
            which is not waited for, that is torch's own device-side assertion.
    """
    targets = _class_indices(logits, targets, class_weights, groups)
    per_sample = F.cross_entropy(logits, targets, reduction="none")
    return (class_weights.gather(0, targets if groups is None else groups) * per_sample).mean()


def weighted_smoothed_cross_entropy(
    logits: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None = None
) -> Tensor:
    r"""Dynamical cross-entropy against smoothed labels.

    .. math:: F = -\frac{1}{N} \sum_j \Gamma_{y_j} \sum_c q_{jc} \log p_{jc}, \qquad
        q_{jc} = (1 - \epsilon)\, \delta_{c y_j} + \epsilon / C

    Arguments, result and errors as for `weighted_cross_entropy`; epsilon is `SMOOTHING`.
    """
    targets = _class_indices(logits, targets, class_weights, groups)
    per_sample = F.cross_entropy(logits, targets, reduction="none", label_smoothing=SMOOTHING)
    return (class_weights.gather(0, targets if groups is None else groups) * per_sample).mean()


def weighted_focal(
    logits: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None = None
) -> Tensor:
    r"""Dynamical focal loss, which takes weight from the samples that are classified well.

    .. math:: F = -\frac{1}{N} \sum_j \Gamma_{y_j} (1 - p_{j y_j})^\gamma \log p_{j y_j}

    Arguments, result and errors as for `weighted_cross_entropy`; gamma is `FOCUS`.
    """
    targets = _class_indices(logits, targets, class_weights, groups)
    log_p = torch.log_softmax(logits, 1).gather(1, targets[:, None])[:, 0]  # (N,)
    per_sample = -((1 - log_p.exp()) ** FOCUS) * log_p
    return (class_weights.gather(0, targets if groups is None else groups) * per_sample).mean()


def weighted_mse(
    outputs: Tensor,
    targets: Tensor,
    class_weights: Tensor,
    groups: Tensor | None = None,
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
        class_weights: (C,); with `groups`, the weights (G,) of those.
        groups: as in `weighted_cross_entropy`, for the sample-weighted variant.
        variant: whose class decides the weight, the sample's or the output unit's.

    Raises:
        TypeError, ValueError: as `weighted_cross_entropy`; ValueError for an unknown variant too,
            and for groups of samples in the output-weighted variant.
    """
    targets = _class_indices(outputs, targets, class_weights, groups)
    one_hot = targets[:, None] == torch.arange(outputs.shape[-1], device=outputs.device)
    squared = (outputs - one_hot.to(outputs.dtype)) ** 2  # (N, C)
    if variant == "sample_weighted":
        of_sample = class_weights.gather(0, targets if groups is None else groups)
        return (of_sample[:, None] * squared).mean()
    if variant == "output_weighted":
        if groups is not None:
            raise ValueError("the output-weighted variant weights output units, not samples")
        return (class_weights * squared).mean()
    raise ValueError(f"variant must be 'sample_weighted' or 'output_weighted', got {variant!r}")


def _class_indices(
    outputs: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
) -> Tensor:
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
    if groups is None and class_weights.shape != (classes,):
        raise ValueError(
            f"expected {classes} class weights, got shape {tuple(class_weights.shape)}"
        )
    if groups is not None and (groups.shape != targets.shape or class_weights.ndim != 1):
        raise ValueError(
            f"expected groups (N,) and their weights (G,), got {tuple(groups.shape)} and "
            f"{tuple(class_weights.shape)}"
        )
    try:
        return torch.arange(classes, device=targets.device).gather(0, targets.long())
    except RuntimeError as error:
        if "out of bounds" not in str(error):
            raise
        problem = f"a target is not a class index from 0 to {classes - 1}: {error}"
        raise ValueError(problem) from None
