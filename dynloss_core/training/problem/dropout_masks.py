"""Dropout masks as a pure function of seed and step: a resumed run drops what it would have dropped
anyway, and both arms of a pair, and all engines on one device, drop the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dynloss_core.seeding import Stream, generator

__all__ = ["dropout_noise", "dropout_seed"]

_SEEDS = 2**63  # of torch's generators


@contextmanager
def dropout_noise(draws: bool, seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Inside it torch's random state is that of one step of one seed, if the network draws at all;
    outside it is untouched."""
    if not draws:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(dropout_seed(seed, step))
        yield


def dropout_seed(seed: int, step: int) -> int:
    """The seed of torch's random state in one step of one seed."""
    return int(generator(seed, Stream.DROPOUT, step).integers(_SEEDS))
