"""Vectors of lanes in LLVM for the fused kernels: sixteen floats or eight doubles.

Numba's loops leave it to LLVM to vectorise; here the vectors are explicit. A kernel is emitted for
its sizes, straight into the machine code of the numba function around it, and every value named in
it is a register.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

__all__ = ["Lanes", "lane_count"]

_REGISTER_BYTES = 64
_TAYLOR_DEGREE = {4: 7, 8: 13}  # exp(r), |r| <= ln(2)/2, to the last bit of the type
_MIN_EXPONENT = {4: -87.0, 8: -708.0}
_MANTISSA_BITS = {4: 23, 8: 52}
_EXPONENT_BIAS = {4: 127, 8: 1023}
_ATANH_TERMS = {4: 5, 8: 11}  # atanh(s), |s| <= 3 - sqrt(8), to the last bit of the type


def lane_count(element_bytes: int) -> int:
    """Values in one vector: 16 floats, 8 doubles."""
    return _REGISTER_BYTES // element_bytes


class Lanes:
    """Emits vector instructions at the current position of a builder.

    Args:
        builder: llvmlite's instruction builder.
        element: numba's float32 or float64.
    """

    def __init__(self, builder: Any, element: Any) -> None:
        self.builder = builder
        self.bytes = element.bitwidth // 8
        self.count = lane_count(self.bytes)
        self.element = ir.FloatType() if self.bytes == 4 else ir.DoubleType()
        self.vector = ir.VectorType(self.element, self.count)
        self._int = ir.VectorType(ir.IntType(element.bitwidth), self.count)
        self._suffix = f"v{self.count}f{element.bitwidth}"

    def constant(self, value: float) -> Any:
        """The same number in every lane."""
        return ir.Constant(self.vector, [value] * self.count)

    def index(self, value: int) -> Any:
        """A constant index."""
        return ir.Constant(ir.IntType(64), value)

    def load(self, pointer: Any, index: Any) -> Any:
        """Load consecutive values, starting at `pointer[index]`."""
        return self.builder.load(self._at(pointer, index), align=self.bytes)

    def store(self, vector: Any, pointer: Any, index: Any) -> None:
        """Store the lanes, starting at `pointer[index]`."""
        self.builder.store(vector, self._at(pointer, index), align=self.bytes)

    def spread(self, pointer: Any, index: Any) -> Any:
        """The single value `pointer[index]` in every lane."""
        return self.splat(self.builder.load(self.builder.gep(pointer, [index])))

    def splat(self, scalar: Any) -> Any:
        """A scalar in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.count), [0] * self.count)
        return self.builder.shuffle_vector(one, undefined, mask)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once."""
        return self._call("fma", a, b, c)

    def add(self, a: Any, b: Any) -> Any:
        """a + b."""
        return self.builder.fadd(a, b)

    def sub(self, a: Any, b: Any) -> Any:
        """a - b."""
        return self.builder.fsub(a, b)

    def mul(self, a: Any, b: Any) -> Any:
        """a * b."""
        return self.builder.fmul(a, b)

    def div(self, a: Any, b: Any) -> Any:
        """a / b."""
        return self.builder.fdiv(a, b)

    def relu(self, a: Any) -> Any:
        """max(a, 0)."""
        return self.where_positive(a, a)

    def where_positive(self, test: Any, value: Any) -> Any:
        """`value` where `test` > 0, else 0."""
        return self.where(">", test, self.constant(0.0), value)

    def where(self, comparison: str, a: Any, b: Any, value: Any) -> Any:
        """`value` where the comparison of `a` with `b` holds, else 0; 0 where either is NaN."""
        test = self.builder.fcmp_ordered(comparison, a, b)
        return self.builder.select(test, value, self.constant(0.0))

    def maximum(self, a: Any, b: Any) -> Any:
        """The larger of each pair; NaN propagates, so that divergence shows."""
        return self.builder.select(self.builder.fcmp_unordered(">", a, b), a, b)

    def row_sums(self, rows: Sequence[Any]) -> Any:
        """The sum of the lanes of each of as many vectors as there are lanes, in their order: in
        each round the sums of neighbours from two vectors fill one."""
        while len(rows) > 1:
            rows = [self._pair_sums(*rows[k : k + 2]) for k in range(0, len(rows), 2)]
        return rows[0]

    def _pair_sums(self, a: Any, b: Any) -> Any:
        """Sums of neighbouring lanes: those of `a`, then those of `b`."""
        places = ir.VectorType(ir.IntType(32), self.count)
        even, odd = (
            self.builder.shuffle_vector(
                a, b, ir.Constant(places, list(range(start, 2 * self.count, 2)))
            )
            for start in (0, 1)
        )
        return self.add(even, odd)

    def exp(self, x: Any) -> Any:
        """exp(x) for x <= 0: x = k ln 2 + r, Taylor's series for exp(r), 2^k from its bits."""
        builder = self.builder
        lowest = self.constant(_MIN_EXPONENT[self.bytes])
        x = builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)
        k = self._call("nearbyint", self.mul(x, self.constant(1 / math.log(2))))
        high = 0.693359375 if self.bytes == 4 else 0.6931471803691238  # few bits: k * high is exact
        low = math.log(2) - high if self.bytes == 4 else 1.9082149292705877e-10
        r = self.fma(k, self.constant(-high), x)
        r = self.fma(k, self.constant(-low), r)
        degree = _TAYLOR_DEGREE[self.bytes]
        series = self.constant(1 / math.factorial(degree))
        for power in range(degree - 1, -1, -1):
            series = self.fma(series, r, self.constant(1 / math.factorial(power)))
        exponent = builder.add(
            builder.fptosi(k, self._int), self._whole(_EXPONENT_BIAS[self.bytes])
        )
        bits = builder.shl(exponent, self._whole(_MANTISSA_BITS[self.bytes]))
        return self.mul(series, builder.bitcast(bits, self.vector))

    def log(self, x: Any) -> Any:
        """log(x) for normal x > 0: x = 2^k m with m in [sqrt(1/2), sqrt(2)), and log(m) =
        2 atanh((m - 1) / (m + 1)); NaN where x is infinite or NaN."""
        builder = self.builder
        mantissa, bias = _MANTISSA_BITS[self.bytes], _EXPONENT_BIAS[self.bytes]
        # adding 1 - sqrt(1/2) to the bits carries into the exponent where m >= sqrt(2)
        pattern = _bits_of(1.0, self.bytes) - _bits_of(math.sqrt(0.5), self.bytes)
        bits = builder.bitcast(x, self._int)
        carried = builder.add(bits, self._whole(pattern))
        k = builder.sub(builder.ashr(carried, self._whole(mantissa)), self._whole(bias))
        m = builder.bitcast(builder.sub(bits, builder.shl(k, self._whole(mantissa))), self.vector)
        s = self.div(self.sub(m, self.constant(1.0)), self.add(m, self.constant(1.0)))
        square = self.mul(s, s)
        terms = _ATANH_TERMS[self.bytes]
        series = self.constant(2 / (2 * terms - 1))
        for term in range(terms - 2, -1, -1):
            series = self.fma(series, square, self.constant(2 / (2 * term + 1)))
        result = self.fma(
            builder.sitofp(k, self.vector), self.constant(math.log(2)), self.mul(series, s)
        )
        return self.add(result, self.mul(self.sub(x, x), x))  # infinite or NaN stays NaN

    def _whole(self, value: int) -> Any:
        """The same integer in every lane."""
        return ir.Constant(self._int, [value] * self.count)

    def variable(self, initial: Any) -> Variable:
        """A register that a loop can change."""
        return Variable(self.builder, initial)

    @contextmanager
    def loop(self, start: Any, stop: Any, step: int) -> Iterator[Any]:
        """A loop over indices; yields the index."""
        builder = self.builder
        with cgutils.for_range_slice(
            builder, start, stop, self.index(step), intp=ir.IntType(64)
        ) as (index, _):
            yield index

    def _at(self, pointer: Any, index: Any) -> Any:
        place = self.builder.gep(pointer, [index])
        return self.builder.bitcast(place, self.vector.as_pointer())

    def _call(self, name: str, *arguments: Sequence[Any]) -> Any:
        signature = ir.FunctionType(self.vector, [self.vector] * len(arguments))
        function = cgutils.get_or_insert_function(
            self.builder.module, signature, f"llvm.{name}.{self._suffix}"
        )
        return self.builder.call(function, arguments)


def _bits_of(value: float, size: int) -> int:
    """The bit pattern of a number as an integer."""
    return int.from_bytes(struct.pack("<f" if size == 4 else "<d", value), "little")


class Variable:
    """A vector that changes from one iteration of a loop to the next."""

    def __init__(self, builder: Any, initial: Any) -> None:
        self._builder = builder
        self._place = cgutils.alloca_once(builder, initial.type)
        self.set(initial)

    def get(self) -> Any:
        """Read the value at this point."""
        return self._builder.load(self._place)

    def set(self, value: Any) -> None:
        """Set the value from here on."""
        self._builder.store(value, self._place)


def array_data(context: Any, builder: Any, kind: types.Array, value: Any) -> Any:
    """Pointer to the first element of a numba array."""
    return context.make_array(kind)(context, builder, value).data
