"""Training, validation and test sets, disjoint by construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynloss_core.config import ConfigError
from dynloss_core.seeding import Stream, generator

__all__ = [
    "Labelled",
    "PixelScale",
    "Splits",
    "attainable_accuracy",
    "check_seeds",
    "disjoint",
    "refuse_other_classes",
]


def check_seeds(split_seed: int, validation_seed: int | None) -> None:
    """Refuse seeds of a split that are negative."""
    for key, seed in (("split_seed", split_seed), ("validation_seed", validation_seed)):
        if seed is not None and seed < 0:
            raise ConfigError(key, f"{seed} is negative", "use >= 0")


@dataclass(frozen=True)
class PixelScale:
    """How the bytes of images become what a network sees: (pixel / 255 - mean) / deviation.

    Args:
        mean: the mean of each channel over the training set, in [0, 1].
        deviation: standard deviation of each channel, likewise.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """Images (N, channels, H, W) of bytes in another dtype, scaled."""
        shape = (1, -1, 1, 1)
        offset = torch.tensor(self.mean, dtype=dtype, device=pixels.device).view(shape)
        spread = torch.tensor(self.deviation, dtype=dtype, device=pixels.device).view(shape)
        return (pixels.to(dtype) / 255 - offset) / spread


@dataclass(frozen=True, eq=False)
class Labelled:
    """Samples and their classes.

    Args:
        inputs: (N, ...), what a network sees; or the bytes of images, with a `scale`.
        targets: (N,) class indices of any integer type; kept as int64.
        scale: the scale of the bytes; None if the inputs are what a network sees.
        groups: (N,) the group of each sample, whose weight is the sample's; None: its class. A
            data set may give groups of its own, for an oscillation over `own`.

    Raises:
        TypeError: for targets that are not integers.
        ValueError: if there are not as many targets, or groups, as inputs.
    """

    inputs: Tensor
    targets: Tensor
    scale: PixelScale | None = None
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        kind = self.targets.dtype
        if kind.is_floating_point or kind.is_complex or kind == torch.bool:
            raise TypeError(f"targets must be class indices of an integer type, got {kind}")
        object.__setattr__(self, "targets", self.targets.long())
        if self.targets.shape != self.inputs.shape[:1]:
            raise ValueError(
                f"expected targets ({self.inputs.shape[0]},), got {tuple(self.targets.shape)}"
            )
        if self.groups is not None and self.groups.shape != self.targets.shape:
            raise ValueError(
                f"expected groups {tuple(self.targets.shape)}, got {tuple(self.groups.shape)}"
            )

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Labelled:
        """The same samples as a network of this dtype sees them, on another device."""
        inputs = self.inputs.to(device)
        inputs = inputs.to(dtype) if self.scale is None else self.scale(inputs, dtype)
        groups = None if self.groups is None else self.groups.to(device)
        return Labelled(inputs, self.targets.to(device), groups=groups)

    def at(self, chosen: slice | Tensor) -> Labelled:
        """Some of the samples."""
        groups = None if self.groups is None else self.groups[chosen]
        return Labelled(self.inputs[chosen], self.targets[chosen], self.scale, groups)


@dataclass(frozen=True, eq=False)
class Splits:
    """What a network learns from, what chooses it, and what reports it.

    Training fits the parameters; validation chooses hyperparameters; test is looked at only to
    report a choice already made.

    Raises:
        ValueError: for a target that is not a class index from 0 to `num_classes` - 1.
    """

    train: Labelled
    validation: Labelled
    test: Labelled
    num_classes: int

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            refuse_other_classes(getattr(self, name), self.num_classes, f"the {name} set")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.inputs.shape[1:])

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Splits:
        """The same splits as a network of this dtype sees them, on another device."""
        return Splits(
            self.train.to(dtype, device),
            self.validation.to(dtype, device),
            self.test.to(dtype, device),
            self.num_classes,
        )


def refuse_other_classes(data: Labelled, num_classes: int, called: str) -> None:
    """Refuse targets outside 0 to `num_classes` - 1, which a one-hot code would make nothing of.

    Raises:
        ValueError: naming one of them.
    """
    others = data.targets[(data.targets < 0) | (data.targets >= num_classes)]
    if len(others):
        raise ValueError(
            f"{called} holds target {int(others[0])}, not a class index from 0 to {num_classes - 1}"
        )


def disjoint(labels: Tensor, sizes: Sequence[int], seed: int, part: int) -> list[Tensor]:
    """Indices of disjoint sets of `sizes`, each with the classes in the shares that `labels` have.

    Where the shares are not whole numbers, the largest remainders get the samples that are left.
    """
    order = torch.from_numpy(generator(seed, Stream.DATA, part).permutation(len(labels)))
    pools = [order[labels[order] == label] for label in torch.unique(labels)]
    chosen = []
    for size in sizes:
        there = np.array([len(pool) for pool in pools])
        count, remainder = np.divmod(size * there, there.sum())
        largest = np.argsort(-remainder, kind="stable")
        count[largest[: size - count.sum()]] += 1
        taken = [pool[:n] for pool, n in zip(pools, count.tolist(), strict=True)]
        pools = [pool[n:] for pool, n in zip(pools, count.tolist(), strict=True)]
        chosen.append(torch.cat(taken).sort().values)
    return chosen


def attainable_accuracy(data: Labelled) -> float:
    """The accuracy that no classifier can exceed: of samples with equal inputs, one class wins.

    The spirals begin in one point: of its samples, one per class, only one can be right.
    """
    flat = data.inputs.flatten(1)
    _, place = torch.unique(flat, dim=0, return_inverse=True)
    counts = torch.zeros(int(place.max()) + 1, int(data.targets.max()) + 1)
    counts.index_put_((place, data.targets), torch.ones(len(data)), accumulate=True)
    return float(counts.amax(1).sum()) / len(data)
