r"""One member's curvature as one compiled function: one hidden layer, few inputs and classes.

Symbols, beyond those of `pattern`, whose formulas these are
    S      hidden units, padded to whole vectors
    R      D + 1 + C, rows of a member's weights (R, S): D input weights, the bias, C output weights
    N      samples, padded to whole vectors; n of them for the tangent kernel
    P      R S + C, a direction in parameter space: rows like the weights', then the output biases
    K      channels: C, or 1 for the tangent kernel

Two passes are all there is, and their sums live in registers:

    spread    Phi: vectors of samples; a loop over units adds up the channels
    gather    its transpose: vectors of units; a loop over samples adds up K (D + 1) sums

Both recompute whether a unit is on: D multiplications are cheaper than reading it from memory.
Padded units have zero parameters and are never on; padded samples have zero gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from dynloss_core.landscape.lanczos_kernel import FAST, lanczos_kernel
from dynloss_core.losses import LossName
from dynloss_core.training.lanes import Lanes, array_data

__all__ = ["curvature_kernel"]

_SPREAD_TILE = 3  # vectors of samples at once
_GATHER_TILE = 2  # vectors of units at once

Kernel = Callable[..., None]


@cache
def curvature_kernel(inputs: int, classes: int, loss: LossName) -> Kernel:
    """The compiled measurement of some members, in float64.

    It takes `members` (m,), their indices; `weights` (M, R, S) and `biases` (M, C); `samples`
    (M or 1, D, N) and `one_hot` (M or 1, C, N); `class_weights` (M, C); the number of samples that
    are not padding; `kernel_samples` (M or 1, D, n) and how many of those are not. Then for the
    Hessian and again for the kernel: start vectors `fresh` (M, .) and what was found last, `found`
    (M, 2, .), zero if nothing, which is overwritten; last `share` of the fresh vectors, the two
    `tolerances`, `max_iterations`, and `results` (M, 2, 4), filled with value, residual, number of
    products and whether they converged, for the Hessian and the kernel.
    """
    rows = inputs + 1
    spread, gather = _spread(inputs, classes), _gather(inputs, classes)
    spread_one, gather_one = _spread(inputs, 1), _gather(inputs, 1)
    cross_entropy, by_output = loss == "cross_entropy", loss == "mse_output_weighted"

    @numba.njit(nogil=True, error_model="numpy", fastmath=FAST)
    def times_inputs(values: Any, samples: Any, products: Any) -> None:
        for c in range(len(values)):
            for d in range(rows):
                k = c * rows + d
                for j in range(values.shape[1]):
                    products[k, j] = values[c, j] * samples[d, j] if d < inputs else values[c, j]

    @numba.njit(nogil=True, error_model="numpy", fastmath=FAST)
    def hessian_product(state: Any, vector: Any, product: Any) -> None:
        weights, samples, diagonal, outer, residual, units, values, inner, products, sums = state
        width = weights.shape[1]
        along = vector[: weights.size].reshape(weights.shape)
        into = product[: weights.size].reshape(weights.shape)
        for c in range(classes):
            for d in range(rows):
                k = c * rows + d
                for w in range(width):
                    units[k, w] = (
                        weights[rows + c, w] * along[d, w] + along[rows + c, w] * weights[d, w]
                    )
        spread(weights, samples, units, values)
        for j in range(len(inner)):
            inner[j] = 0.0
        for c in range(classes):
            bias = vector[weights.size + c]
            for j in range(len(inner)):
                values[c, j] += bias
                inner[j] += outer[c, j] * values[c, j]
        for c in range(classes):
            total = 0.0
            for j in range(len(inner)):
                values[c, j] = diagonal[c, j] * values[c, j] - outer[c, j] * inner[j]
                total += values[c, j]
            product[weights.size + c] = total
        times_inputs(values, samples, products)
        gather(weights, samples, products, sums)
        for k in range(weights.size):
            product[k] = 0.0
        for c in range(classes):
            for d in range(rows):
                k = c * rows + d
                for w in range(width):
                    into[d, w] += (
                        weights[rows + c, w] * sums[k, w] + along[rows + c, w] * residual[k, w]
                    )
                for w in range(width):
                    into[rows + c, w] += weights[d, w] * sums[k, w] + along[d, w] * residual[k, w]

    @numba.njit(nogil=True, error_model="numpy", fastmath=FAST)
    def kernel_product(state: Any, vector: Any, product: Any) -> None:
        weights, samples, count, strength, units, values, products, sums = state
        width = weights.shape[1]
        total = 0.0
        for j in range(len(vector)):
            values[0, j] = vector[j]
            total += vector[j]
        times_inputs(values, samples, products)
        gather_one(weights, samples, products, sums)
        for w in range(width):
            along = 0.0
            for d in range(rows):
                along += weights[d, w] * sums[d, w]
            for d in range(rows):
                units[d, w] = strength[w] * sums[d, w] + along * weights[d, w]
        spread_one(weights, samples, units, values)
        for j in range(len(vector)):
            product[j] = values[0, j] + total if j < count else 0.0

    hessian_lanczos, kernel_lanczos = (
        lanczos_kernel(hessian_product),
        lanczos_kernel(kernel_product),
    )

    @numba.njit(nogil=True, error_model="numpy", fastmath=FAST)
    def output_derivatives(
        values: Any, one_hot: Any, class_weights: Any, count: int,
        delta: Any, diagonal: Any, outer: Any,
    ) -> None:  # fmt: skip
        for j in range(values.shape[1]):
            of_sample, there = 0.0, 0.0
            for c in range(classes):
                of_sample += one_hot[c, j] * class_weights[c]
                there += one_hot[c, j]  # 0 for padding
            if cross_entropy:
                largest = values[0, j]
                for c in range(1, classes):
                    if values[c, j] > largest:
                        largest = values[c, j]
                total = 0.0
                for c in range(classes):
                    delta[c, j] = np.exp(values[c, j] - largest)
                    total += delta[c, j]
                share = of_sample / count
                root = np.sqrt(share)
                for c in range(classes):
                    probability = delta[c, j] / total
                    delta[c, j] = share * (probability - one_hot[c, j])
                    diagonal[c, j] = share * probability
                    outer[c, j] = root * probability
            else:
                for c in range(classes):
                    weight = class_weights[c] * there if by_output else of_sample
                    diagonal[c, j] = weight * 2 / (count * classes)
                    delta[c, j] = diagonal[c, j] * (values[c, j] - one_hot[c, j])
                    outer[c, j] = 0.0

    @numba.njit(nogil=True, error_model="numpy", fastmath=FAST)
    def measure(
        members: Any, weights: Any, biases: Any, samples: Any, one_hot: Any, class_weights: Any,
        count: int, kernel_samples: Any, kernel_count: int,
        fresh: Any, found: Any, kernel_fresh: Any, kernel_found: Any,
        share: float, tolerances: Any, max_iterations: int, results: Any,
    ) -> None:  # fmt: skip
        width, padded, few = weights.shape[2], samples.shape[2], kernel_samples.shape[2]
        units, sums = np.empty((classes * rows, width)), np.empty((classes * rows, width))
        residual, strength = np.empty((classes * rows, width)), np.empty(width)
        values, delta = np.empty((classes, padded)), np.empty((classes, padded))
        diagonal, outer = np.empty((classes, padded)), np.empty((classes, padded))
        inner, products = np.empty(padded), np.empty((classes * rows, padded))
        few_values, few_products = np.empty((1, few)), np.empty((rows, few))
        for m in members:
            own, x = weights[m], samples[m % len(samples)]
            total = 0.0
            for r in range(len(own)):
                for w in range(width):
                    total += own[r, w]
            for c in range(classes):
                total += biases[m, c]
            if not np.isfinite(total):
                for which in range(2):
                    for k in range(4):
                        results[m, which, k] = np.nan if k < 2 else 0.0
                continue
            for c in range(classes):
                for d in range(rows):
                    for w in range(width):
                        units[c * rows + d, w] = own[rows + c, w] * own[d, w]
            spread(own, x, units, values)
            for c in range(classes):
                for j in range(padded):
                    values[c, j] += biases[m, c]
            targets = one_hot[m % len(one_hot)]
            output_derivatives(values, targets, class_weights[m], count, delta, diagonal, outer)
            times_inputs(delta, x, products)
            gather(own, x, products, residual)
            state = (own, x, diagonal, outer, residual, units, values, inner, products, sums)
            hessian_lanczos(
                state, fresh[m], found[m], share, tolerances, max_iterations, results[m, 0]
            )
            for w in range(width):
                strength[w] = 0.0
                for c in range(classes):
                    strength[w] += own[rows + c, w] ** 2 / classes
            few_x = kernel_samples[m % len(kernel_samples)]
            few_state = (own, few_x, kernel_count, strength, units, few_values, few_products, sums)
            kernel_lanczos(
                few_state, kernel_fresh[m], kernel_found[m], share, tolerances, max_iterations,
                results[m, 1],
            )  # fmt: skip

    return measure


def _spread(inputs: int, channels: int) -> Any:
    """Phi as a numba intrinsic: (weights, samples, units (K (D + 1), S), values (K, N))."""
    return _pass(inputs, channels, _emit_spread)


def _gather(inputs: int, channels: int) -> Any:
    """Phi transposed as a numba intrinsic: (weights, samples, products (K (D + 1), N), sums
    (K (D + 1), S)), where the products are the values times the inputs and times 1."""
    return _pass(inputs, channels, _emit_gather)


def _pass(inputs: int, channels: int, emit_loops: Callable[..., None]) -> Any:
    @intrinsic
    def run(_: Any, weights: Any, samples: Any, given: Any, result: Any) -> Any:
        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            lanes = Lanes(builder, weights.dtype)
            kinds = list(zip(sig.args, arguments, strict=True))
            data = [array_data(context, builder, kind, value) for kind, value in kinds]
            width, padded = (
                builder.extract_value(context.make_array(kind)(context, builder, value).shape, 1)
                for kind, value in kinds[:2]
            )
            emit_loops(lanes, inputs, channels, data, width, padded)
            return context.get_dummy_value()

        return types.void(weights, samples, given, result), emit

    return run


def _emit_spread(
    lanes: Lanes, inputs: int, channels: int, data: list[Any], width: Any, padded: Any
) -> None:
    weights, samples, units, values = data
    builder, row = lanes.builder, _row(lanes)

    def tile(vectors: int, first: Any) -> None:
        columns = [builder.add(first, lanes.index(v * lanes.count)) for v in range(vectors)]
        x = [[lanes.load(samples, row(i, padded, at)) for i in range(inputs)] for at in columns]
        totals = [[lanes.variable(lanes.constant(0.0)) for _ in range(channels)] for _ in columns]
        with lanes.loop(lanes.index(0), width, 1) as unit:
            into = [lanes.spread(weights, row(i, width, unit)) for i in range(inputs + 1)]
            factors = [
                lanes.spread(units, row(k, width, unit)) for k in range(channels * (inputs + 1))
            ]
            for v in range(vectors):
                before = _affine(lanes, into, x[v])
                for c in range(channels):
                    own = factors[c * (inputs + 1) : (c + 1) * (inputs + 1)]
                    added = lanes.where_positive(before, _affine(lanes, own, x[v]))
                    totals[v][c].set(lanes.add(totals[v][c].get(), added))
        for v, at in enumerate(columns):
            for c in range(channels):
                lanes.store(totals[v][c].get(), values, row(c, padded, at))

    _tiles(lanes, padded, _SPREAD_TILE, tile)


def _emit_gather(
    lanes: Lanes, inputs: int, channels: int, data: list[Any], width: Any, padded: Any
) -> None:
    weights, samples, products, sums = data
    builder, row = lanes.builder, _row(lanes)
    kept = channels * (inputs + 1)

    def tile(vectors: int, first: Any) -> None:
        columns = [builder.add(first, lanes.index(v * lanes.count)) for v in range(vectors)]
        into = [
            [lanes.load(weights, row(i, width, at)) for i in range(inputs + 1)] for at in columns
        ]
        totals = [[lanes.variable(lanes.constant(0.0)) for _ in range(kept)] for _ in columns]
        with lanes.loop(lanes.index(0), padded, 1) as sample:
            x = [lanes.spread(samples, row(i, padded, sample)) for i in range(inputs)]
            factors = [lanes.spread(products, row(k, padded, sample)) for k in range(kept)]
            for v in range(vectors):
                before = _affine(lanes, into[v], x)
                # sums and fused multiply-adds run side by side: every other one is made the latter
                on = lanes.where_positive(before, lanes.constant(1.0))
                for k, total in enumerate(totals[v]):
                    if k % 2:
                        total.set(lanes.fma(on, factors[k], total.get()))
                    else:
                        added = lanes.where_positive(before, factors[k])
                        total.set(lanes.add(total.get(), added))
        for v, at in enumerate(columns):
            for k in range(kept):
                lanes.store(totals[v][k].get(), sums, row(k, width, at))

    _tiles(lanes, width, _GATHER_TILE, tile)


def _affine(lanes: Lanes, factors: list[Any], x: list[Any]) -> Any:
    """factors . x, the last factor for the constant input 1."""
    total = factors[-1]
    for factor, value in zip(factors[:-1], x, strict=True):
        total = lanes.fma(factor, value, total)
    return total


def _row(lanes: Lanes) -> Callable[[int, Any, Any], Any]:
    builder = lanes.builder

    def place(k: int, stride: Any, column: Any) -> Any:
        return builder.add(builder.mul(lanes.index(k), stride), column)

    return place


def _tiles(lanes: Lanes, length: Any, vectors: int, tile: Callable[[int, Any], None]) -> None:
    """Cover a length, a whole number of vectors, by tiles and what is left by single vectors."""
    builder = lanes.builder
    step = vectors * lanes.count
    whole = builder.mul(builder.sdiv(length, lanes.index(step)), lanes.index(step))
    with lanes.loop(lanes.index(0), whole, step) as first:
        tile(vectors, first)
    with lanes.loop(whole, length, lanes.count) as first:
        tile(1, first)
