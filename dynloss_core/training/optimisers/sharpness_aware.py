"""Sharpness-aware minimisation (Foret et al. 2021, arXiv:2010.01412, eq. 2 and algorithm 1).

The gradient of an update is taken at w + e rather than at the parameters w. There F is largest, to
first order, within a distance rho of w, on the same samples with the same weights:

    e = rho grad F(w) / ||grad F(w)||

The norm is over all parameters of a network. Weight decay and momentum act on w as usual.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["steepest_ascent"]


def steepest_ascent(
    gradients: Sequence[Tensor], radius: float, *, stacked: bool = False
) -> list[Tensor]:
    """The change e of every parameter, shaped like its gradient; zero if the gradient is.

    Args:
        gradients: gradients of F, one per parameter.
        radius: rho, in units of the parameters.
        stacked: whether the first axis is that of members, each a network with its own norm.
    """
    lead = gradients[0].shape[:1] if stacked else (1,)
    squares = [gradient.square().reshape(*lead, -1).sum(1) for gradient in gradients]
    norm = torch.stack(squares).sum(0).sqrt()  # (M,) or (1,)
    factor = torch.where(norm > 0, radius / norm, torch.zeros_like(norm))
    return [
        gradient * (factor.view(-1, *(1,) * (gradient.ndim - 1)) if stacked else factor)
        for gradient in gradients
    ]
