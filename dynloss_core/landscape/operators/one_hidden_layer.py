r"""Curvature of ensembles with one hidden layer: two products with the activation pattern.

Symbols
    M      members
    D      inputs
    W      hidden units
    C      classes
    N      samples
    x      inputs with a last 1, (M or 1, D + 1, N)
    A      hidden weights with the bias last, (M, W, D + 1)
    V, b   output weights (M, C, W) and bias (M, C)
    S      activation pattern, (M, W, N): S_wj = 1 where unit w is on, A_w . x_j > 0

While the pattern holds, the network is linear in the products V_cw A_w of its weights:

.. math::
    f_c(x_j) = b_c + \Phi(V \otimes A)_{cj}, \qquad
    \Phi(U)_{cj} = \sum_w S_{wj} \, U_{cw} \cdot x_j

so every product below is built from :math:`\Phi` and its transpose
:math:`\Phi^\top(R)_{cw} = \sum_j S_{wj} R_{cj} x_j`. With :math:`\delta` the gradient with respect
to the outputs, B their Hessian, and a direction (A', V', b'):

.. math::
    r &= B \, [\Phi(V \otimes A' + V' \otimes A) + b'], \qquad
    Q = \Phi^\top(r), \qquad K = \Phi^\top(\delta) \\
    (H v)_{A_w} &= \sum_c V_{cw} Q_{cw} + V'_{cw} K_{cw}, \qquad
    (H v)_{V_{cw}} = A_w \cdot Q_{cw} + A'_w \cdot K_{cw}, \qquad
    (H v)_{b_c} = \sum_j r_{cj}

K, the part of the Hessian that is not Gauss-Newton, couples a unit only to itself and is computed
once. The kernel :math:`\sum_c J_c J_c^\top` takes a vector to

.. math::
    (\Theta v)_i = C \sum_j v_j + \sum_w S_{wi} \Big[
        \sum_c V_{cw}^2 \, u_w + C (A_w \cdot u_w) A_w \Big] \cdot x_i, \qquad
    u = \Phi^\top(v)

Vectors hold the parameters in the order of their names, as in `HessianOperator`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dynloss_core.losses import LossName, one_hot_rows, output_curvature, output_gradient

__all__ = ["PatternHessian", "PatternNTK"]

_NAMES = ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias")


class _Pattern:
    """Phi and its transpose at the members' present parameters."""

    def __init__(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> None:
        weight, offset, self.out, self.bias = (parameters[name] for name in _NAMES)
        self.into = torch.cat([weight, offset[..., None]], dim=-1)  # (M, W, D + 1)
        self.x = torch.cat([inputs.mT, torch.ones_like(inputs.mT[:, :1])], dim=1)  # (M or 1, ., N)
        members = len(self.into)
        x = self.x.expand(members, -1, -1)
        self.on = (torch.bmm(self.into, x) > 0).to(self.into.dtype)  # (M, W, N)

    def forward(self, coefficients: Tensor) -> Tensor:
        """Phi: coefficients (M, C, D + 1, W) to values (M, C, N)."""
        members, classes, rows, width = coefficients.shape
        summed = torch.bmm(coefficients.reshape(members, classes * rows, width), self.on)
        return (summed.view(members, classes, rows, -1) * self.x[:, None]).sum(2)

    def backward(self, values: Tensor) -> Tensor:
        """Phi transposed: values (M, C, N) to (M, C, D + 1, W)."""
        members, classes, samples = values.shape
        products = (values[:, :, None] * self.x[:, None]).reshape(members, -1, samples)
        return torch.bmm(products, self.on.mT).view(members, classes, self.x.shape[1], -1)


class PatternHessian:
    """Multiplies each row of (M, P) by the Hessian of its member's F.

    Args:
        parameters: stacked, named as in `MLP` with one hidden layer.
        loss: which dynamical loss.
        inputs: (M or 1, N, D).
        targets: (M or 1, N) class indices.
        class_weights: (M, C) Gamma at the moment of the measurement; with `groups`, the weights
            (M, G) of the groups.
        groups: (M or 1, N) the group of each sample, which decides the sample's weight.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        loss: LossName,
        inputs: Tensor,
        targets: Tensor,
        class_weights: Tensor,
        groups: Tensor | None = None,
    ) -> None:
        self._pattern = pattern = _Pattern(parameters, inputs)
        one_hot = one_hot_rows(targets, pattern.out.shape[1], inputs.dtype)  # (M or 1, C, N)
        outer = pattern.out[:, :, None] * pattern.into.mT[:, None]  # (M, C, D + 1, W)
        outputs = pattern.forward(outer) + pattern.bias[..., None]
        delta = output_gradient(loss, outputs, one_hot, class_weights, groups)
        self._residual = pattern.backward(delta)  # K
        self._diagonal, self._outer = output_curvature(
            loss, outputs, one_hot, class_weights, groups
        )
        self._sizes = [parameters[name][0].numel() for name in _NAMES]
        self.dimension = sum(self._sizes)

    def __call__(self, vectors: Tensor) -> Tensor:
        pattern, residual = self._pattern, self._residual
        members, classes, width = pattern.out.shape
        parts = torch.split(vectors.to(pattern.out.dtype), self._sizes, dim=1)
        into = torch.cat([parts[0].view(members, width, -1), parts[1][..., None]], dim=-1)
        along = into.mT[:, None]  # (M, 1, D + 1, W), A'
        out = parts[2].view(members, classes, 1, width)  # V'
        own, weights = pattern.into.mT[:, None], pattern.out[:, :, None]  # A and V, shaped so too
        tangent = pattern.forward(weights * along + out * own) + parts[3][..., None]
        inner = (self._outer * tangent).sum(1, keepdim=True)
        back = self._diagonal * tangent - self._outer * inner  # r
        gathered = pattern.backward(back)  # Q
        of_into = (weights * gathered + out * residual).sum(1).mT  # (M, W, D + 1)
        of_out = (own * gathered + along * residual).sum(2)  # (M, C, W)
        products = of_into[..., :-1], of_into[..., -1], of_out, back.sum(-1)
        return torch.cat([part.flatten(1) for part in products], dim=1).to(vectors.dtype)


class PatternNTK:
    """Multiplies each row of (M, n) by its member's tangent kernel, averaged over the outputs.

    Args:
        parameters: stacked, named as in `MLP` with one hidden layer.
        inputs: (M or 1, n, D).
    """

    def __init__(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> None:
        self._pattern = _Pattern(parameters, inputs)
        self._strength = (self._pattern.out**2).mean(1)[:, None]  # (M, 1, W), over the outputs
        self.dimension = inputs.shape[1]

    def __call__(self, vectors: Tensor) -> Tensor:
        pattern = self._pattern
        rows = vectors.to(pattern.out.dtype)
        gathered = pattern.backward(rows[:, None])[:, 0]  # (M, D + 1, W), u
        own = pattern.into.mT
        coefficients = self._strength * gathered + (own * gathered).sum(1, keepdim=True) * own
        product = pattern.forward(coefficients[:, None])[:, 0] + rows.sum(1, keepdim=True)
        return product.to(vectors.dtype)
