"""cuDNN's algorithms by rule: what was computed once is computed again bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["repeatable"]


@contextmanager
def repeatable() -> Iterator[None]:
    """Inside it convolutions on CUDA are computed by algorithms that are chosen without a race and
    add up in one order. Whether they may round float32 to TF32 stays as the caller has set it."""
    tf32 = torch.backends.cudnn.allow_tf32
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32
    ):
        yield
