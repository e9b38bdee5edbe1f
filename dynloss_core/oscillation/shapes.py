r"""How the weight of the active group rises and falls within its turn.

Symbols
    T      period in steps: how long one turn lasts
    tau    step inside the turn, 0 <= tau < T
    s      elevation, 0 <= s <= 1; the raw weight is 1 + (A - 1) s, so that s = 0 is the static loss

All shapes have the same mean over a turn, 1/2, to within 1/T, so arms that differ only in the shape
apply the same total weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from dynloss_core.config import NameIn

__all__ = ["SHAPES", "Shape", "ShapeName"]

Shape = Callable[[Tensor, Tensor | int], Tensor]
"""Integer tau and T, broadcast against each other -> s in float64."""


def triangle(tau: Tensor, period: Tensor | int) -> Tensor:
    r"""Up and down again, :math:`2 \min(\tau, T - \tau) / T`: the published dynamical loss."""
    return 2 * (torch.minimum(tau, period - tau).double() / period)


def sine(tau: Tensor, period: Tensor | int) -> Tensor:
    r"""Up and down again without a corner, :math:`\sin^2(\pi \tau / T)`."""
    return torch.sin(torch.pi * tau.double() / period) ** 2


def square(tau: Tensor, period: Tensor | int) -> Tensor:
    """1 in the middle half of the turn, 0 before and after."""
    return ((4 * tau >= period) & (4 * tau < 3 * period)).double()


def sawtooth(tau: Tensor, period: Tensor | int) -> Tensor:
    r"""Up, then back at once: :math:`\tau / (T - 1)`."""
    return tau.double() / (period - 1)


SHAPES: dict[str, Shape] = {
    "triangle": triangle,
    "sine": sine,
    "square": square,
    "sawtooth": sawtooth,
}
"""By their names in a study's file; a shape is added by a row, or by a plug-in."""

ShapeName = Annotated[str, NameIn(SHAPES)]
"""The name of a shape in the table."""
