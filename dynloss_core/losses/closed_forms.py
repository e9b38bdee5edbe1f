r"""What engines and trackers need of a loss besides its value, in closed form, for ensembles.

Symbols
    M      members
    N      samples; the LAST axis here, as in the activations of the batched engine
    C      classes
    Gamma  class weights, (M, C)
    L_c    contribution of class c to the static loss: F is the sum of Gamma_c L_c
    B_j    Hessian of the loss with respect to the outputs of sample j, (C, C)

Except for the focal loss, the Hessian is a diagonal minus one outer product,

.. math:: B_j = \operatorname{diag}(d_j) - u_j u_j^\top,

where for cross-entropy, smoothed or not, :math:`d_j = \Gamma_{y_j} p_j / N` and
:math:`u_j = \sqrt{\Gamma_{y_j} / N}\, p_j` with :math:`p_j = \mathrm{softmax}(z_j)`, and for the
mean squared errors :math:`d = 2 \Gamma / (N C)` and :math:`u = 0`.

Each function takes outputs (..., C, N) and one-hot targets of the same shape, or of one member for
all. Gradients and curvatures also take the weights of the samples (M, 1, N) or of the output units
(M, C, 1). They are listed by loss in `table`, which says what they return.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynloss_core.losses.weighted import FOCUS, SMOOTHING


def one_hot_rows(targets: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """One-hot targets with one row per class, (..., C, N), from targets (..., N)."""
    every = torch.arange(classes, device=targets.device)[:, None]
    return (targets[..., None, :] == every).to(dtype)


def cross_entropy_classes(outputs: Tensor, one_hot: Tensor) -> Tensor:
    """L_c, (..., C): the sum of the entropies of the samples of class c, over the number of all."""
    return -(torch.log_softmax(outputs, -2) * one_hot).mean(-1)


def cross_entropy_gradient(outputs: Tensor, one_hot: Tensor, weights: Tensor) -> Tensor:
    r""":math:`\Gamma_{y_j} (\mathrm{softmax}(z_j) - \mathrm{onehot}(y_j)) / N`."""
    return (torch.softmax(outputs, 1) - one_hot) * (weights / outputs.shape[-1])


def cross_entropy_curvature(outputs: Tensor, _: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """d and u; the targets matter only through the weights."""
    probabilities = torch.softmax(outputs, 1)
    share = weights / outputs.shape[-1]
    return share * probabilities, share.sqrt() * probabilities


def _smoothed(one_hot: Tensor) -> Tensor:
    """The targets of label smoothing, (..., C, N)."""
    return (1 - SMOOTHING) * one_hot + SMOOTHING / one_hot.shape[-2]


def smoothed_classes(outputs: Tensor, one_hot: Tensor) -> Tensor:
    """L_c, (..., C), where c is the class of the sample."""
    entropies = -(torch.log_softmax(outputs, -2) * _smoothed(one_hot)).sum(-2, keepdim=True)
    return (entropies * one_hot).mean(-1)


def smoothed_gradient(outputs: Tensor, one_hot: Tensor, weights: Tensor) -> Tensor:
    """As for the cross-entropy, with smoothed targets."""
    return (torch.softmax(outputs, 1) - _smoothed(one_hot)) * (weights / outputs.shape[-1])


def focal_classes(outputs: Tensor, one_hot: Tensor) -> Tensor:
    """L_c, (..., C)."""
    log_p = torch.log_softmax(outputs, -2)
    return -((1 - log_p.exp()) ** FOCUS * log_p * one_hot).mean(-1)


def focal_gradient(outputs: Tensor, one_hot: Tensor, weights: Tensor) -> Tensor:
    r"""With :math:`q_j = p_{j y_j}` of sample j, :math:`\Gamma_{y_j} ((1 - q_j)^\gamma - \gamma q_j
    (1 - q_j)^{\gamma - 1} \log q_j) (p_j - \mathrm{onehot}(y_j)) / N`."""
    log_p = torch.log_softmax(outputs, 1)
    log_q = (log_p * one_hot).sum(1, keepdim=True)
    q = log_q.exp()
    focus = (1 - q) ** FOCUS - FOCUS * q * (1 - q) ** (FOCUS - 1) * log_q
    return (log_p.exp() - one_hot) * (focus * weights / outputs.shape[-1])


def mse_by_sample_classes(outputs: Tensor, one_hot: Tensor) -> Tensor:
    """L_c, (..., C), where c is the class of the sample."""
    classes = outputs.shape[-2]
    per_sample = ((outputs - one_hot) ** 2).sum(-2, keepdim=True) / classes  # (..., 1, N)
    return (per_sample * one_hot).mean(-1)


def mse_by_output_classes(outputs: Tensor, one_hot: Tensor) -> Tensor:
    """L_c, (..., C), where c is the class of the output unit."""
    return ((outputs - one_hot) ** 2).mean(-1) / outputs.shape[-2]


def mse_gradient(outputs: Tensor, one_hot: Tensor, weights: Tensor) -> Tensor:
    """The error of each output, weighted."""
    classes, samples = outputs.shape[-2:]
    return (outputs - one_hot) * (weights * (2 / (samples * classes)))


def mse_curvature(outputs: Tensor, _: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """d and u; the targets matter only through the weights."""
    classes, samples = outputs.shape[-2:]
    diagonal = (weights * (2 / (samples * classes))).expand_as(outputs)
    return diagonal, torch.zeros_like(outputs)
