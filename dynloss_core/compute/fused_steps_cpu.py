"""One member's training steps as one compiled loop: one hidden layer, full batch.

The file is long because a step is compiled as a whole, with each piece inlined into it.

Symbols
    D      inputs
    W      hidden units, padded to whole vectors
    C      classes
    N      samples, padded to whole vectors
    G      groups of samples, where groups and not classes have the weights
    k      moments at which the parameters are kept

The parameters of hidden unit w are column w of one array (D + 1 + C, W): D input weights, the bias,
C output weights. A step has two passes, and in both the sums live in registers:

    forward   vectors of samples; a loop over hidden units adds up the outputs, which the softmax
              turns into their gradient `delta`
    backward  vectors of hidden units; a loop over samples recomputes the unit, adds up its
              gradients, and updates it on the spot

Sharpness-aware steps make both passes twice: the first gradient locates the largest loss nearby,
and the gradient there updates the parameters here (see `training.optimisers.sharpness_aware`).

Recomputing the hidden layer costs D multiplications per unit and saves storing and reading it.
Padded units have zero parameters and stay zero; padded samples have no class, hence no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from dynloss_core.compute.kernel_cache import cached_kernel
from dynloss_core.compute.simd import Lanes, array_data
from dynloss_core.losses import KernelForm

__all__ = ["steps_kernel"]

_TILE = 4  # vectors of samples whose outputs are summed at once

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
) -> Kernel:
    """The compiled loop over steps, for float32 and float64 alike.

    Its arguments are `weights` and `velocity` (D + 1 + C, W), `bias` and `bias_velocity` (C,), the
    `samples` (D, N), `one_hot` (C, N), scratch `delta` (C, N) and `sums` (2 C + 2, lanes), and for
    every step `class_weights` (n, C) and `rates` (n,); then the number of samples without padding,
    `momentum`, `weight_decay`, and whether the momentum is Nesterov's; what a traced kernel fills
    in: `class_losses` (n, C), `correct` (n,) and, if grouped, `weighted` (n,) before each update;
    `moments` (k,), ascending numbers of steps in 1..n after which to copy the parameters to
    `kept_weights` (k, D + 1 + C, W) and `kept_bias` (k, C); `groups` (N,) of the samples, and
    scratch `of_samples` (N,), zero in the padding: a grouped kernel takes the weights (n, G) of the
    groups in place of `class_weights`. Last, the `radius` of a sharp kernel, and its scratch:
    `worst_weights` and `slope`, like `weights`, and `worst_bias`, like `bias`.
    """
    forward = _forward(inputs, classes, form, traced, grouped)
    backward = _backward(inputs, classes)
    parts = 1.0 if form.softmax else 1.0 / classes  # of a sample's loss in the mean

    @numba.njit(nogil=True, error_model="numpy")
    def steps(
        weights: Any,
        velocity: Any,
        bias: Any,
        bias_velocity: Any,
        samples: Any,
        one_hot: Any,
        delta: Any,
        sums: Any,
        class_weights: Any,
        rates: Any,
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
        for step in range(len(rates)):
            gamma = class_weights[step]
            if grouped:
                for sample in range(count):
                    of_samples[sample] = gamma[groups[sample]]
                gamma = of_samples
            forward(weights, bias, samples, one_hot, delta, sums, gamma, count)
            if traced:
                for c in range(classes):
                    class_losses[step, c] = sums[classes + c].sum() * parts / count
                correct[step] = sums[2 * classes].sum()
                if grouped:
                    weighted[step] = sums[2 * classes + 1].sum() * parts / count
            look_ahead = momentum if nesterov else rates[step] * 0
            if sharp:
                backward(weights, slope, samples, delta, count, zero, zero, zero, zero, False)
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
                forward(worst_weights, worst_bias, samples, one_hot, delta, sums, gamma, count)
                backward(worst_weights, slope, samples, delta, count, zero, zero, zero, zero, False)
                for row in range(weights.shape[0]):
                    for column in range(weights.shape[1]):
                        move = slope[row, column] + weight_decay * weights[row, column]
                        speed = momentum * velocity[row, column] + move
                        velocity[row, column] = speed
                        if nesterov:
                            speed = move + momentum * speed
                        weights[row, column] -= rates[step] * speed
            else:
                backward(
                    weights, velocity, samples, delta, count,
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

    return cached_kernel(steps, inputs, classes, form, traced, grouped, sharp)


def _forward(inputs: int, classes: int, form: KernelForm, traced: bool, grouped: bool) -> Any:
    """The forward pass as a numba intrinsic. It fills `delta`, and `sums` with sums per lane: of
    delta for each class and, if traced, of the loss for each class, the correct answers and, if
    grouped, the weighted loss."""

    @intrinsic
    def forward(
        typingctx: Any, weights: Any, bias: Any, samples: Any, one_hot: Any,
        delta: Any, sums: Any, class_weights: Any, count: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(weights, bias, samples, one_hot, delta, sums, class_weights, count)

        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            lanes = Lanes(builder, weights.dtype)
            data = [
                array_data(context, builder, kind, value)
                for kind, value in zip(sig.args[:7], arguments[:7], strict=True)
            ]
            shapes = [
                context.make_array(kind)(context, builder, value).shape
                for kind, value in zip(sig.args[:3:2], arguments[:3:2], strict=True)
            ]
            width, padded = (builder.extract_value(shape, 1) for shape in shapes)
            samples_there = builder.sitofp(arguments[7], lanes.element)
            _emit_forward(
                lanes, inputs, classes, form, traced, grouped, data, width, padded, samples_there
            )
            return context.get_dummy_value()

        return signature, emit

    return forward


def _emit_forward(
    lanes: Lanes, inputs: int, classes: int, form: KernelForm, traced: bool, grouped: bool,
    data: list[Any], width: Any, padded: Any, samples_there: Any,
) -> None:  # fmt: skip
    weights, bias, samples, one_hot, delta, sums, gamma = data
    builder = lanes.builder
    share = lanes.div(lanes.constant(1.0), lanes.splat(samples_there))
    if not form.softmax:
        share = lanes.mul(share, lanes.constant(2.0 / classes))
    of_class = [
        lanes.mul(lanes.spread(gamma, lanes.index(c)), share)
        for c in range(0 if grouped else classes)
    ]  # Gamma_c / samples
    summed = 2 * classes + 1 + grouped if traced else classes
    totals = [lanes.variable(lanes.constant(0.0)) for _ in range(summed)]

    def row(k: int, stride: Any, column: Any) -> Any:
        return builder.add(builder.mul(lanes.index(k), stride), column)

    def tile(vectors: int, first: Any) -> None:
        columns = [builder.add(first, lanes.index(v * lanes.count)) for v in range(vectors)]
        x = [[lanes.load(samples, row(i, padded, at)) for i in range(inputs)] for at in columns]
        start = [lanes.spread(bias, lanes.index(c)) for c in range(classes)]
        outputs = [[lanes.variable(start[c]) for c in range(classes)] for _ in columns]
        with lanes.loop(lanes.index(0), width, 1) as unit:
            into = [lanes.spread(weights, row(i, width, unit)) for i in range(inputs)]
            offset = lanes.spread(weights, row(inputs, width, unit))
            out = [lanes.spread(weights, row(inputs + 1 + c, width, unit)) for c in range(classes)]
            for v in range(vectors):
                before = offset
                for i in range(inputs):
                    before = lanes.fma(x[v][i], into[i], before)
                hidden = lanes.relu(before)
                for c in range(classes):
                    outputs[v][c].set(lanes.fma(hidden, out[c], outputs[v][c].get()))
        for v, at in enumerate(columns):
            target = [lanes.load(one_hot, row(c, padded, at)) for c in range(classes)]
            z = [variable.get() for variable in outputs[v]]
            own = lanes.load(gamma, at) if grouped else None
            of_sample = (
                _sample_weight(lanes, target, of_class) if own is None else lanes.mul(own, share)
            )
            gradients = _emit_output_gradient(lanes, form, z, target, of_class, of_sample)
            for c, gradient in enumerate(gradients):
                lanes.store(gradient, delta, row(c, padded, at))
            seen = _emit_class_losses(lanes, form, z, target) if traced else []
            right = [_emit_correct(lanes, z, target)] if traced else []
            whole = [lanes.mul(_sum(lanes, seen), own)] if traced and grouped else []
            for total, value in zip(totals, [*gradients, *seen, *right, *whole], strict=True):
                total.set(lanes.add(total.get(), value))

    tile_samples = lanes.index(_TILE * lanes.count)
    whole = builder.mul(builder.sdiv(padded, tile_samples), tile_samples)
    with lanes.loop(lanes.index(0), whole, _TILE * lanes.count) as first:
        tile(_TILE, first)
    with lanes.loop(whole, padded, lanes.count) as first:
        tile(1, first)
    for c, total in enumerate(totals):
        lanes.store(total.get(), sums, lanes.index(c * lanes.count))


def _sum(lanes: Lanes, values: list[Any]) -> Any:
    total = values[0]
    for value in values[1:]:
        total = lanes.add(total, value)
    return total


def _sample_weight(lanes: Lanes, target: list[Any], of_class: list[Any]) -> Any:
    """The weight of each sample's class; 0 for padding."""
    total = lanes.mul(target[0], of_class[0])
    for expected, weight in zip(target[1:], of_class[1:], strict=True):
        total = lanes.fma(expected, weight, total)
    return total


