"""What is recorded at every step of the traced members.

Symbols
    M      members
    K      members whose every step is traced
    C      classes
    n      steps between two evaluations
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynloss_core.losses import LossName, class_losses, one_hot_rows
from dynloss_core.training.problem.ensemble import Setup
from dynloss_core.training.problem.evaluations import Trace

__all__ = ["TraceBuffer"]


@dataclass(frozen=True, eq=False)
class TraceBuffer:
    """Where an engine writes what it sees at each step of the traced members, before the update.

    Entries that it does not write stay NaN.

    Args:
        members: K indices, ascending.
        class_losses: (K, n, C), see `losses.class_losses`; on the engine's device.
        correct: (K, n) samples classified correctly.
        weighted: (K, n) F, where groups of samples oscillate, so that it is not the weighted sum of
            the class losses.
    """

    members: tuple[int, ...]
    class_losses: Tensor
    correct: Tensor
    weighted: Tensor

    @classmethod
    def empty(
        cls, setup: Setup, members: tuple[int, ...], steps: int, device: torch.device
    ) -> TraceBuffer:
        """A buffer for `steps` steps."""
        size = (len(members), steps)
        dtype = setup.problem.torch_dtype
        return cls(
            members,
            torch.full((*size, setup.num_classes), torch.nan, dtype=dtype, device=device),
            torch.full(size, torch.nan, dtype=dtype, device=device),
            torch.full(size, torch.nan, dtype=dtype, device=device),
        )

    def record(
        self, row: int, offset: int, loss: LossName, outputs: Tensor, targets: Tensor
    ) -> None:
        """Record what one member saw at one step: outputs (B, C) and targets (B,)."""
        one_hot = one_hot_rows(targets, outputs.shape[1], outputs.dtype)
        self.class_losses[row, offset] = class_losses(loss, outputs.T, one_hot)
        self.correct[row, offset] = (outputs.argmax(-1) == targets).sum()

    def trace(self, setup: Setup, steps: Tensor, learning_rates: Tensor, frozen: Tensor) -> Trace:
        """The trace of the recorded steps.

        Args:
            setup: the ensemble.
            steps: (n,) updates done before each recorded step.
            learning_rates: (n, M) of their updates.
            frozen: (M,) members that no longer trained.
        """
        members = torch.tensor(self.members)
        lost = frozen[members]
        class_weights = setup.weights_of_classes(steps, self.members)  # (n, K, C)
        class_losses = self.class_losses.cpu().double().transpose(0, 1)  # (n, K, C)
        class_losses[:, lost] = torch.nan
        weighted = (class_weights * class_losses).sum(-1)
        if not setup.problem.oscillation.is_by_class:
            weighted = self.weighted.cpu().double().T.clone()
            weighted[:, lost] = torch.nan
        samples = setup.problem.batch_size or len(setup.splits[0].train)
        accuracy = self.correct.cpu().double().T / samples
        accuracy[:, lost] = torch.nan
        return Trace(
            steps=steps,
            members=members,
            weighted_loss=weighted,
            loss=class_losses.sum(-1),
            accuracy=accuracy,
            class_weights=class_weights,
            learning_rate=learning_rates[:, members],
        )
