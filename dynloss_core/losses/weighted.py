"""The dynamical losses at given class weights, as functions.

Symbols
    N      samples
    C      classes
    z      model outputs (logits), (N, C)
    y      targets: class indices, (N,)
    Gamma  class weights, (C,), sum(Gamma) = C
    g      groups of samples, (N,), where groups and not classes have the weights
    G      groups

All losses divide by N. `torch.nn.functional.cross_entropy(weight=...)` divides by the sum of the
samples' weights instead, which cancels the oscillation on a batch of one class: a different loss.
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
"""Share of a target that label smoothing spreads evenly over all classes (Szegedy et al. 2016,
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

    A sample with soft targets q has a single weight :math:`\Gamma_j = \sum_c q_{jc} \Gamma_c`, so
    its loss is still smallest at p = q. (With a weight for each class, as in torch, the minimum
    moves with the weights.) Label smoothing does not change the weights.

    Args:
        logits: (N, C), (N, C, d...) or, for one sample, (C,).
        targets: (N,), (N, d...) or () class indices of any integer type; or class probabilities,
            shaped like the logits.
        class_weights: (C,); with `groups`, the weights (G,) of the groups.
        groups: indices shaped like class indices: the weight of sample j is then that of its group,
            Gamma_{g_j}.
        ignore_index: class index of samples to ignore; None: ignore none.
        label_smoothing: share of a target that is spread evenly over all classes.
        reduction: `mean`, `sum`, or `none`: a loss for each sample, 0 for ignored ones.

    Returns:
        A scalar, or one value per sample. The mean divides by the number of samples that are not
        ignored (with d... axes, of all positions), not by the sum of their weights.

    Raises:
        TypeError: for targets that are neither.
        ValueError: if the shapes do not fit together, or for a target outside 0..C-1. On CUDA that
            is torch's own device-side assertion, because the device is not waited for.
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
    losses = of_sample * _cross_entropy(logits, targets, label_smoothing)
    if counts is not None:
        losses = torch.where(counts, losses, 0.0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.mean() if counts is None else losses.sum() / counts.sum()


def _cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Torch's own, one value per sample. The usual case is written in the two operations that torch
    computes it with, to the last bit: `vmap` would take torch's function apart in Python at each
    call, and import SymPy for it."""
    if logits.ndim < 2 or targets.shape == logits.shape or label_smoothing:
        return F.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    return -torch.log_softmax(logits, 1).gather(1, targets.unsqueeze(1)).squeeze(1)


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
    r"""Dynamical focal loss, which gives less weight to samples that are classified well.

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
        class_weights: (C,); with `groups`, the weights (G,) of the groups.
        groups: as in `weighted_cross_entropy`, for the sample-weighted variant.
        variant: whether the class of the sample or of the output unit decides the weight.

    Raises:
        TypeError, ValueError: as `weighted_cross_entropy`; also ValueError for an unknown variant,
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
    """Return the outputs if they are (N, C); else raise."""
    if outputs.ndim != 2:
        raise ValueError(f"expected outputs (N, C), got {tuple(outputs.shape)}")
    return outputs


def _weights_of(indices: Tensor, weights: Tensor) -> Tensor:
    """The weight at each index, shaped like the indices."""
    return weights.gather(0, indices.long().reshape(-1)).reshape(indices.shape)


def _weights_of_soft(
    logits: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
) -> Tensor:
    """The weight of each sample with soft targets, shaped like its loss."""
    axis = min(logits.ndim, 2) - 1
    _refuse_other_weights(logits.shape[axis], class_weights, groups)
    if groups is not None:
        return _weights_of(groups, class_weights)
    excess = (class_weights - 1).reshape(-1, *[1] * max(logits.ndim - 2, 0))
    return 1 + (targets * excess).sum(axis)  # exactly 1 if all weights are


def _class_indices(
    outputs: Tensor, targets: Tensor, class_weights: Tensor, groups: Tensor | None
) -> Tensor:
    """The targets as int64 in [0, C), after checking that everything fits together.

    They are looked up in 0..C-1 by `gather`, which rejects what indexing and comparing let pass: a
    negative index, which would count from the end, -100, which `cross_entropy` ignores, and one
    that is too large. It does so under vmap and in a compiled or recorded step too, and on CUDA
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
    """The targets as int64 if they are integers; else raise."""
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(
            f"targets must be class indices of an integer type, got {targets.dtype} "
            f"{tuple(targets.shape)} (class probabilities have the shape of the outputs)"
        )
    return targets.long()


def _refuse_other_weights(classes: int, class_weights: Tensor, groups: Tensor | None) -> None:
    """Refuse weights other than one per class, or one per group."""
    if class_weights.ndim != 1:
        raise ValueError(f"expected weights (C,) or (G,), got {tuple(class_weights.shape)}")
    if groups is None and len(class_weights) != classes:
        raise ValueError(
            f"the outputs have {classes} classes and there are {len(class_weights)} class weights: "
            f"num_classes must be {classes}"
        )
