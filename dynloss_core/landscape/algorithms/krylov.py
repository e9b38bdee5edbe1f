r"""Krylov bases of many symmetric operators at once, orthogonal to rounding.

.. math::
    A_m Q_m = Q_m T_m + \beta_m q_m e_j^\top, \qquad Q_m^\top Q_m = I

Symbols
    M      members: runs side by side, each with its own operator A_m and start vector
    P      dimension
    J      vectors that a basis can hold
    j      vectors it holds now
    Q      basis, (M, J + 1, P); its row j is the next vector to multiply
    T      projected operators Q A Q^T, (M, J, J); tridiagonal up to rounding, until a restart
    beta   (M,) norm of the part of A q_{j-1} that lies outside the basis

Every new vector is made orthogonal to ALL others, twice: a three-term recurrence loses
orthogonality as soon as an eigenvalue has converged, and then finds it again and again. T stores
every coefficient, so the same code expands a basis that a thick restart has compressed to some of
its Ritz vectors. Basis and coefficients are float64 whatever the operator computes in.

Sources: C. Lanczos (1950); B. Parlett, "The symmetric eigenvalue problem" (1998), chapter 13; K. Wu
and H. Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems", SIAM J. Matrix
Anal. Appl. 22 (2000).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynloss_core.landscape.algorithms.random_vectors import Purpose, start_vectors

__all__ = ["KrylovBasis", "Operator", "Ritz"]

# Multiplies each row of (M, P) by its member's symmetric matrix; same dtype in and out.
Operator = Callable[[Tensor], Tensor]

_BREAKDOWN = 1e-14  # times the largest |value|: below it, the basis spans an invariant subspace


@dataclass(frozen=True, eq=False)
class Ritz:
    """Approximate eigenpairs from a basis, the largest (algebraic) first.

    Args:
        values: (M, j); NaN for a member whose operator returned a value that is not finite.
        coefficients: (M, j, j): row i gives vector i in terms of the basis.
        residuals: (M, j) length of A v - value v, for v of length 1.
        scale: (M,) largest value in magnitude.
    """

    values: Tensor
    coefficients: Tensor
    residuals: Tensor
    scale: Tensor


class KrylovBasis:
    """A growing basis for each member; members do not affect one another.

    Args:
        operator: see `Operator`.
        start: (M, P) start vectors, none of length 0; they need not be normalised.
        capacity: J; at most P are used.
    """

    def __init__(self, operator: Operator, start: Tensor, capacity: int) -> None:
        members, dimension = start.shape
        self._operator = operator
        self.capacity = min(capacity, dimension)
        self.size = 0
        start = start.double()
        self.vectors = start.new_zeros(members, self.capacity + 1, dimension)
        self.projected = start.new_zeros(members, self.capacity, self.capacity)
        self.beta = start.new_zeros(members)
        self._scale = start.new_zeros(members)
        self.vectors[:, 0] = start / start.norm(dim=1, keepdim=True)

    def expand(self) -> None:
        """Add one vector to each basis, at one product per member."""
        j = self.size
        product = self._operator(self.vectors[:, j]).double()  # (M, P)
        self._scale = torch.maximum(self._scale, product.norm(dim=1))
        rest, coefficients = self._outside(product, j + 1)
        self.projected[:, : j + 1, j] = coefficients
        self.projected[:, j, : j + 1] = coefficients
        self.beta = rest.norm(dim=1)
        self.size = j + 1
        complete = self.beta <= _BREAKDOWN * self._scale
        if j + 1 == self.vectors.shape[2]:  # the basis spans everything
            complete = torch.ones_like(complete)
        elif bool(complete.any()):  # continue in a new direction
            fresh = self._fresh(j)
            rest = torch.where(complete[:, None], fresh, rest)
        self.beta = torch.where(complete, torch.zeros_like(self.beta), self.beta)
        length = rest.norm(dim=1, keepdim=True)
        self.vectors[:, j + 1] = rest / torch.where(length > 0, length, torch.ones_like(length))

    def ritz(self) -> Ritz:
        """Eigenpairs of the projected operators, with their residuals."""
        j = self.size
        projected = self.projected[:, :j, :j]
        lost = ~torch.isfinite(projected).flatten(1).all(1)  # (M,)
        values, vectors = torch.linalg.eigh(torch.where(lost[:, None, None], 0.0, projected))
        values, coefficients = values.flip(-1), vectors.flip(-1).mT
        backward = coefficients[:, :, :1] < 0  # signs are free: vectors point along the start
        coefficients = torch.where(backward, -coefficients, coefficients)
        residuals = self.beta[:, None] * coefficients[:, :, -1].abs()
        nan = torch.full_like(values, torch.nan)
        return Ritz(
            values=torch.where(lost[:, None], nan, values),
            coefficients=coefficients,
            residuals=torch.where(lost[:, None], nan, residuals),
            scale=values.abs().amax(-1),
        )

    def combine(self, coefficients: Tensor) -> Tensor:
        """The vectors (M, i, P) with coefficients (M, i, j) in the basis."""
        return torch.bmm(coefficients, self.vectors[:, : self.size])

    def compress(self, ritz: Ritz, keep: int) -> None:
        """Replace the basis by the first `keep` Ritz vectors and the next vector to multiply.

        Their residuals all point along that next vector, so nothing learned about them is lost.
        """
        kept = self.combine(ritz.coefficients[:, :keep])
        following = self.vectors[:, self.size].clone()
        self.vectors[:, :keep] = kept
        self.vectors[:, keep] = following
        self.projected.zero_()
        self.projected[:, :keep, :keep] = torch.diag_embed(ritz.values[:, :keep])
        self.size = keep

    def _outside(self, vectors: Tensor, among: int) -> tuple[Tensor, Tensor]:
        """The part of vectors (M, P) orthogonal to the first `among` basis vectors, and the
        coefficients (M, among) of the rest."""
        basis = self.vectors[:, :among]
        rest = vectors[..., None]
        total = rest.new_zeros(len(rest), among, 1)
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            coefficients = torch.bmm(basis, rest)
            rest = rest - torch.bmm(basis.mT, coefficients)
            total = total + coefficients
        return rest[..., 0], total[..., 0]

    def _fresh(self, j: int) -> Tensor:
        """A direction (M, P) outside the first j + 1 vectors, the same draw for every member."""
        members, _, dimension = self.vectors.shape
        drawn = start_vectors(dimension, [j], Purpose.BREAKDOWN).to(self.vectors.device)
        return self._outside(drawn.expand(members, -1), j + 1)[0]
