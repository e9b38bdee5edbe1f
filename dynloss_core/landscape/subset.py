"""A subset of samples for measurements that are too expensive on the whole data set.

Symbols
    N      samples of the data set
    n      samples chosen
    C      classes
"""

from __future__ import annotations

import torch

from dynloss_core.data import Labelled
from dynloss_core.landscape.algorithms.random_vectors import Purpose
from dynloss_core.landscape.refusals import LandscapeError
from dynloss_core.seeding import Stream, generator

__all__ = ["balanced_subset"]

_SEED = 0  # one subset per data set: everything compared is measured on the same samples


def balanced_subset(data: Labelled, samples: int | None) -> Labelled:
    """A subset of the samples, with the classes as balanced as possible.

    It is drawn at random, because the first samples may all be of one class, or the middle of a
    spiral; the draw depends only on the number of samples of the data set. A larger subset contains
    the smaller ones. F on it estimates F on all of the data if the classes are equally large.

    Args:
        data: N samples.
        samples: n; None, or N or more, for all samples in their order.

    Raises:
        LandscapeError: for fewer than one sample.
    """
    if samples is not None and samples < 1:
        raise LandscapeError(f"a subset of {samples} samples", "use >= 1, or None for all")
    if samples is None or samples >= len(data):
        return data
    draws = generator(_SEED, Stream.PROBES, int(Purpose.SUBSET))
    order = torch.from_numpy(draws.permutation(len(data)))
    targets = data.targets.cpu()[order]
    turn = torch.zeros(len(data), dtype=torch.long)  # rank of each sample within its class
    for label in set(targets.tolist()):
        own = targets == label
        turn[own] = torch.arange(int(own.sum()))
    chosen = order[turn.argsort(stable=True)[:samples]].to(data.targets.device)
    return data.at(chosen)
