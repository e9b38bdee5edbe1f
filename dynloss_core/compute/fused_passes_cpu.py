"""The passes of a training step in vectors of lanes: forward, backward, update.

Symbols as in `fused_steps_cpu`. The first two passes work on vectors of samples, so that a width of
20 costs 20 units and not two vectors of 16, and their sums live in registers:

    forward   for a few vectors of samples, a loop over hidden units adds up the outputs, which the
              softmax turns into their gradient `delta`
    backward  for a few hidden units, a loop over samples adds up their gradients lane by lane
    update    for vectors of hidden units, the lanes are added up, and the parameters move

Activations go from pass to pass through memory (`stored`) where they stay in a cache. Elsewhere the
backward pass computes them again, alike to the last bit, which costs less than fetching them.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from dynloss_core.compute.simd import Lanes, array_data
from dynloss_core.losses import KernelForm

__all__ = ["UNITS", "backward_pass", "forward_pass", "update_pass"]

UNITS = 2  # hidden units whose gradients are summed at once; divides the lanes
_VECTORS = 4, 2, 1  # of samples, whose outputs are summed at once


def forward_pass(
    inputs: int, classes: int, form: KernelForm, *, traced: bool, grouped: bool, stored: bool
) -> Any:
    """The forward pass as a numba intrinsic.

    It fills `hidden` if the activations are stored, `delta`, and `sums` with sums per lane: of
    delta for each class and, if traced, of the loss for each class, the correct answers and, if
    grouped, the weighted loss.
    """

    @intrinsic
    def forward(
        typingctx: Any, weights: Any, bias: Any, samples: Any, one_hot: Any, hidden: Any,
        delta: Any, sums: Any, class_weights: Any, units: Any, count: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            weights, bias, samples, one_hot, hidden, delta, sums, class_weights, units, count
        )

        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            lanes = Lanes(builder, weights.dtype)
            data = _data(context, builder, sig.args[:8], arguments[:8])
            width, padded = (_columns(context, builder, sig.args[k], arguments[k]) for k in (0, 2))
            units, count = arguments[8:]
            samples_there = builder.sitofp(count, lanes.element)
            _emit_forward(
                lanes, inputs, classes, form, traced, grouped, stored, data, width, padded, units,
                samples_there,
            )  # fmt: skip
            return context.get_dummy_value()

        return signature, emit

    return forward


def _data(context: Any, builder: Any, kinds: Any, arrays: Any) -> list[Any]:
    """Pointers to the first elements of numba's arrays."""
    return [
        array_data(context, builder, kind, array) for kind, array in zip(kinds, arrays, strict=True)
    ]


