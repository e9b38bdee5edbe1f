r"""Second derivatives of the dynamical losses with respect to the outputs, in closed form.

Symbols
    M      members
    N      samples
    C      classes
    B_j    Hessian of the loss with respect to the outputs of sample j, (C, C)

For all three losses it is a diagonal less one outer product,

.. math:: B_j = \operatorname{diag}(d_j) - u_j u_j^\top,

cross-entropy: :math:`d_j = \Gamma_{y_j} p_j / N` and
:math:`u_j = \sqrt{\Gamma_{y_j} / N}\, p_j` with :math:`p_j = \mathrm{softmax}(z_j)`; the mean
squared errors: :math:`d = 2 \Gamma / (N C)` and :math:`u = 0`. Samples are the last axis, as in
`losses.output_gradient`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynloss_core.losses import LossName

__all__ = ["output_curvature"]


def output_curvature(
    name: LossName, outputs: Tensor, one_hot: Tensor, class_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The diagonals d and the vectors u of B_j for every sample.

    Args:
        name: which loss.
        outputs: (M, C, N).
        one_hot: (M or 1, C, N) one-hot targets.
        class_weights: (M, C).

    Returns:
        d and u, (M, C, N) each.
    """
    classes, samples = outputs.shape[-2:]
    weights = class_weights[:, :, None]  # (M, C, 1)
    if name == "mse_output_weighted":
        diagonal = (weights * (2 / (samples * classes))).expand_as(outputs)
        return diagonal, torch.zeros_like(outputs)
    of_sample = (one_hot * weights).sum(1, keepdim=True)  # (M, 1, N), Gamma of the sample's class
    if name == "mse_sample_weighted":
        diagonal = (of_sample * (2 / (samples * classes))).expand_as(outputs)
        return diagonal, torch.zeros_like(outputs)
    probabilities = torch.softmax(outputs, 1)
    share = of_sample / samples
    return share * probabilities, share.sqrt() * probabilities
