"""Training, validation and test sets, disjoint by construction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Labelled", "Splits"]


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
