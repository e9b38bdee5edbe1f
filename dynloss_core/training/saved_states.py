"""Saved states of an engine, checked before they are copied into another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["same_layout"]


def same_layout(saved: Any, own: Any) -> bool:
    """Whether tensors at the same place in two states have the same shape and dtype. Others would
    be broadcast or rounded silently when copied. Only keys that both dictionaries hold are
    compared: `torch.optim.SGD` has no momentum before its first step."""
    if isinstance(own, Tensor) or isinstance(saved, Tensor):
        both = isinstance(own, Tensor) and isinstance(saved, Tensor)
        return both and (saved.shape, saved.dtype) == (own.shape, own.dtype)
    if isinstance(own, Mapping):
        return isinstance(saved, Mapping) and all(
            same_layout(saved[key], own[key]) for key in own.keys() & saved.keys()
        )
    if isinstance(own, list):
        return len(saved) == len(own) and all(map(same_layout, saved, own))
    return True
