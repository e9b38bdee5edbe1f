"""Dropout's masks as a pure function of seed and step: a resumed run drops what it would have
dropped, both arms of a pair drop the same, and so do all engines on one device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dynloss_core.models import WideResNetConfig
from dynloss_core.seeding import Stream, generator
from dynloss_core.training.problem import Problem

__all__ = ["dropout_noise", "has_dropout"]

_SEEDS = 2**63  # of torch's generators


def has_dropout(problem: Problem) -> bool:
    """Whether training steps draw random numbers."""
    return isinstance(problem.model, WideResNetConfig) and problem.model.dropout > 0


@contextmanager
def dropout_noise(problem: Problem, seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Inside it torch's random state is that of one step of one seed; outside it is untouched."""
    if not has_dropout(problem):
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(generator(seed, Stream.DROPOUT, step).integers(_SEEDS)))
        yield
