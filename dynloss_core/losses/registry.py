"""The table of the dynamical losses: the forms available of each, by name.

A loss is added by a row here, or by a plug-in (see `plugins`). Its value and its class losses are
enough for the engines that differentiate by autograd; engines and trackers that need another form
refuse a loss without it, by name (see `refusal_of_form`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, NamedTuple

from torch import Tensor

from dynloss_core.config import NameIn
from dynloss_core.losses import closed_forms as forms
from dynloss_core.losses.weighted import (
    weighted_cross_entropy,
    weighted_focal,
    weighted_mse,
    weighted_smoothed_cross_entropy,
)

__all__ = [
    "LOSSES",
    "KernelForm",
    "Loss",
    "LossName",
    "class_losses",
    "kernel_form",
    "output_curvature",
    "output_gradient",
    "refusal_of_form",
    "refusal_of_groups",
    "weighted_loss",
]

Form = Literal["gradient", "curvature", "kernel"]


class KernelForm(NamedTuple):
    """How the compiled kernels compute a loss.

    Args:
        softmax: whether it is the entropy of the softmax of the outputs; else their squared error.
        by_output: whether the class weight is that of the output unit; else that of the sample.
    """

    softmax: bool
    by_output: bool


@dataclass(frozen=True)
class Loss:
    """The forms available of one loss.

    Args:
        value: outputs (N, C), targets (N,), class weights (C,) -> F, a scalar; if samples and not
            outputs are weighted, also outputs, targets, weights of groups (G,), groups of samples
            (N,).
        classes: outputs and one-hot targets (..., C, N) -> L_c, (..., C).
        gradient: outputs (M, C, N), one-hot targets (M or 1, C, N), weights of the samples
            (M, 1, N) or of the outputs (M, C, 1) -> the gradient of F with respect to the outputs,
            (M, C, N); None if there is no closed form.
        curvature: the same -> d and u of its Hessian, (M, C, N) each (see `closed_forms`); or None.
        kernel: how the compiled kernels compute it; None if they cannot.
        by_output: whether class weights are those of the output units; else of the samples.
    """

    value: Callable[..., Tensor]
    classes: Callable[[Tensor, Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    curvature: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    kernel: KernelForm | None = None
    by_output: bool = False


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(
        weighted_cross_entropy,
        forms.cross_entropy_classes,
        forms.cross_entropy_gradient,
        forms.cross_entropy_curvature,
        KernelForm(softmax=True, by_output=False),
    ),
    "cross_entropy_smoothed": Loss(
        weighted_smoothed_cross_entropy,
        forms.smoothed_classes,
        forms.smoothed_gradient,
        forms.cross_entropy_curvature,
    ),
    "focal": Loss(weighted_focal, forms.focal_classes, forms.focal_gradient),
    "mse_sample_weighted": Loss(
        partial(weighted_mse, variant="sample_weighted"),
        forms.mse_by_sample_classes,
        forms.mse_gradient,
        forms.mse_curvature,
        KernelForm(softmax=False, by_output=False),
    ),
    "mse_output_weighted": Loss(
        partial(weighted_mse, variant="output_weighted"),
        forms.mse_by_output_classes,
        forms.mse_gradient,
        forms.mse_curvature,
        KernelForm(softmax=False, by_output=True),
        by_output=True,
    ),
}
LossName = Annotated[str, NameIn(LOSSES)]
"""The name of a loss in the table."""

_FORMS = {
    "gradient": "closed-form gradient with respect to the outputs",
    "curvature": "closed-form curvature with respect to the outputs",
    "kernel": "form for compiled kernels",
}


def weighted_loss(
    name: LossName,
    outputs: Tensor,
    targets: Tensor,
    class_weights: Tensor,
    groups: Tensor | None = None,
) -> Tensor:
    """The dynamical loss called `name`; arguments and result as for `weighted_cross_entropy`."""
    value = _called(name).value
    if groups is None:
        return value(outputs, targets, class_weights)
    return value(outputs, targets, class_weights, groups)


def class_losses(name: LossName, outputs: Tensor, one_hot: Tensor) -> Tensor:
    r"""The contribution of each class to the static loss; their weighted sum is the dynamical loss.

    .. math:: F = \sum_c \Gamma_c L_c, \qquad
        L_c = \frac{1}{N} \sum_{j: y_j = c} \mathrm{CE}(z_j, y_j)

    and likewise for the mean squared errors, where c is the class of the sample or the output unit.

    Args:
        name: which loss.
        outputs: (..., C, N), samples last.
        one_hot: (..., C, N) one-hot targets.

    Returns:
        (..., C).
    """
    return _called(name).classes(outputs, one_hot)


def output_gradient(
    name: LossName,
    outputs: Tensor,
    one_hot: Tensor,
    class_weights: Tensor,
    groups: Tensor | None = None,
) -> Tensor:
    """Gradient of the dynamical loss with respect to the outputs, for ensembles; samples are last.

    Args:
        name: which loss.
        outputs: (M, C, N) for M members.
        one_hot: (M or 1, C, N) one-hot targets.
        class_weights: (M, C); with `groups`, the weights (M, G) of the groups.
        groups: (M or 1, N) the group of each sample, which decides the sample's weight.

    Returns:
        (M, C, N).
    """
    loss = _called(name)
    if loss.gradient is None:
        raise ValueError(refusal_of_form(name, "gradient"))
    return loss.gradient(outputs, one_hot, broadcast_weights(loss, one_hot, class_weights, groups))


def output_curvature(
    name: LossName,
    outputs: Tensor,
    one_hot: Tensor,
    class_weights: Tensor,
    groups: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The diagonals d and the vectors u of the loss's Hessian for every sample, (M, C, N) each (see
    `closed_forms`); arguments as for `output_gradient`."""
    loss = _called(name)
    if loss.curvature is None:
        raise ValueError(refusal_of_form(name, "curvature"))
    return loss.curvature(outputs, one_hot, broadcast_weights(loss, one_hot, class_weights, groups))


def broadcast_weights(
    loss: Loss, one_hot: Tensor, class_weights: Tensor, groups: Tensor | None = None
) -> Tensor:
    """The weights of the samples, (M, 1, N), or of the output units, (M, C, 1)."""
    if loss.by_output:
        return class_weights[:, :, None]
    if groups is None:
        return (one_hot * class_weights[:, :, None]).sum(1, keepdim=True)
    return class_weights.gather(1, groups.expand(len(class_weights), -1))[:, None]


def refusal_of_groups(name: LossName) -> str | None:
    """Why a loss cannot weight samples by their group; None if it can."""
    if _called(name).by_output:
        return f"the loss {name!r} weights output units, which belong to no group of samples"
    return None


def kernel_form(name: LossName) -> KernelForm:
    """How the compiled kernels compute a loss."""
    form = _called(name).kernel
    if form is None:
        raise ValueError(refusal_of_form(name, "kernel"))
    return form


def refusal_of_form(name: LossName, *needed: Form) -> str | None:
    """Why an engine or a tracker that needs these forms cannot take a loss; None if it can.

    Raises:
        ValueError: for a loss that is not in the table.
    """
    loss = _called(name)
    for form in needed:
        if getattr(loss, form) is None:
            return f"the loss {name!r} has no {_FORMS[form]}"
    return None


def _called(name: str) -> Loss:
    try:
        return LOSSES[name]
    except KeyError:
        known = ", ".join(LOSSES)
        raise ValueError(f"there is no loss {name!r}; choose one of: {known}") from None
