r"""One member's curvature as one compiled function: one hidden layer, few inputs and classes.

Symbols, beyond those of `one_hidden_layer`, which has the formulas
    S      hidden units, padded to whole vectors
    k      moments
    R      D + 1 + C, rows of a member's weights (R, S): D input weights, the bias, C output weights
    N      samples, padded to whole vectors; n for the tangent kernel
    P      R S + C, size of a direction in parameter space: rows as in the weights, then the output
           biases
    K      channels: C, or 1 for the tangent kernel

Two passes do nearly all the work, `spread` (Phi) and `gather` (its transpose), see
`pattern_passes`. Padded units have zero parameters and are never on; padded samples have zero
gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from dynloss_core.compute.kernel_cache import cached_kernel, piece
from dynloss_core.compute.lanczos_kernel import FAST, lanczos_kernel
from dynloss_core.compute.pattern_passes import gather_pass, spread_pass

__all__ = ["curvature_kernel"]

Kernel = Callable[..., None]


@cache
def curvature_kernel(inputs: int, classes: int) -> Kernel:
    """The compiled measurement of some members at k moments, one after the other, in float64.

    Its arguments are whether the loss is `cross_entropy` and, if not, whether it weights
    `by_output`; `members` (m,), their indices; `weights` (k, M, R, S) and `biases` (k, M, C);
    `samples` (M or 1, D, N) and `one_hot` (M or 1, C, N); `groups` (M or 1, N) of the samples,
    classes or others, and the weights of the groups, `class_weights` (k, M, G); the number of
    samples without padding; `kernel_samples` (M or 1, D, n) and their number without padding. Then,
    for the Hessian and again for the tangent kernel: start vectors `fresh` (M, .), and the last
    result, `ritz` (M, 2, .), zero if there is none, which is overwritten. Last, the `share` of the
    fresh vectors, the two `tolerances`, `max_iterations`, and `results` (k, M, 2, 4), filled with
    value, residual, number of products and convergence, for the Hessian and the tangent kernel.
    """
    rows = inputs + 1
    spread, gather = spread_pass(inputs, classes), gather_pass(inputs, classes)
    spread_one, gather_one = spread_pass(inputs, 1), gather_pass(inputs, 1)

    @piece(fastmath=FAST)
    def times_inputs(values: Any, samples: Any, products: Any) -> None:
        for c in range(len(values)):
            for d in range(rows):
                k = c * rows + d
                for j in range(values.shape[1]):
                    products[k, j] = values[c, j] * samples[d, j] if d < inputs else values[c, j]

    @piece(fastmath=FAST)
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

    @piece(fastmath=FAST)
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

    hessian_lanczos = lanczos_kernel(hessian_product)
    kernel_lanczos = lanczos_kernel(kernel_product)

    @piece(fastmath=FAST)
    def output_derivatives(
        cross_entropy: bool, by_output: bool,
        values: Any, one_hot: Any, groups: Any, class_weights: Any, count: int,
        delta: Any, diagonal: Any, outer: Any,
    ) -> None:  # fmt: skip
        for j in range(values.shape[1]):
            mask = 0.0
            for c in range(classes):
                mask += one_hot[c, j]  # 0 for padding
            of_sample = class_weights[groups[j]] * mask
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
                    weight = class_weights[c] * mask if by_output else of_sample
                    diagonal[c, j] = weight * 2 / (count * classes)
                    delta[c, j] = diagonal[c, j] * (values[c, j] - one_hot[c, j])
                    outer[c, j] = 0.0

    @numba.njit(nogil=True, error_model="numpy", fastmath=FAST)
    def measure(
        cross_entropy: bool, by_output: bool, members: Any, weights: Any, biases: Any,
        samples: Any, one_hot: Any, groups: Any, class_weights: Any, count: int,
        kernel_samples: Any, kernel_count: int,
        fresh: Any, ritz: Any, kernel_fresh: Any, kernel_ritz: Any,
        share: float, tolerances: Any, max_iterations: int, results: Any,
    ) -> None:  # fmt: skip
        moments, width = len(weights), weights.shape[3]
        padded, few = samples.shape[2], kernel_samples.shape[2]
        units, sums = np.empty((classes * rows, width)), np.empty((classes * rows, width))
        residual, strength = np.empty((classes * rows, width)), np.empty(width)
        values, delta = np.empty((classes, padded)), np.empty((classes, padded))
        diagonal, outer = np.empty((classes, padded)), np.empty((classes, padded))
        inner, products = np.empty(padded), np.empty((classes * rows, padded))
        few_values, few_products = np.empty((1, few)), np.empty((rows, few))
        for place in range(len(members) * moments):
            m, t = members[place // moments], place % moments
            own, x, result = weights[t, m], samples[m % len(samples)], results[t, m]
            if not (_is_finite(own.ravel()) and _is_finite(biases[t, m])):
                for which in range(2):
                    for k in range(4):
                        result[which, k] = np.nan if k < 2 else 0.0
                continue
            for c in range(classes):
                for d in range(rows):
                    for w in range(width):
                        units[c * rows + d, w] = own[rows + c, w] * own[d, w]
            spread(own, x, units, values)
            for c in range(classes):
                for j in range(padded):
                    values[c, j] += biases[t, m, c]
            targets = one_hot[m % len(one_hot)]
            output_derivatives(
                cross_entropy, by_output, values, targets, groups[m % len(groups)],
                class_weights[t, m], count, delta, diagonal, outer,
            )  # fmt: skip
            times_inputs(delta, x, products)
            gather(own, x, products, residual)
            state = (own, x, diagonal, outer, residual, units, values, inner, products, sums)
            hessian_lanczos(state, fresh[m], ritz[m], share, tolerances, max_iterations, result[0])
            for w in range(width):
                strength[w] = 0.0
                for c in range(classes):
                    strength[w] += own[rows + c, w] ** 2 / classes
            few_x = kernel_samples[m % len(kernel_samples)]
            few_state = (own, few_x, kernel_count, strength, units, few_values, few_products, sums)
            kernel_lanczos(
                few_state, kernel_fresh[m], kernel_ritz[m], share, tolerances, max_iterations,
                result[1],
            )  # fmt: skip

    return cached_kernel(measure, inputs, classes)  # type: ignore[no-any-return]


@piece()  # no fastmath, where x - x is 0 for NaN too
def _is_finite(values: Any) -> bool:
    total = 0.0
    for i in range(len(values)):
        total += 0.0 * values[i]
    return total == 0.0