def _columns(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """The number of columns of one of numba's arrays."""
    return builder.extract_value(context.make_array(kind)(context, builder, array).shape, 1)


def _emit_forward(
    lanes: Lanes, inputs: int, classes: int, form: KernelForm, traced: bool, grouped: bool,
    stored: bool, data: list[Any], width: Any, padded: Any, units: Any, samples_there: Any,
) -> None:  # fmt: skip
    weights, bias, samples, one_hot, hidden, delta, sums, gamma = data
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
        with lanes.loop(lanes.index(0), units, 1) as unit:
            into = [lanes.spread(weights, row(i, width, unit)) for i in range(inputs)]
            offset = lanes.spread(weights, row(inputs, width, unit))
            out = [lanes.spread(weights, row(inputs + 1 + c, width, unit)) for c in range(classes)]
            for v in range(vectors):
                active = _activation(lanes, x[v], into, offset)
                if stored:
                    lanes.store(active, hidden, builder.add(builder.mul(unit, padded), columns[v]))
                for c in range(classes):
                    outputs[v][c].set(lanes.fma(active, out[c], outputs[v][c].get()))
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

    begin = lanes.index(0)
    for vectors in _VECTORS:
        size = vectors * lanes.count
        left = builder.sub(padded, begin)
        end = builder.sub(padded, builder.srem(left, lanes.index(size)))
        with lanes.loop(begin, end, size) as first:
            tile(vectors, first)
        begin = end
    for c, total in enumerate(totals):
        lanes.store(total.get(), sums, lanes.index(c * lanes.count))


def _activation(lanes: Lanes, x: list[Any], into: list[Any], offset: Any) -> Any:
    """The activation of a hidden unit with some input weights and a bias."""
    for value, weight in zip(x, into, strict=True):
        offset = lanes.fma(value, weight, offset)
    return lanes.relu(offset)


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


def backward_pass(inputs: int, classes: int, *, stored: bool) -> Any:
    """The backward pass as a numba intrinsic; it fills `gradients` with sums per lane. Where the
    activations are not stored it computes them again."""

    @intrinsic
    def backward(
        typingctx: Any, weights: Any, samples: Any, hidden: Any, delta: Any, gradients: Any,
        units: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(weights, samples, hidden, delta, gradients, units)

        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            lanes = Lanes(builder, weights.dtype)
            data = _data(context, builder, sig.args[:5], arguments[:5])
            width, padded = (_columns(context, builder, sig.args[k], arguments[k]) for k in (0, 1))
            _emit_backward(lanes, inputs, classes, stored, data, width, padded, arguments[5])
            return context.get_dummy_value()

        return signature, emit

    return backward


def _emit_backward(
    lanes: Lanes, inputs: int, classes: int, stored: bool, data: list[Any],
    width: Any, padded: Any, units: Any,
) -> None:  # fmt: skip
    weights, samples, hidden, delta, gradients = data
    builder = lanes.builder
    rows = inputs + 1 + classes

    def row(k: int, stride: Any, column: Any) -> Any:
        return builder.add(builder.mul(lanes.index(k), stride), column)

    with lanes.loop(lanes.index(0), units, UNITS) as first:
        tile = [builder.add(first, lanes.index(u)) for u in range(UNITS)]
        parameters = [
            [lanes.spread(weights, row(k, width, unit)) for k in range(rows)] for unit in tile
        ]
        totals = [[lanes.variable(lanes.constant(0.0)) for _ in range(rows)] for _ in tile]
        with lanes.loop(lanes.index(0), padded, lanes.count) as at:
            x = [lanes.load(samples, row(i, padded, at)) for i in range(inputs)]
            d = [lanes.load(delta, row(c, padded, at)) for c in range(classes)]
            for unit, weights_of, total in zip(tile, parameters, totals, strict=True):
                into, (offset, *out) = weights_of[:inputs], weights_of[inputs:]
                if stored:
                    active = lanes.load(hidden, builder.add(builder.mul(unit, padded), at))
                else:
                    active = _activation(lanes, x, into, offset)
                back = lanes.mul(d[0], out[0])
                for c in range(1, classes):
                    back = lanes.fma(d[c], out[c], back)
                back = lanes.where_positive(active, back)
                for i in range(inputs):
                    total[i].set(lanes.fma(back, x[i], total[i].get()))
                total[inputs].set(lanes.add(total[inputs].get(), back))
                for c in range(classes):
                    k = inputs + 1 + c
                    total[k].set(lanes.fma(active, d[c], total[k].get()))
        for unit, total in zip(tile, totals, strict=True):
            for k in range(rows):
                lanes.store(total[k].get(), gradients, _of_row(lanes, unit, k, rows))


def _of_row(lanes: Lanes, unit: Any, k: int, rows: int) -> Any:
    """Where the sums of row k of a unit begin in `gradients`."""
    place = lanes.builder.add(lanes.builder.mul(unit, lanes.index(rows)), lanes.index(k))
    return lanes.builder.mul(place, lanes.index(lanes.count))


def update_pass(inputs: int, classes: int) -> Any:
    """The update of the hidden units as a numba intrinsic: it adds up the lanes of `gradients`, and
    moves velocity and weights."""

    @intrinsic
    def update(
        typingctx: Any, weights: Any, velocity: Any, gradients: Any,
        rate: Any, momentum: Any, weight_decay: Any, look_ahead: Any, nesterov: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(
            weights, velocity, gradients, rate, momentum, weight_decay, look_ahead, nesterov
        )

        def emit(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            lanes = Lanes(builder, weights.dtype)
            data = _data(context, builder, sig.args[:3], arguments[:3])
            width = _columns(context, builder, sig.args[0], arguments[0])
            scalars = [
                lanes.splat(context.cast(builder, arguments[k], sig.args[k], weights.dtype))
                for k in range(3, 7)
            ]
            _emit_update(lanes, inputs + 1 + classes, data, width, scalars, arguments[7])
            return context.get_dummy_value()

        return signature, emit

    return update


def _emit_update(
    lanes: Lanes, rows: int, data: list[Any], width: Any, scalars: list[Any], nesterov: Any
) -> None:
    weights, velocity, gradients = data
    rate, momentum, weight_decay, look_ahead = scalars
    builder = lanes.builder
    fresh = builder.select(nesterov, lanes.constant(1.0), lanes.constant(0.0))
    carried = builder.select(nesterov, look_ahead, lanes.constant(1.0))
    with lanes.loop(lanes.index(0), width, lanes.count) as first:
        for k in range(rows):
            of_units = [
                lanes.load(gradients, _of_row(lanes, builder.add(first, lanes.index(u)), k, rows))
                for u in range(lanes.count)
            ]
            at = builder.add(builder.mul(lanes.index(k), width), first)
            parameter = lanes.load(weights, at)
            gradient = lanes.fma(weight_decay, parameter, lanes.row_sums(of_units))
            speed = lanes.fma(momentum, lanes.load(velocity, at), gradient)
            lanes.store(speed, velocity, at)
            move = lanes.fma(carried, speed, lanes.mul(fresh, gradient))
            step = lanes.sub(lanes.constant(0.0), rate)
            lanes.store(lanes.fma(step, move, parameter), weights, at)
