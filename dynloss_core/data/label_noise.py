"""Label noise: a share of the training labels redrawn at random, as in C. Zhang et al.,
"Understanding deep learning requires rethinking generalization", ICLR 2017, arXiv:1611.03530.

A redrawn label may be the old one: of C classes, a share s of redrawn labels makes s (C - 1) / C
wrong ones in expectation. Validation and test sets keep their labels.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from dynloss_core.config import ConfigError
from dynloss_core.data.splits import Labelled
from dynloss_core.seeding import Stream, generator

__all__ = ["check_label_noise", "with_label_noise"]

_PART = 7  # of the stream of data: others draw splits


def check_label_noise(share: float) -> None:
    """Refuse what is no share."""
    if not 0 <= share <= 1:
        raise ConfigError("label_noise", f"{share} is not a share", "use a number from 0 to 1")


def with_label_noise(train: Labelled, share: float, num_classes: int, seed: int) -> Labelled:
    """A training set with some of its labels redrawn, uniformly over the classes.

    Args:
        train: the set.
        share: of the labels that are redrawn, rounded to whole samples.
        num_classes: C.
        seed: the seed that chooses and draws them. A larger share redraws the same ones, and more.
    """
    count = round(share * len(train))
    if not count:
        return train
    draws = generator(seed, Stream.DATA, _PART)
    chosen = torch.from_numpy(draws.permutation(len(train))[:count])
    labels = torch.from_numpy(draws.integers(num_classes, size=len(train)))
    targets = train.targets.clone()
    targets[chosen] = labels[chosen]
    return replace(train, targets=targets)
