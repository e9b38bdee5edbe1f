"""Random start vectors for measurements: one stream, with one place for each purpose.

Symbols
    P      parameters
    n      vectors
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from dynloss_core.seeding import Stream, generator

__all__ = ["Purpose", "rademacher", "start_vectors"]


class Purpose(IntEnum):
    """What a probe is for. The numbers are part of the format: never renumber them."""

    HESSIAN_START = 0
    NTK_START = 1
    TRACE = 2
    DENSITY = 3
    BREAKDOWN = 4
    SUBSET = 5


def start_vectors(
    dimension: int, seeds: Sequence[int], purpose: Purpose = Purpose.HESSIAN_START
) -> Tensor:
    """One normal vector of length 1 for each seed, (len(seeds), P) in float64.

    A vector depends on its seed and the purpose alone, so members do not affect one another.
    """
    distinct = {seed: _normal(dimension, seed, purpose) for seed in set(seeds)}
    rows = np.stack([distinct[seed] for seed in seeds])
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def rademacher(dimension: int, count: int, seed: int, purpose: Purpose) -> Tensor:
    """Independent vectors of signs, (n, P) in float64; the first ones do not depend on `count`."""
    draws = generator(seed, Stream.PROBES, int(purpose))
    bits = draws.integers(0, 2, size=(count, dimension), dtype=np.int8)
    return torch.from_numpy(2.0 * bits - 1.0)


def _normal(dimension: int, seed: int, purpose: Purpose) -> np.ndarray:
    return generator(seed, Stream.PROBES, int(purpose)).standard_normal(dimension)
