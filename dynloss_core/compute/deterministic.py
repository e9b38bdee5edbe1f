"""Repeatable arithmetic: the same computation gives the same result, whatever else the process
does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch.backends import cudnn

__all__ = ["deterministic"]

_Setting = TypeVar("_Setting")

_CUDNN = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
_B: Any = torch.backends  # PyTorch's type hints leave some of it out
_OPERATIONS = (
    *(_B.cuda.matmul, _B.cudnn.conv, _B.cudnn.rnn),
    *(_B.mkldnn.matmul, _B.mkldnn.conv, _B.mkldnn.rnn),
)


@contextmanager
def deterministic() -> Iterator[None]:
    """Make arithmetic repeatable inside a `with` block, and restore the settings after it.

    Convolutions on CUDA use deterministic algorithms, chosen without benchmarking. float32 is
    float32: products and convolutions do not round to TF32 or bfloat16, neither by PyTorch's
    default (convolutions on CUDA) nor by a setting of the caller's.

    PyTorch stores each precision twice, per operation and in an older form, and refuses to read the
    older one while the two differ. So both are set, and inside the block they agree.
    """
    precisions = [operation.fp32_precision for operation in _OPERATIONS]
    products = _older(torch.get_float32_matmul_precision)
    convolutions = {name: _older(partial(getattr, cudnn, name)) for name in _CUDNN}
    _set("highest", _CUDNN, ["ieee"] * len(_OPERATIONS))
    try:
        yield
    finally:
        _set(products, convolutions, precisions)


def _set(
    products: str | None, convolutions: Mapping[str, bool | None], precisions: Sequence[str]
) -> None:
    if products is not None:
        torch.set_float32_matmul_precision(products)
    for name, value in convolutions.items():
        setattr(cudnn, name, True if value is None else value)
    for operation, precision in zip(_OPERATIONS, precisions, strict=True):
        operation.fp32_precision = precision


def _older(read: Callable[[], _Setting]) -> _Setting | None:
    """A setting in its older form; None where it contradicts the settings per operation."""
    try:
        return read()
    except RuntimeError:
        return None
