"""One member's training steps as one compiled loop: one hidden layer, full batch.

The passes of a step are in `fused_passes_cpu`, and inlined into the loop.

Symbols
    D      inputs
    W      hidden units, padded to whole vectors
    C      classes
    N      samples, padded to whole vectors
    G      groups of samples, where groups and not classes have the weights
    k      moments at which the parameters are kept

The parameters of hidden unit w are column w of one array (D + 1 + C, W): D input weights, the bias,
C output weights. Sharpness-aware steps make all passes twice: the first gradient locates the
largest loss nearby, and the gradient there updates the parameters here (see
`training.optimisers.sharpness_aware`).

Padded units have zero parameters and stay zero; padded samples have no class, hence no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from dynloss_core.compute.fused_passes_cpu import UNITS, backward_pass, forward_pass, update_pass
from dynloss_core.compute.kernel_cache import cached_kernel
from dynloss_core.losses import KernelForm

__all__ = ["steps_kernel"]

Kernel = Callable[..., None]


@cache
def steps_kernel(
    inputs: int,
    classes: int,
    form: KernelForm,
    *,
    traced: bool,
    grouped: bool = False,
    sharp: bool = False,
    stored: bool = True,
) -> Kernel:
    """The compiled loop over steps, for float32 and float64 alike.

    Its arguments are `weights` and `velocity` (D + 1 + C, W), `bias` and `bias_velocity` (C,), the
    `samples` (D, N), `one_hot` (C, N), scratch `hidden` (W, N), which may be empty unless the
    activations are `stored`, scratch `delta` (C, N), `sums` (2 C + 2, lanes) and, filled with
    zeros, `gradients` (W, D + 1 + C, lanes), and for every step `class_weights` (n, C) and `rates`
    (n,); then the numbers of hidden units and of samples without padding, `momentum`,
    `weight_decay`, and whether the momentum is Nesterov's; what a traced kernel fills in:
    `class_losses` (n, C), `correct` (n,) and, if grouped, `weighted` (n,) before each update;
    `moments` (k,), ascending numbers of steps in 1..n after which to copy the parameters to
    `kept_weights` (k, D + 1 + C, W) and `kept_bias` (k, C); `groups` (N,) of the samples, and
    scratch `of_samples` (N,), zero in the padding: a grouped kernel takes the weights (n, G) of the
    groups in place of `class_weights`. Last, the `radius` of a sharp kernel, and its scratch:
    `worst_weights` and `slope`, like `weights`, and `worst_bias`, like `bias`.
    """
    forward = forward_pass(inputs, classes, form, traced=traced, grouped=grouped, stored=stored)
    backward = backward_pass(inputs, classes, stored=stored)
    update = update_pass(inputs, classes)
    parts = 1.0 if form.softmax else 1.0 / classes  # of a sample's loss in the mean

    @numba.njit(nogil=True, error_model="numpy")
    def steps(
        weights: Any,
        velocity: Any,
        bias: Any,
        bias_velocity: Any,
        samples: Any,
        one_hot: Any,
        hidden: Any,
        delta: Any,
        sums: Any,
        gradients: Any,
        class_weights: Any,
        rates: Any,
        width: int,
        count: int,
        momentum: Any,
        weight_decay: Any,
        nesterov: bool,
        class_losses: Any,
        correct: Any,
        weighted: Any,
        moments: Any,
        kept_weights: Any,
        kept_bias: Any,
        groups: Any,
        of_samples: Any,
        radius: Any,
        worst_weights: Any,
        slope: Any,
        worst_bias: Any,
    ) -> None:
        kept = 0
        zero = radius * 0
        units = -(-width // UNITS) * UNITS
        for step in range(len(rates)):
            gamma = class_weights[step]
            if grouped:
                for sample in range(count):
                    of_samples[sample] = gamma[groups[sample]]
                gamma = of_samples
            forward(weights, bias, samples, one_hot, hidden, delta, sums, gamma, units, count)
            backward(weights, samples, hidden, delta, gradients, units)
            if traced:
                for c in range(classes):
                    class_losses[step, c] = sums[classes + c].sum() * parts / count
                correct[step] = sums[2 * classes].sum()
                if grouped:
                    weighted[step] = sums[2 * classes + 1].sum() * parts / count
            look_ahead = momentum if nesterov else rates[step] * 0
            if sharp:
                update(weights, slope, gradients, zero, zero, zero, zero, False)
                square = zero
                for row in range(weights.shape[0]):
                    for column in range(weights.shape[1]):
                        square += slope[row, column] * slope[row, column]
                for c in range(classes):
                    worst_bias[c] = sums[c].sum()
                    square += worst_bias[c] * worst_bias[c]
                scale = radius / np.sqrt(square) if square > 0 else zero
                for row in range(weights.shape[0]):
                    for column in range(weights.shape[1]):
                        worst_weights[row, column] = (
                            weights[row, column] + scale * slope[row, column]
                        )
                for c in range(classes):
                    worst_bias[c] = bias[c] + scale * worst_bias[c]
                forward(
                    worst_weights, worst_bias, samples, one_hot, hidden, delta, sums, gamma,
                    units, count,
                )  # fmt: skip
                backward(worst_weights, samples, hidden, delta, gradients, units)
                update(worst_weights, slope, gradients, zero, zero, zero, zero, False)
                for row in range(weights.shape[0]):
                    for column in range(weights.shape[1]):
                        move = slope[row, column] + weight_decay * weights[row, column]
                        speed = momentum * velocity[row, column] + move
                        velocity[row, column] = speed
                        if nesterov:
                            speed = move + momentum * speed
                        weights[row, column] -= rates[step] * speed
            else:
                update(
                    weights, velocity, gradients,
                    rates[step], momentum, weight_decay, look_ahead, nesterov,
                )  # fmt: skip
            for c in range(classes):
                gradient = weight_decay * bias[c]
                for lane in range(sums.shape[1]):
                    gradient += sums[c, lane]
                bias_velocity[c] = momentum * bias_velocity[c] + gradient
                if nesterov:
                    bias[c] -= rates[step] * (gradient + momentum * bias_velocity[c])
                else:
                    bias[c] -= rates[step] * bias_velocity[c]
            if kept < len(moments) and step + 1 == moments[kept]:
                for row in range(weights.shape[0]):  # all at once takes seconds to compile
                    for column in range(weights.shape[1]):
                        kept_weights[kept, row, column] = weights[row, column]
                for c in range(classes):
                    kept_bias[kept, c] = bias[c]
                kept += 1

    return cached_kernel(steps, inputs, classes, form, traced, grouped, sharp, stored)