def _emit_output_gradient(
    lanes: Lanes, form: KernelForm, z: list[Any], target: list[Any], of_class: list[Any],
    of_sample: Any,
) -> list[Any]:  # fmt: skip
    """The gradient with respect to the outputs, as in `losses.output_gradient`."""
    classes = range(len(z))
    if form.by_output:
        mask = _sum(lanes, target)  # 0 for padding
        errors = [lanes.mul(lanes.sub(z[c], target[c]), mask) for c in classes]
        return [lanes.mul(errors[c], of_class[c]) for c in classes]
    if not form.softmax:
        return [lanes.mul(lanes.sub(z[c], target[c]), of_sample) for c in classes]
    largest = z[0]
    for c in classes[1:]:
        largest = lanes.maximum(largest, z[c])
    powers = [lanes.exp(lanes.sub(z[c], largest)) for c in classes]
    scale = lanes.div(lanes.constant(1.0), _sum(lanes, powers))
    return [
        lanes.mul(lanes.fma(powers[c], scale, lanes.sub(lanes.constant(0.0), target[c])), of_sample)
        for c in classes
    ]


def _emit_class_losses(
    lanes: Lanes, form: KernelForm, z: list[Any], target: list[Any]
) -> list[Any]:
    """Each sample's loss under the class it counts for, as in `losses.class_losses`; 0 for padding.

    Terms shared with the gradient are emitted twice, and merged by LLVM.
    """
    classes = range(len(z))
    mask = _sum(lanes, target)
    errors = [lanes.sub(z[c], target[c]) for c in classes]
    squares = [lanes.mul(error, error) for error in errors]
    if form.by_output:
        return [lanes.mul(square, mask) for square in squares]
    if not form.softmax:
        of_sample = _sum(lanes, squares)
        return [lanes.mul(of_sample, target[c]) for c in classes]
    largest = z[0]
    for c in classes[1:]:
        largest = lanes.maximum(largest, z[c])
    total, of_target = lanes.constant(0.0), lanes.constant(0.0)
    for c in classes:
        total = lanes.add(total, lanes.exp(lanes.sub(z[c], largest)))
        of_target = lanes.fma(z[c], target[c], of_target)
    entropy = lanes.sub(lanes.add(lanes.log(total), largest), of_target)
    return [lanes.mul(entropy, target[c]) for c in classes]


