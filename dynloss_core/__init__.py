"""Dynamical loss functions: class weights that oscillate, so that each class has its turn.

The names below are imported on first use, so code that needs only the configuration or the search
spaces does not wait for torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynloss_core.losses import (
        DynamicalCrossEntropy,
        DynamicalMSE,
        weighted_cross_entropy,
        weighted_mse,
    )
    from dynloss_core.oscillation import ClassWeightSchedule, Oscillation

__all__ = [
    "ClassWeightSchedule",
    "DynamicalCrossEntropy",
    "DynamicalMSE",
    "Oscillation",
    "weighted_cross_entropy",
    "weighted_mse",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("dynloss")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "oscillation" if name in ("ClassWeightSchedule", "Oscillation") else "losses"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
