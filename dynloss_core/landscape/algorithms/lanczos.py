r"""The largest eigenvalues of symmetric operators, with residuals, for one or many at a time.

Symbols
    M      members, each with its own operator and start vector
    P      dimension
    k      eigenvalues wanted, the largest (algebraic) first

Lanczos with full reorthogonalisation and thick restarts (see `krylov`). For every value theta with
vector v of length 1 the residual ||A v - theta v|| is returned: an eigenvalue of A lies within it
of theta, and if the others are at least a gap away, within residual^2 / gap. No residual can show
that there is no larger eigenvalue: the start vector must have a component in every direction. Of
eigenvalues that agree to the last digits only one is found: a single start vector sees one
direction of their space.

To follow an operator that changes slowly, start from the last result (`warm_start`): a few
products are enough. Ask for one value more than is wanted, with a loose tolerance, to see in time
an eigenvalue that is about to overtake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynloss_core.landscape.algorithms.krylov import KrylovBasis, Operator, Ritz
from dynloss_core.landscape.refusals import LandscapeError

__all__ = ["Operator", "TopEigen", "top_eigen", "warm_start"]

_MIN_BASIS = 40
_ALWAYS_CHECKED = 12  # up to this many products, convergence is checked after each
_CHECKED_EVERY = 4


@dataclass(frozen=True, eq=False)
class TopEigen:
    """The largest eigenvalues of one operator, or of each of M.

    Args:
        values: (k,) or (M, k), descending; NaN where the operator gave NaN.
        vectors: (k, P) or (M, k, P), of length 1, none pointing away from the start vector.
        residuals: length of A v - value v, shaped like `values`.
        converged: whether the residual met the tolerance, shaped like `values`.
        iterations: () or (M,) products of the operator until then.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: Tensor
    iterations: Tensor

    def member(self, m: int) -> TopEigen:
        """The result of one of M members."""
        fields = self.values, self.vectors, self.residuals, self.converged, self.iterations
        return TopEigen(*(field[m] for field in fields))


def top_eigen(
    operator: Operator,
    start: Tensor,
    *,
    k: int = 1,
    tolerance: float | Sequence[float] = 1e-6,
    max_iterations: int = 300,
    basis_size: int | None = None,
) -> TopEigen:
    """The `k` largest (algebraic) eigenvalues of one operator or of each of M.

    A member is finished when its own residuals are small enough. Its result is fixed at that point,
    however long the others take.

    Args:
        operator: (M, P) -> (M, P), each row times its member's symmetric matrix; (1, P) for one.
        start: (P,) or (M, P), of any dtype and any length but 0; it decides the device.
        k: number of eigenvalues, at most P.
        tolerance: bound on the residuals relative to the largest Ritz value in magnitude; one for
            all, or one for each of the k.
        max_iterations: most products per member.
        basis_size: vectors held at once (memory M * basis_size * P float64); by default the larger
            of 40 and 4 k.

    Returns:
        Fields with a leading M if `start` has one.

    Raises:
        LandscapeError: for a number out of its range, or a start vector of length 0 or not finite.
    """
    rows = start.detach().double().reshape(-1, start.shape[-1])
    members, dimension = rows.shape
    if not 1 <= k <= dimension:
        raise LandscapeError(f"k = {k} eigenvalues in dimension {dimension}", "use 1 <= k <= P")
    if max_iterations < k:
        raise LandscapeError(f"max_iterations = {max_iterations} for k = {k}", "allow at least k")
    lengths = rows.norm(dim=1)
    if not bool((torch.isfinite(lengths) & (lengths > 0)).all()):
        raise LandscapeError("a start vector has length 0 or is not finite", "use `start_vectors`")
    bounds = torch.as_tensor(tolerance, dtype=torch.float64, device=rows.device).expand(k)
    capacity = max(basis_size or _MIN_BASIS, k + 2, 0 if basis_size else 4 * k)
    basis = KrylovBasis(operator, rows, capacity)
    eigenpairs = _Eigenpairs(members, k, rows)
    for iteration in range(1, max_iterations + 1):
        basis.expand()
        full, last = basis.size == basis.capacity, iteration == max_iterations
        if basis.size < k or not (full or last or _is_checked(iteration)):
            continue
        ritz = basis.ritz()
        exhausted = full and basis.capacity == dimension
        if eigenpairs.keep(basis, ritz, bounds, iteration, everyone=last or exhausted):
            break
        if full:
            basis.compress(ritz, keep=k + (basis.capacity - k) // 2)
    return eigenpairs.result(single=start.ndim == 1)


def warm_start(previous: TopEigen, fresh: Tensor, share: float = 0.1) -> Tensor:
    """A start vector from the result for a nearby operator.

    Args:
        previous: the nearby operator's result.
        fresh: (P,) or (M, P) random vectors of length 1, see `start_vectors`: from an eigenvector
            alone no other could be found.
        share: length of the random part relative to the first vector.

    Returns:
        The sum of the previous vectors and the random part, shaped like `fresh`; the random part
        alone where something was not finite.
    """
    total = previous.vectors.sum(-2) + share * fresh
    return torch.where(torch.isfinite(total).all(-1, keepdim=True), total, fresh)


def _is_checked(iteration: int) -> bool:
    return iteration <= _ALWAYS_CHECKED or iteration % _CHECKED_EVERY == 0


class _Eigenpairs:
    """The results of the members, each fixed when the member finished."""

    def __init__(self, members: int, k: int, like: Tensor) -> None:
        self._k = k
        self._values = like.new_full((members, k), torch.nan)
        self._vectors = like.new_full((members, k, like.shape[1]), torch.nan)
        self._residuals = like.new_full((members, k), torch.nan)
        self._converged = torch.zeros(members, k, dtype=torch.bool, device=like.device)
        self._iterations = torch.zeros(members, dtype=torch.long, device=like.device)
        self._finished = torch.zeros(members, dtype=torch.bool, device=like.device)

    def keep(
        self, basis: KrylovBasis, ritz: Ritz, bounds: Tensor, iteration: int, *, everyone: bool
    ) -> bool:
        """Record the members that have just finished, or all that are left; return whether all
        have finished."""
        values, residuals = ritz.values[:, : self._k], ritz.residuals[:, : self._k]
        converged = residuals <= bounds * ritz.scale[:, None]
        over = converged.all(1) | values.isnan().any(1)  # a lost member will not recover
        fresh = ~self._finished & (torch.ones_like(over) if everyone else over)
        self._values[fresh] = values[fresh]
        self._residuals[fresh] = residuals[fresh]
        self._converged[fresh] = converged[fresh]
        self._iterations[fresh] = iteration
        if bool(fresh.any()):
            vectors = basis.combine(ritz.coefficients[:, : self._k])[fresh]
            self._vectors[fresh] = vectors / vectors.norm(dim=-1, keepdim=True)
        self._finished |= fresh
        return bool(self._finished.all())

    def result(self, *, single: bool) -> TopEigen:
        """The results, without the leading M for a single operator."""
        top = TopEigen(
            self._values, self._vectors, self._residuals, self._converged, self._iterations
        )
        return top.member(0) if single else top