def _emit_correct(lanes: Lanes, z: list[Any], target: list[Any]) -> Any:
    """1 where the target has the largest output (of equal outputs the first); 0 elsewhere."""
    correct = lanes.constant(0.0)
    for c, expected in enumerate(target):
        wins = expected
        for other in range(len(z)):
            if other != c:
                wins = lanes.where(">" if other < c else ">=", z[c], z[other], wins)
        correct = lanes.add(correct, wins)
    return correct


def _backward(inputs: int, classes: int) -> Any:
    """The backward pass and the update of the hidden units as a numba intrinsic."""

    @intrinsic
    def backward(
        typingctx: Any, weights: Any, velocity: Any, samples: Any, delta: Any, count: Any,
        rate: Any, momentum: Any, weight_decay: Any, look_ahead: Any, nesterov: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            weights, velocity, samples, delta, count, rate, momentum, weight_decay, look_ahead,
            nesterov,
        )  # fmt: skip

        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            lanes = Lanes(builder, weights.dtype)
            data = [
                array_data(context, builder, kind, value)
                for kind, value in zip(sig.args[:4], arguments[:4], strict=True)
            ]
            width, padded = (
                builder.extract_value(
                    context.make_array(sig.args[k])(context, builder, arguments[k]).shape, 1
                )
                for k in (0, 2)
            )
            scalars = [
                lanes.splat(context.cast(builder, arguments[k], sig.args[k], weights.dtype))
                for k in range(5, 9)
            ]
            _emit_backward(
                lanes, inputs, classes, data, width, padded, arguments[4], scalars, arguments[9]
            )
            return context.get_dummy_value()

        return signature, emit

    return backward


