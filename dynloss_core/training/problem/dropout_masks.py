"""Dropout masks as a pure function of seed and step: a resumed run uses the masks that it would
have used anyway, and both arms of a pair, and all engines on one device, use the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dynloss_core.seeding import Stream, generator

__all__ = ["dropout_noise", "dropout_seed"]

_SEEDS = 2**63  # of torch's generators


@contextmanager
def dropout_noise(draws: bool, seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Set torch's random state to that of one step of one seed inside the block, if the network
    draws at all; restore it afterwards."""
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
