"""The two products with the activation pattern that make up `curvature_kernel`, in registers.

Symbols as in `curvature_kernel`; K channels, `lanes` values in a vector.

    spread    Phi: vectors of samples; a loop over units adds up the channels
    gather    its transpose: vectors of units; a loop over samples adds up K (D + 1) sums

Both recompute whether a unit is on: D multiplications are cheaper than reading it from memory.
Padded units have zero parameters and are never on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import intrinsic

from dynloss_core.compute.simd import Lanes, array_data

__all__ = ["gather_pass", "spread_pass"]

_SPREAD_TILE = 3  # vectors of samples at once
_GATHER_TILE = 2  # vectors of units at once


def spread_pass(inputs: int, channels: int) -> Any:
    """Phi as a numba intrinsic: (weights, samples, units (K (D + 1), S), values (K, N))."""
    return _pass(inputs, channels, _emit_spread)


def gather_pass(inputs: int, channels: int) -> Any:
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
                # additions and fused multiply-adds run side by side, so sums use them in turn
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
    """Cover a length, a whole number of vectors, by tiles, and the remainder by single vectors."""
    builder = lanes.builder
    step = vectors * lanes.count
    whole = builder.mul(builder.sdiv(length, lanes.index(step)), lanes.index(step))
    with lanes.loop(lanes.index(0), whole, step) as first:
        tile(vectors, first)
    with lanes.loop(whole, length, lanes.count) as first:
        tile(1, first)
