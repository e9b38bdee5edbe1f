"""A training step as a CUDA graph: recorded once, then replayed with one call from the host.

A step of a small convnet is a hundred kernels of a few microseconds each, and launching them one by
one takes longer than running them.

Source: the recipe in torch's notes on CUDA semantics, "CUDA graphs": warm up on a side stream, then
record; arguments are copied into the recorded memory.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["CapturedStep", "Step", "captured"]

Step = Callable[..., Tensor]

_WARM_UP = 3  # compiling, planning and allocating at the first calls must precede recording


class CapturedStep:
    """A recorded step; called like the step, with tensors of the same shapes.

    The next call overwrites the tensor that it returns.

    Args:
        step: tensors -> a tensor; runs on the current CUDA device and never waits for it.
        arguments: tensors to record it with.
        changed: every tensor that the step changes; recording restores them.
    """

    def __init__(self, step: Step, arguments: Sequence[Tensor], changed: Sequence[Tensor]) -> None:
        before = [tensor.detach().clone() for tensor in changed]
        self._arguments = [tensor.clone() for tensor in arguments]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                step(*self._arguments)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with _undisturbed(), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._found = step(*self._arguments)
        with torch.no_grad():
            for tensor, old in zip(changed, before, strict=True):
                tensor.copy_(old)

    def __call__(self, *arguments: Tensor) -> Tensor:
        for recorded, argument in zip(self._arguments, arguments, strict=True):
            recorded.copy_(argument, non_blocking=True)
        self._graph.replay()
        return self._found


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Turn the garbage collector off: it might free a graph or GPU memory, which spoils a
    recording. For the same reason, the recording ignores other threads (`thread_local`)."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def captured(step: Step, arguments: Sequence[Tensor], changed: Sequence[Tensor]) -> Step:
    """The step as a graph; the step itself, with a warning, if it cannot be recorded."""
    before = [tensor.detach().clone() for tensor in changed]
    try:
        return CapturedStep(step, arguments, changed)
    except Exception as error:  # a driver, cuDNN or Triton may raise anything
        warnings.warn(f"training without a CUDA graph: {error}", stacklevel=2)
        torch.cuda.synchronize()
        with torch.no_grad():
            for tensor, old in zip(changed, before, strict=True):
                tensor.copy_(old)
        return step
