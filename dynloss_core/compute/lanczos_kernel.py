"""Lanczos for the largest eigenvalue of one operator, compiled together with its products.

It does what `lanczos.top_eigen` does for k = 2 with two tolerances, for one member and without
calling Python: for small networks a product costs microseconds, and so must everything around it.
Instead of compressing a full basis, it restarts from its last Ritz vectors and the random vector.

Symbols
    P      dimension
    J      vectors that the basis can hold
    j      vectors it holds now
    T      projected operator, tridiagonal: `diagonal` (J,) and `beside` (J,)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dynloss_core.compute.kernel_cache import piece

__all__ = ["FAST", "lanczos_kernel"]

FAST = {"reassoc", "contract", "nsz"}  # sums in vectors; NaN and infinity are preserved
_BASIS = 48
_ALWAYS_CHECKED = 8  # up to this many products, convergence is checked after each
_CHECKED_EVERY = 4
_BREAKDOWN = 1e-14
_SWEEPS = 60  # of the QL iteration; an eigenvalue usually takes two or three

Kernel = Callable[..., None]


def lanczos_kernel(product: Any) -> Kernel:
    """The compiled iteration for an operator `product(state, vector, result)`.

    Its arguments are the operator's `state`; `fresh` (P,), a random vector of length 1; `ritz`
    (2, P), the last Ritz vectors or zeros, overwritten by the new ones; `share`, the length of the
    fresh vector in the start; two relative `tolerances`, for the largest value and the next;
    `max_iterations`; and `result` (4,): value, residual, products, whether both converged.
    """

    @piece(fastmath=FAST)
    def lanczos(
        state: Any, fresh: Any, ritz: Any, share: float, tolerances: Any, max_iterations: int,
        result: Any,
    ) -> None:  # fmt: skip
        size = len(fresh)
        capacity = min(_BASIS, size)
        basis = np.empty((capacity + 1, size))
        diagonal, beside = np.empty(capacity), np.empty(capacity)
        values, vectors = np.empty(capacity), np.empty((capacity, capacity))
        work = np.empty(capacity)
        _begin(basis[0], fresh, ritz, share)
        j, largest = 0, 0.0
        for iteration in range(1, max_iterations + 1):
            rest = basis[j + 1]
            product(state, basis[j], rest)
            diagonal[j] = 0.0
            for _ in range(2):
                for i in range(j + 1):
                    overlap = _dot(basis[i], rest)
                    if i == j:
                        diagonal[j] += overlap
                    _add(rest, -overlap, basis[i])
            length = np.sqrt(_dot(rest, rest))
            beside[j] = length
            largest = max(largest, length, abs(diagonal[j]))
            j += 1
            last = iteration == max_iterations
            complete = length <= _BREAKDOWN * largest or j == size
            checked = j <= _ALWAYS_CHECKED or j % _CHECKED_EVERY == 0 or j == capacity
            if not (checked or complete or last):
                _scale(rest, 1 / length)
                continue
            if not _eigen(diagonal, beside, j, values, vectors, work):
                result[0], result[1], result[2], result[3] = np.nan, np.nan, iteration, 0.0
                return
            first, second, scale = _two_largest(values, j)
            residual = length * abs(vectors[j - 1, first])
            next_residual = length * abs(vectors[j - 1, second])
            converged = complete or (
                j > 1
                and residual <= tolerances[0] * scale
                and next_residual <= tolerances[1] * scale
            )
            if converged or last or j == capacity:
                _combine(basis, vectors, j, first, ritz[0])
                _combine(basis, vectors, j, second, ritz[1])
            if converged or last:
                result[0], result[1] = values[first], residual
                result[2], result[3] = iteration, 1.0 if converged else 0.0
                return
            if j == capacity:
                _begin(basis[0], fresh, ritz, 1.0)
                j = 0
            else:
                _scale(rest, 1 / length)

    return lanczos


@piece(fastmath=FAST)
def _dot(a: Any, b: Any) -> float:
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@piece(fastmath=FAST)
def _add(a: Any, factor: float, b: Any) -> None:
    for i in range(len(a)):
        a[i] += factor * b[i]


@piece(fastmath=FAST)
def _scale(a: Any, factor: float) -> None:
    for i in range(len(a)):
        a[i] *= factor


@piece(fastmath=FAST)
def _begin(start: Any, fresh: Any, ritz: Any, share: float) -> None:
    """The sum of the last Ritz vectors and a share of the fresh one, scaled to length 1."""
    for i in range(len(start)):
        start[i] = ritz[0, i] + ritz[1, i] + share * fresh[i]
    _scale(start, 1 / np.sqrt(_dot(start, start)))


@piece(fastmath=FAST)
def _combine(basis: Any, vectors: Any, j: int, column: int, result: Any) -> None:
    _scale(result, 0.0)
    for i in range(j):
        _add(result, vectors[i, column], basis[i])


@piece()
def _two_largest(values: Any, size: int) -> tuple[int, int, float]:
    """The indices of the largest value and the next, equal if there is only one; and the largest
    magnitude."""
    first, second, scale = 0, -1, abs(values[0])
    for i in range(1, size):
        scale = max(scale, abs(values[i]))
        if values[i] > values[first]:
            first, second = i, first
        elif second < 0 or values[i] > values[second]:
            second = i
    return first, max(second, 0), scale


@piece()
def _eigen(diagonal: Any, beside: Any, size: int, values: Any, vectors: Any, work: Any) -> bool:
    """All eigenpairs of a symmetric tridiagonal matrix of `size`: values in no order, vectors in
    columns. The implicit QL iteration (EISPACK's tql2; Bowdler et al. 1968). False for NaN."""
    for i in range(size):
        values[i] = diagonal[i]
        work[i] = beside[i]
        for k in range(size):
            vectors[i, k] = 1.0 if i == k else 0.0
    work[size - 1] = 0.0
    for low in range(size):
        for _ in range(_SWEEPS):
            high = low
            while high < size - 1:
                around = abs(values[high]) + abs(values[high + 1])
                if abs(work[high]) <= 2.3e-16 * around:
                    break
                high += 1
            if high == low:
                break
            shift = (values[low + 1] - values[low]) / (2 * work[low])
            radius = np.hypot(shift, 1.0)
            shift = values[high] - values[low] + work[low] / (shift + np.copysign(radius, shift))
            sine, cosine, moved = 1.0, 1.0, 0.0
            done = True
            for i in range(high - 1, low - 1, -1):
                f, b = sine * work[i], cosine * work[i]
                radius = np.hypot(f, shift)
                work[i + 1] = radius
                if radius == 0.0:
                    values[i + 1] -= moved
                    work[high] = 0.0
                    done = False
                    break
                sine, cosine = f / radius, shift / radius
                shift = values[i + 1] - moved
                radius = (values[i] - shift) * sine + 2 * cosine * b
                moved = sine * radius
                values[i + 1] = shift + moved
                shift = cosine * radius - b
                for k in range(size):
                    f = vectors[k, i + 1]
                    vectors[k, i + 1] = sine * vectors[k, i] + cosine * f
                    vectors[k, i] = cosine * vectors[k, i] - sine * f
            if done:
                values[low] -= moved
                work[low] = shift
                work[high] = 0.0
    finite = True
    for i in range(size):
        finite = finite and np.isfinite(values[i])
    return finite