def _emit_backward(
    lanes: Lanes, inputs: int, classes: int, data: list[Any],
    width: Any, padded: Any, count: Any, scalars: list[Any], nesterov: Any,
) -> None:  # fmt: skip
    weights, velocity, samples, delta = data
    rate, momentum, weight_decay, look_ahead = scalars
    builder = lanes.builder
    rows = inputs + 1 + classes
    fresh = builder.select(nesterov, lanes.constant(1.0), lanes.constant(0.0))
    carried = builder.select(nesterov, look_ahead, lanes.constant(1.0))

    def row(k: int, stride: Any, column: Any) -> Any:
        return builder.add(builder.mul(lanes.index(k), stride), column)

    with lanes.loop(lanes.index(0), width, lanes.count) as unit:
        parameters = [lanes.load(weights, row(k, width, unit)) for k in range(rows)]
        into, offset, out = parameters[:inputs], parameters[inputs], parameters[inputs + 1 :]
        gradients = [lanes.variable(lanes.constant(0.0)) for _ in range(rows)]
        with lanes.loop(lanes.index(0), count, 1) as sample:
            x = [lanes.spread(samples, row(i, padded, sample)) for i in range(inputs)]
            d = [lanes.spread(delta, row(c, padded, sample)) for c in range(classes)]
            before = offset
            for i in range(inputs):
                before = lanes.fma(x[i], into[i], before)
            hidden = lanes.relu(before)
            back = lanes.mul(d[0], out[0])
            for c in range(1, classes):
                back = lanes.fma(d[c], out[c], back)
            back = lanes.where_positive(before, back)
            for i in range(inputs):
                gradients[i].set(lanes.fma(back, x[i], gradients[i].get()))
            gradients[inputs].set(lanes.add(gradients[inputs].get(), back))
            for c in range(classes):
                k = inputs + 1 + c
                gradients[k].set(lanes.fma(hidden, d[c], gradients[k].get()))
        for k in range(rows):
            at = row(k, width, unit)
            gradient = lanes.fma(weight_decay, parameters[k], gradients[k].get())
            speed = lanes.fma(momentum, lanes.load(velocity, at), gradient)
            lanes.store(speed, velocity, at)
            move = lanes.fma(carried, speed, lanes.mul(fresh, gradient))
            step = lanes.sub(lanes.constant(0.0), rate)
            lanes.store(lanes.fma(step, move, parameters[k]), weights, at)
