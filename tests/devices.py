"""The engines bound to a device: what every engine promises, tested on a GPU where there is one."""

from __future__ import annotations

from typing import Any

import torch

from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    ConvnetEngine,
    Engine,
    FusedCUDAEngine,
    Problem,
    Setup,
    VmappedEngine,
)

__all__ = ["DEVICES", "ON_CUDA", "bound_to"]

DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available()]


def bound_to(device: str, engine: type[Engine]) -> type[Engine]:
    """An engine that trains on `device` if nothing else is asked."""

    class Bound(engine):  # type: ignore[misc, valid-type]
        def __init__(self, setup: Setup, device: str = device, **options: Any) -> None:
            super().__init__(setup, device, **options)

        @classmethod
        def refusal(cls, problem: Problem, device: str = device) -> str | None:
            if problem.traits.draws:
                return "masks are drawn on the device: other ones than on the CPU"
            return super().refusal(problem, device)

    Bound.__name__ = f"{engine.__name__}On{device.upper()}"
    return Bound


ON_CUDA = [
    bound_to("cuda", engine)
    for engine in (AutogradEngine, BatchedEngine, VmappedEngine, ConvnetEngine, FusedCUDAEngine)
    if "cuda" in DEVICES and engine.refusal(Problem(), "cuda") is None
]
