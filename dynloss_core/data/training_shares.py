"""Classes of unequal size: the share of its samples that each keeps in the training set.

Validation and test sets keep theirs, so that accuracy weighs classes as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dynloss_core.config import ConfigError
from dynloss_core.data.splits import Labelled
from dynloss_core.seeding import Stream, generator

__all__ = ["check_training_shares", "kept_of_each", "with_shares"]

_PART = 8  # of the stream of data: others draw splits and label noise


def check_training_shares(shares: Sequence[float], num_classes: int) -> None:
    """Refuse shares that are not one for each class, in (0, 1]; none is allowed.

    Raises:
        ConfigError: naming the key.
    """
    if shares and len(shares) != num_classes:
        problem = f"{len(shares)} shares for {num_classes} classes"
        raise ConfigError("training_shares", problem, "give one for each class, or none")
    for share in shares:
        if not 0 < share <= 1:
            raise ConfigError("training_shares", f"{share} is not a fraction", "use (0, 1]")


def kept_of_each(shares: Sequence[float], samples: int) -> list[int]:
    """Samples that each class keeps, at least one, where each has an equal part of `samples`: its
    share of that, rounded down."""
    return [max(1, int(share * samples / len(shares) + 1e-9)) for share in shares]


def with_shares(train: Labelled, kept: Sequence[int], seed: int) -> Labelled:
    """A training set with so many samples of each class, in the order that they had.

    Args:
        train: the set.
        kept: number of samples of each class; no more than it has.
        seed: the seed that chooses them. A larger number keeps the same ones, and more.
    """
    draws = generator(seed, Stream.DATA, _PART)
    order = torch.from_numpy(draws.permutation(len(train)))
    chosen = [order[train.targets[order] == label][:most] for label, most in enumerate(kept)]
    return train.at(torch.cat(chosen).sort().values)
