"""What the emitted vectors compute, against NumPy."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numba.core import types
from numba.extending import intrinsic

from dynloss_core.compute.simd import Lanes, array_data, lane_count


@intrinsic
def row_sums(typingctx: Any, rows: Any, sums: Any) -> Any:
    """The sums of the rows of a square array of lanes."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = Lanes(builder, rows.dtype)
        source, target = (
            array_data(context, builder, kind, array)
            for kind, array in zip(signature.args, arguments, strict=True)
        )
        loaded = [lanes.load(source, lanes.index(row * lanes.count)) for row in range(lanes.count)]
        lanes.store(lanes.row_sums(loaded), target, lanes.index(0))
        return context.get_dummy_value()

    return types.void(rows, sums), emit


@numba.njit
def fill(rows: Any, sums: Any) -> None:
    row_sums(rows, sums)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_sums_are_in_the_order_of_the_rows(dtype: type) -> None:
    lanes = lane_count(np.dtype(dtype).itemsize)
    rows = np.random.default_rng(0).integers(-1000, 1000, (lanes, lanes)).astype(dtype)
    sums = np.empty(lanes, dtype)
    fill(rows, sums)
    np.testing.assert_array_equal(sums, rows.sum(axis=1))  # whole numbers: exact in any order
