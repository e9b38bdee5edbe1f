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
    "Reduction",
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
Reduction = Literal["mean", "sum", "none"]


def weighted_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor,
    groups: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Dynamical cross-entropy at given class weights.

    .. math:: F = \frac{1}{N} \sum_j \Gamma_{y_j} \, \mathrm{CE}(z_j, y_j)

    A sample of soft targets q has the weight :math:`\Gamma_j = \sum_c q_{jc} \Gamma_c`, as one
    number, so that its loss is least where it was without: at p = q. (With a weight for each class,
    as in torch, the minimum moves with the weights.) Label smoothing leaves the weights alone.

    Args:
        logits: (N, C), (N, C, d...) or, of one sample, (C,).
        targets: (N,), (N, d...) or () class indices of any integer type; or probabilities of the
            classes, of the shape of the logits.
        class_weights: (C,); with `groups`, the weights (G,) of those.
        groups: indices of the shape of class indices: the weight of sample j is then that of its
            group, Gamma_{g_j}.
        ignore_index: class index of samples that do not count; None: every sample does.
        label_smoothing: share of a target that is given to all classes alike.
        reduction: `mean`, `sum`, or `none`: a loss for each sample, 0 for those that do not count.

    Returns:
        A scalar, or one for each sample. The mean's denominator is the number of samples that
        count (with d... axes, of all their places), not the sum of their weights.

    Raises:
        TypeError: for targets that are neither.
        ValueError: if the shapes do not fit together, or for a target outside 0..C-1. On CUDA,
            which is not waited for, that is torch's own device-side assertion.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    counts = None
    if targets.is_floating_point() and targets.shape == logits.shape:
        if ignore_index is not None and ignore_index >= 0:
            raise ValueError(f"ignore_index={ignore_index} needs class indices, not probabilities")
        of_sample = _weights_of_soft(logits, targets, class_weights, groups)
    else:
        targets = _integers(targets)
        if ignore_index is not None:
            counts = targets != ignore_index
            targets = torch.where(counts, targets, 0)
        targets = _class_indices(logits, targets, class_weights, groups)
        of_sample = _weights_of(targets if groups is None else groups, class_weights)
    losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    losses = of_sample * losses
    if counts is not None:
        losses = torch.where(counts, losses, 0.0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.mean() if counts is None else losses.sum() / counts.sum()


def weighted_smoothed_cross_entropy(
    logits: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None = None
) -> Tensor:
    r"""Dynamical cross-entropy against smoothed labels.

    .. math:: F = -\frac{1}{N} \sum_j \Gamma_{y_j} \sum_c q_{jc} \log p_{jc}, \qquad
        q_{jc} = (1 - \epsilon)\, \delta_{c y_j} + \epsilon / C

    Arguments, result and errors as for `weighted_cross_entropy`; epsilon is `SMOOTHING`.
    """
    return weighted_cross_entropy(logits, targets, class_weights, groups, label_smoothing=SMOOTHING)


def weighted_focal(
    logits: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None = None
) -> Tensor:
    r"""Dynamical focal loss, which takes weight from the samples that are classified well.

    .. math:: F = -\frac{1}{N} \sum_j \Gamma_{y_j} (1 - p_{j y_j})^\gamma \log p_{j y_j}

    Arguments, result and errors as for `weighted_cross_entropy`; gamma is `FOCUS`.
    """
    targets = _class_indices(_batched(logits), targets, class_weights, groups)
    log_p = torch.log_softmax(logits, 1).gather(1, targets[:, None])[:, 0]  # (N,)
    per_sample = -((1 - log_p.exp()) ** FOCUS) * log_p
    return (_weights_of(targets if groups is None else groups, class_weights) * per_sample).mean()


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
    targets = _class_indices(_batched(outputs), targets, class_weights, groups)
    one_hot = targets[:, None] == torch.arange(outputs.shape[-1], device=outputs.device)
    squared = (outputs - one_hot.to(outputs.dtype)) ** 2  # (N, C)
    if variant == "sample_weighted":
        of_sample = _weights_of(targets if groups is None else groups, class_weights)
        return (of_sample[:, None] * squared).mean()
    if variant == "output_weighted":
        if groups is not None:
            raise ValueError("the output-weighted variant weights output units, not samples")
        return (class_weights * squared).mean()
    raise ValueError(f"variant must be 'sample_weighted' or 'output_weighted', got {variant!r}")


def _batched(outputs: Tensor) -> Tensor:
    """The outputs, if they are (N, C)."""
    if outputs.ndim != 2:
        raise ValueError(f"expected outputs (N, C), got {tuple(outputs.shape)}")
    return outputs


def _weights_of(indices: Tensor, weights: Tensor) -> Tensor:
    """The weight at each index, of the shape of the indices."""
    return weights.gather(0, indices.long().reshape(-1)).reshape(indices.shape)


def _weights_of_soft(
    logits: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
) -> Tensor:
    """The weight of each sample of soft targets, of the shape of its loss."""
    axis = min(logits.ndim, 2) - 1
    _refuse_other_weights(logits.shape[axis], class_weights, groups)
    if groups is not None:
        return _weights_of(groups, class_weights)
    excess = (class_weights - 1).reshape(-1, *[1] * max(logits.ndim - 2, 0))
    return 1 + (targets * excess).sum(axis)  # 1 where all weights are, whatever rounding does


def _class_indices(
    outputs: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
) -> Tensor:
    """The targets as int64 in [0, C), once everything fits together.

    They are looked up in 0..C-1 by `gather`, which asserts what indexing and comparing let pass: a
    negative index, which would be counted from the end, -100, which `cross_entropy` leaves out, and
    one that is too large. It does so under vmap and in a compiled or recorded step too, and on CUDA
    without waiting for the device.
    """
    targets = _integers(targets)
    expected = outputs.shape[:1] + outputs.shape[2:] if outputs.ndim > 1 else ()
    if outputs.ndim < 1 or targets.shape != expected:
        raise ValueError(
            f"expected outputs (N, C) and targets (N,), got {tuple(outputs.shape)} and "
            f"{tuple(targets.shape)}"
        )
    classes = outputs.shape[min(outputs.ndim, 2) - 1]
    _refuse_other_weights(classes, class_weights, groups)
    if groups is not None and groups.shape != targets.shape:
        raise ValueError(
            f"expected groups of the shape of the targets, {tuple(targets.shape)}, got "
            f"{tuple(groups.shape)}"
        )
    of_class = torch.arange(classes, device=targets.device)
    try:
        return of_class.gather(0, targets.reshape(-1)).reshape(targets.shape)
    except RuntimeError as error:
        if "out of bounds" not in str(error):
            raise
        problem = f"a target is not a class index from 0 to {classes - 1}: {error}"
        raise ValueError(problem) from None


def _integers(targets: Tensor) -> Tensor:
    """The targets as int64, if they are integers."""
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(
            f"targets must be class indices of an integer type, got {targets.dtype} "
            f"{tuple(targets.shape)} (class probabilities have the shape of the outputs)"
        )
    return targets.long()


def _refuse_other_weights(classes: int, class_weights: Tensor, groups: Tensor | None) -> None:
    """Refuse weights that are not one for each class, or for each group."""
    if class_weights.ndim != 1:
        raise ValueError(f"expected weights (C,) or (G,), got {tuple(class_weights.shape)}")
    if groups is None and len(class_weights) != classes:
        raise ValueError(
            f"the outputs have {classes} classes and there are {len(class_weights)} class weights: "
            f"num_classes must be {classes}"
        )
