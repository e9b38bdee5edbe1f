"""Dropout that draws the same masks in all engines."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]


class Dropout(nn.Dropout):
    """Dropout whose mask depends on torch's random state alone, not on the memory layout of the
    activations, so that engines with different layouts use the same masks."""

    def forward(self, hidden: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return hidden
        kept = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
        return hidden * kept.bernoulli_(1 - self.p).div_(1 - self.p)
