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
    """Refuse negative seeds of a split."""
    for key, seed in (("split_seed", split_seed), ("validation_seed", validation_seed)):
        if seed is not None and seed < 0:
            raise ConfigError(key, f"{seed} is negative", "use >= 0")


@dataclass(frozen=True)
class PixelScale:
    """How the bytes of images become the inputs of a network: (pixel / 255 - mean) / deviation.

    Args:
        mean: the mean of each channel over the training set, in [0, 1].
        deviation: standard deviation of each channel, likewise.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """Images (N, channels, H, W) of bytes, scaled and converted to `dtype`."""
        shape = (1, -1, 1, 1)
        offset = torch.tensor(self.mean, dtype=dtype, device=pixels.device).view(shape)
        spread = torch.tensor(self.deviation, dtype=dtype, device=pixels.device).view(shape)
        return (pixels.to(dtype) / 255 - offset) / spread


@dataclass(frozen=True, eq=False)
class Labelled:
    """Samples and their classes.

    Args:
        inputs: (N, ...), as a network sees them; or the bytes of images, with a `scale`.
        targets: (N,) class indices of any integer type; stored as int64.
        scale: the scale of the bytes; None if the inputs are not bytes.
        groups: (N,) the group that decides each sample's weight; None: its class does. A data set
            can give its own groups, for an oscillation over `own`.

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
        """The same samples as a network of this dtype sees them, on a device."""
        inputs = self.inputs.to(device)
        inputs = inputs.to(dtype) if self.scale is None else self.scale(inputs, dtype)
        groups = None if self.groups is None else self.groups.to(device)
        return Labelled(inputs, self.targets.to(device), groups=groups)

    def at(self, chosen: slice | Tensor) -> Labelled:
        """A subset of the samples."""
        groups = None if self.groups is None else self.groups[chosen]
        return Labelled(self.inputs[chosen], self.targets[chosen], self.scale, groups)


@dataclass(frozen=True, eq=False)
class Splits:
    """The training, validation and test sets.

    Training fits the parameters; validation chooses hyperparameters; test is used only to report a
    choice already made.

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
        """The same splits as a network of this dtype sees them, on a device."""
        return Splits(
            self.train.to(dtype, device),
            self.validation.to(dtype, device),
            self.test.to(dtype, device),
            self.num_classes,
        )


def refuse_other_classes(data: Labelled, num_classes: int, called: str) -> None:
    """Refuse targets outside 0 to `num_classes` - 1, which have no one-hot code.

    Raises:
        ValueError: naming one of them.
    """
    others = data.targets[(data.targets < 0) | (data.targets >= num_classes)]
    if len(others):
        raise ValueError(
            f"{called} holds target {int(others[0])}, not a class index from 0 to {num_classes - 1}"
        )


def disjoint(labels: Tensor, sizes: Sequence[int], seed: int, part: int) -> list[Tensor]:
    """Indices of disjoint sets of the given `sizes`, each with the class shares of `labels`.

    Where the shares are not whole numbers, the remaining samples go to the largest remainders.
    """
    order = torch.from_numpy(generator(seed, Stream.DATA, part).permutation(len(labels)))
    pools = [order[labels[order] == label] for label in torch.unique(labels)]
    chosen = []
    for size in sizes:
        pool_sizes = np.array([len(pool) for pool in pools])
        count, remainder = np.divmod(size * pool_sizes, pool_sizes.sum())
        largest = np.argsort(-remainder, kind="stable")
        count[largest[: size - count.sum()]] += 1
        taken = [pool[:n] for pool, n in zip(pools, count.tolist(), strict=True)]
        pools = [pool[n:] for pool, n in zip(pools, count.tolist(), strict=True)]
        chosen.append(torch.cat(taken).sort().values)
    return chosen


def attainable_accuracy(data: Labelled) -> float:
    """The accuracy that no classifier can exceed: samples with equal inputs get the same answer.

    All arms of the spirals begin at one point: of its samples, one per class, only one can be
    classified correctly.
    """
    flat = data.inputs.flatten(1)
    _, place = torch.unique(flat, dim=0, return_inverse=True)
    counts = torch.zeros(int(place.max()) + 1, int(data.targets.max()) + 1)
    counts.index_put_((place, data.targets), torch.ones(len(data)), accumulate=True)
    return float(counts.amax(1).sum()) / len(data)
