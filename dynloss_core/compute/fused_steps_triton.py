"""Training steps of many members on a CUDA GPU: one hidden layer, full batch, one program per
member.

The file is long because a step is compiled as a whole, with each piece inlined into it.

Symbols
    M      members
    K      active members, which are trained
    D      inputs
    W      hidden units
    C      classes
    R      rows of scratch per sample: C gradients and, with a trace, C losses and, with groups, the
           weighted loss; rounded up to a power of two
    G      groups of samples, where groups have the weights; else C
    N      samples
    S      data sets: M, or 1 that all members share
    n      steps per launch

The parameters of hidden unit w are column w of one array (D + 1 + C, W): D input weights, the bias,
C output weights. A program does all n steps of its member. A step has two passes, and in both the
sums live in registers:

    forward   lanes are samples; a loop over hidden units adds up the outputs, which become
              gradients of the loss with respect to them, and are stored in `scratch`
    backward  lanes are hidden units; a loop over samples recomputes the unit, adds up its
              gradients, and then the unit is updated

A loop reads the items that it runs over as scalars shared by all lanes, so no sum crosses lanes but
the number of correct answers: units and samples are added up in order, by explicit fused
multiply-adds, however many lanes and warps there are. A member's result is therefore the same, bit
for bit, on every repetition, with any other members and for any block size, and no network is too
large for the registers. The passes exchange some ten kilobytes per member through the first-level
cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dynloss_core.losses import LossName, kernel_form

__all__ = ["launch_plan", "train_steps"]

_WARP = 32
_MAX_WARPS = 8
_WARPS_A_PROCESSOR = 16  # enough to hide the latency of the cache
_UNROLL = tl.constexpr(4)  # iterations whose scalars are loaded together


def train_steps(
    weights: Tensor, velocity: Tensor, bias: Tensor, bias_velocity: Tensor,
    samples: Tensor, one_hot: Tensor, class_weights: Tensor, rates: Tensor,
    momentum: Tensor, weight_decay: Tensor, active: Tensor,
    *, count: int, loss: LossName, nesterov: bool,
    class_losses: Tensor | None = None, correct: Tensor | None = None,
    groups: Tensor | None = None, weighted: Tensor | None = None,
) -> None:  # fmt: skip
    """Train the active members for n steps, in place, by the rule of `torch.optim.SGD`.

    All tensors are contiguous and on one device; all but `active` and `correct` have one dtype,
    float32 or float64.

    Args:
        weights, velocity: (M, D + 1 + C, W) parameters of the hidden units; momentum buffers.
        bias, bias_velocity: (M, C) output biases; momentum buffers.
        samples, one_hot: (S, D, N) inputs, (S, C, N) one-hot targets.
        class_weights, rates: (n, M, G), and (n, M) learning rates.
        momentum, weight_decay: (M,).
        active: (K,) int64, distinct members in [0, M); unchecked, because reading them would wait
            for the device. All other members stay untouched.
        count: N.
        loss: which dynamical loss.
        nesterov: Nesterov's momentum instead of the classical one.
        class_losses: (n, M, C), filled for active members with the contribution of each class to
            the static loss before the update (see `losses.class_losses`); None: no trace.
        correct: (n, M), filled with the number of samples whose target has the largest output (of
            equal outputs the first); given together with `class_losses`.
        groups: (M, N) int64, the group that decides each sample's weight; unchecked. None: the
            class decides.
        weighted: (n, M), filled with F before the update; given with a trace and groups.

    Raises:
        ValueError: for a tensor of another shape, dtype, device or layout, or half a trace.
    """
    if (class_losses is None) != (correct is None):
        raise ValueError("a trace needs both class_losses and correct")
    if (weighted is None) != (class_losses is None or groups is None):
        raise ValueError("a trace of groups, and no other, needs weighted")
    if weights.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"weights must be float32 or float64, got {weights.dtype}")
    (members, _, width), steps, trained = weights.shape, len(rates), len(active)
    (sets, inputs, _), classes = samples.shape, bias.shape[-1]
    sets = 1 if sets == 1 else members
    unit, output = (members, inputs + 1 + classes, width), (members, classes)
    columns = classes if groups is None else class_weights.shape[-1]  # G
    for name, tensor, shape in (
        ("weights", weights, unit), ("velocity", velocity, unit),
        ("bias", bias, output), ("bias_velocity", bias_velocity, output),
        ("samples", samples, (sets, inputs, count)), ("one_hot", one_hot, (sets, classes, count)),
        ("class_weights", class_weights, (steps, members, columns)),
        ("rates", rates, (steps, members)),
        ("momentum", momentum, (members,)), ("weight_decay", weight_decay, (members,)),
        ("class_losses", class_losses, (steps, *output)), ("correct", correct, (steps, members)),
        ("active", active, (trained,)), ("groups", groups, (members, count)),
        ("weighted", weighted, (steps, members)),
    ):  # fmt: skip
        if tensor is not None:
            _check(name, tensor, shape, weights)
    form = kernel_form(loss)
    if steps == 0 or trained == 0:
        return
    processors = 1  # of Triton's interpreter, on the CPU
    if weights.is_cuda:
        processors = torch.cuda.get_device_properties(weights.device).multi_processor_count
    block_units, block_samples, warps = launch_plan(
        width, count, trained, weights.dtype, processors
    )
    seen = 0 if class_losses is None else classes + (groups is not None)
    scratch_rows = triton.next_power_of_2(classes + seen)
    scratch = weights.new_empty(trained, count, scratch_rows)
    with torch.cuda.device_of(weights):
        _train[(trained,)](
            weights, velocity, bias, bias_velocity, samples, one_hot, class_weights, rates,
            momentum, weight_decay, active, class_losses, correct, groups, weighted, scratch,
            steps, members, width, count, columns, inputs, classes, scratch_rows, sets == 1,
            form.softmax, form.by_output, nesterov, block_units, block_samples,
            num_warps=warps, enable_fp_fusion=False,  # no multiply-adds but the explicit ones
        )  # fmt: skip


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], weights: Tensor) -> None:
    """Refuse what the kernel would misread: it sees nothing but addresses."""
    dtypes = {"active": torch.int64, "groups": torch.int64, "correct": tensor.dtype}
    dtype = dtypes.get(name, weights.dtype)
    wanted, actual = (shape, dtype, weights.device), (tensor.shape, tensor.dtype, tensor.device)
    if wanted != actual or not tensor.is_contiguous():
        raise ValueError(
            f"{name} must be a contiguous {dtype} {shape} on {weights.device}, got {tensor.dtype} "
            f"{tuple(tensor.shape)} on {tensor.device} with strides {tensor.stride()}"
        )


def launch_plan(
    width: int, count: int, members: int, dtype: torch.dtype, processors: int
) -> tuple[int, int, int]:
    """How to divide a launch for so many hidden units, samples and active members.

    One warp per member, which never waits for another, if that fills the `processors` (streaming
    multiprocessors); else more, as long as there are hidden units for their lanes.

    Returns:
        Hidden units summed at once in a backward pass, samples summed at once in a forward pass,
        and warps per member: powers of two that affect the speed, never the result.
    """
    warps = 1
    most = min(_MAX_WARPS, _WARPS_A_PROCESSOR * processors // members)
    while 2 * warps <= most and warps * _WARP < width:
        warps *= 2
    units = 4 if dtype == torch.float32 else 2  # per lane; more would not fit the registers
    return _block(width, warps, units), _block(count, warps, 4), warps


def _block(size: int, warps: int, most: int) -> int:
    """The block that covers `size` with the least work, at up to `most` elements per lane.

    One more element per lane costs about as much as loading the scalars for all of them.
    """
    lanes = warps * _WARP
    work = {
        elements: -(-size // (lanes * elements)) * (elements + 1)
        for elements in (4, 2, 1)
        if elements <= most
    }
    return lanes * min(work, key=lambda elements: work[elements])


@triton.jit(do_not_specialize=["steps", "members", "width", "count", "columns"])
def _train(
    weights, velocity, bias, bias_velocity, samples, one_hot, class_weights, rates, momentum,
    weight_decay, active, class_losses, correct, groups, weighted, scratch, steps, members, width,
    count, columns,
    inputs: tl.constexpr, classes: tl.constexpr, scratch_rows: tl.constexpr, shared: tl.constexpr,
    softmax: tl.constexpr, by_output: tl.constexpr, nesterov: tl.constexpr,
    block_units: tl.constexpr, block_samples: tl.constexpr,
):  # fmt: skip
    """All steps of one member; pointers are to arrays of all members, `scratch` is (K, N, R)."""
    program = tl.program_id(0).to(tl.int64)  # offsets of thousands of members exceed 32 bits
    member = tl.load(active + program)
    weights += member * (inputs + 1 + classes) * width
    velocity += member * (inputs + 1 + classes) * width
    bias += member * classes
    bias_velocity += member * classes
    if not shared:
        samples += member * inputs * count
        one_hot += member * classes * count
    if groups is not None:
        groups += member * count
    scratch += program * count * scratch_rows
    friction = tl.load(momentum + member)
    decay = tl.load(weight_decay + member)
    share = _divide(1.0, tl.cast(count, friction.dtype))  # of a sample's loss in the mean
    if not softmax:
        share = _divide(share, tl.cast(classes, share.dtype))
    row = tl.arange(0, scratch_rows)
    moment = member  # in arrays (n, M)
    for _ in range(steps):
        rate = tl.load(rates + moment)
        right = _forward(
            weights, bias, samples, one_hot, class_weights + moment * columns, groups, scratch,
            width, count, share, inputs, classes, scratch_rows, class_losses is not None, softmax,
            by_output, block_samples,
        )  # fmt: skip
        tl.debug_barrier()  # scratch is complete
        total = tl.load(scratch + row)  # (R,)
        for sample in tl.range(1, count, loop_unroll_factor=_UNROLL):
            total += tl.load(scratch + sample * scratch_rows + row)
        if class_losses is not None:
            of_class = class_losses + moment * classes + row - classes
            tl.store(of_class, total * share, mask=(row >= classes) & (row < 2 * classes))
            tl.store(correct + moment, right)
            if groups is not None:
                whole = weighted + moment + row - 2 * classes
                tl.store(whole, total * share, mask=row == 2 * classes)
        mask = row < classes
        _descend(bias + row, bias_velocity + row, mask, total, rate, friction, decay, nesterov)
        _backward(
            weights, velocity, samples, scratch, width, count, rate, friction, decay,
            inputs, classes, scratch_rows, nesterov, block_units,
        )  # fmt: skip
        tl.debug_barrier()  # the parameters are complete, and scratch is used up
        moment += members


@triton.jit
def _forward(
    weights, bias, samples, one_hot, class_weights, groups, scratch, width, count, share,
    inputs: tl.constexpr, classes: tl.constexpr, scratch_rows: tl.constexpr, traced: tl.constexpr,
    softmax: tl.constexpr, by_output: tl.constexpr, block_samples: tl.constexpr,
):  # fmt: skip
    """Fill `scratch`; return the number of correct answers, if traced."""
    weight = ()
    if groups is None:
        weight = _rows(class_weights, 1, classes, True)
    offset = _rows(bias, 1, classes, True)
    right = tl.zeros((block_samples,), share.dtype)
    for first in range(0, count, block_samples):
        sample = first + tl.arange(0, block_samples)
        mask = sample < count
        x = _rows(samples + sample, count, inputs, mask)
        z = [row + tl.zeros((block_samples,), share.dtype) for row in offset]
        for unit in tl.range(0, width, loop_unroll_factor=_UNROLL):
            parameters = _rows(weights + unit, width, inputs + 1 + classes, True)
            before = parameters[inputs]
            for i in tl.static_range(inputs):
                before = tl.fma(x[i], parameters[i], before)
            hidden = tl.where(before <= 0, 0.0, before)  # keeps NaN
            sums = ()
            for c in tl.static_range(classes):
                sums += (tl.fma(hidden, parameters[inputs + 1 + c], z[c]),)
            z = sums
        target = _rows(one_hot + sample, count, classes, mask)
        own = target[0]
        if groups is not None:
            group = tl.load(groups + sample, mask=mask, other=0)
            own = tl.load(class_weights + group, mask=mask, other=0.0)
        gradients, losses, whole = _output_gradient(
            z, target, weight, own, share, classes, softmax, by_output, groups is not None
        )
        for c in tl.static_range(classes):
            tl.store(scratch + sample * scratch_rows + c, gradients[c], mask=mask)
            if traced:
                tl.store(scratch + sample * scratch_rows + classes + c, losses[c], mask=mask)
        if traced and groups is not None:
            tl.store(scratch + sample * scratch_rows + 2 * classes, whole * own, mask=mask)
        if traced:
            right += _correct(z, target, classes)  # 0 for padding: it has no target
    return tl.sum(right)  # whole numbers: exact in any order


@triton.jit
def _output_gradient(
    z, target, weight, own, share, classes: tl.constexpr, softmax: tl.constexpr,
    by_output: tl.constexpr, grouped: tl.constexpr,
):  # fmt: skip
    """The gradient with respect to the outputs, as in `losses.output_gradient`, and the loss of
    each sample under the class it counts for, as in `losses.class_losses`, as tuples of C; then the
    loss of each sample. If grouped, samples have weights of their own."""
    of_sample = tl.zeros_like(z[0])  # the class weight
    total = tl.zeros_like(z[0])  # the loss
    predicted = z
    if softmax:
        largest = z[0]
        for c in tl.static_range(1, classes):
            largest = tl.maximum(largest, z[c])
        powers = [tl.exp(logit - largest) for logit in z]
        norm = tl.zeros_like(z[0])
        for c in tl.static_range(classes):
            norm += powers[c]
            total = tl.fma(target[c], largest - z[c], total)
        total += tl.log(norm)
        scale = _divide(1.0, norm)
        predicted = [power * scale for power in powers]
    else:
        share = 2.0 * share
        for c in tl.static_range(classes):
            total = tl.fma(z[c] - target[c], z[c] - target[c], total)
    if grouped:
        of_sample = own * share
    else:
        for c in tl.static_range(classes):
            of_sample = tl.fma(target[c], weight[c] * share, of_sample)
    gradients = ()
    losses = ()
    for c in tl.static_range(classes):
        error = predicted[c] - target[c]
        if by_output:
            gradients += (error * (weight[c] * share),)
            losses += (error * error,)
        else:
            gradients += (error * of_sample,)
            losses += (target[c] * total,)
    return gradients, losses, total


@triton.jit
def _correct(z, target, classes: tl.constexpr):
    """1 where the target has the largest output (of equal outputs the first); else 0."""
    largest = z[0]
    right = target[0]
    for c in tl.static_range(1, classes):
        right = tl.where(z[c] > largest, target[c], right)
        largest = tl.maximum(largest, z[c])
    return right


@triton.jit
def _backward(
    weights, velocity, samples, scratch, width, count, rate, friction, decay,
    inputs: tl.constexpr, classes: tl.constexpr, scratch_rows: tl.constexpr,
    nesterov: tl.constexpr, block_units: tl.constexpr,
):  # fmt: skip
    """Update the hidden units, block by block."""
    for first in range(0, width, block_units):
        unit = first + tl.arange(0, block_units)
        mask = unit < width
        parameters = _rows(weights + unit, width, inputs + 1 + classes, mask)
        gradients = [tl.zeros_like(parameter) for parameter in parameters]
        for sample in tl.range(0, count, loop_unroll_factor=_UNROLL):
            x = _rows(samples + sample, count, inputs, True)
            d = _rows(scratch + sample * scratch_rows, 1, classes, True)
            before = parameters[inputs]
            for i in tl.static_range(inputs):
                before = tl.fma(x[i], parameters[i], before)
            closed = before <= 0  # False for NaN, which is kept
            hidden = tl.where(closed, 0.0, before)
            back = d[0] * parameters[inputs + 1]
            for c in tl.static_range(1, classes):
                back = tl.fma(d[c], parameters[inputs + 1 + c], back)
            back = tl.where(closed, 0.0, back)
            sums = ()
            for i in tl.static_range(inputs):
                sums += (tl.fma(back, x[i], gradients[i]),)
            sums += (gradients[inputs] + back,)
            for c in tl.static_range(classes):
                sums += (tl.fma(d[c], hidden, gradients[inputs + 1 + c]),)
            gradients = sums
        for k in tl.static_range(inputs + 1 + classes):
            at = k * width + unit
            _descend(
                weights + at, velocity + at, mask, gradients[k], rate, friction, decay, nesterov
            )


@triton.jit
def _descend(parameter, velocity, mask, gradient, rate, friction, decay, nesterov: tl.constexpr):
    """One update of the parameters under the pointers."""
    value = tl.load(parameter, mask=mask, other=0.0)
    gradient = tl.fma(decay, value, gradient)
    speed = tl.fma(friction, tl.load(velocity, mask=mask, other=0.0), gradient)
    tl.store(velocity, speed, mask=mask)
    move = tl.fma(friction, speed, gradient) if nesterov else speed
    tl.store(parameter, tl.fma(-rate, move, value), mask=mask)


@triton.jit
def _rows(pointer, stride, rows: tl.constexpr, mask):
    """The values under the pointers in several rows of an array, 0 where masked, as a tuple."""
    loaded = ()
    for k in tl.static_range(rows):
        loaded += (tl.load(pointer + k * stride, mask=mask, other=0.0),)
    return loaded


@triton.jit
def _divide(a, b):
    """a / b rounded to nearest; Triton's own division of float32 is not."""
    if b.dtype == tl.float32:
        return tl.div_rn(a, b)
    return a / b
