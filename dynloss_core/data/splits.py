"""Training, validation and test sets, disjoint by construction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Labelled", "Splits", "attainable_accuracy"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Inputs (N, ...) and their class indices (N,)."""

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if self.targets.shape != self.inputs.shape[:1]:
            raise ValueError(
                f"expected targets ({self.inputs.shape[0]},), got {tuple(self.targets.shape)}"
            )

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Labelled:
        """The same samples with inputs of another dtype, on another device."""
        return Labelled(self.inputs.to(device, dtype), self.targets.to(device))


@dataclass(frozen=True, eq=False)
class Splits:
    """What a network learns from, what chooses it, and what reports it.

    Training fits the parameters; validation chooses hyperparameters; test is looked at only to
    report a choice already made.
    """

    train: Labelled
    validation: Labelled
    test: Labelled
    num_classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.inputs.shape[1:])

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Splits:
        """The same splits with inputs of another dtype, on another device."""
        return Splits(
            self.train.to(dtype, device),
            self.validation.to(dtype, device),
            self.test.to(dtype, device),
            self.num_classes,
        )


def attainable_accuracy(data: Labelled) -> float:
    """The accuracy that no classifier can exceed: of samples with equal inputs, one class wins.

    The spirals begin in one point: of its samples, one a class, only one can be right.
    """
    flat = data.inputs.flatten(1)
    _, place = torch.unique(flat, dim=0, return_inverse=True)
    counts = torch.zeros(int(place.max()) + 1, int(data.targets.max()) + 1)
    counts.index_put_((place, data.targets), torch.ones(len(data)), accumulate=True)
    return float(counts.amax(1).sum()) / len(data)
