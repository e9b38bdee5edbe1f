"""One seed, independent streams.

A member's seed feeds independent streams: data, initialisation, batch order, probes, augmentation,
dropout and oscillation. The two arms of a pair share the seed, hence all streams; changing what one
stream draws leaves the others as they were. Draws come from NumPy's generators, whose streams do
not change with the torch version, the device or the dtype. Only dropout differs: it takes just the
seeds of its masks from there.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Stream", "generator"]


class Stream(IntEnum):
    """What a random draw is for. The numbers are part of the format: never renumber them."""

    DATA = 0
    INITIALISATION = 1
    BATCH_ORDER = 2
    PROBES = 3
    AUGMENTATION = 4
    DROPOUT = 5
    OSCILLATION = 6


def generator(seed: int, stream: Stream, *index: int) -> np.random.Generator:
    """A fresh generator for one stream of one seed.

    Args:
        seed: the member's seed, >= 0.
        stream: what the draws are for.
        index: further coordinates, such as the epoch whose batch order is drawn.
    """
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(int(stream), *index))
    return np.random.default_rng(sequence)
