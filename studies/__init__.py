"""Studies of dynamical losses: definition, search, distribution, tracking and analysis.

The functions below do what the commands do, from Python:

    import studies

    study = studies.load("quickstart").with_(searches=1, backend="inline")
    result = studies.run(study)

They are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studies.api import analyse, confirm, export, load, run, status, stop

__all__ = ["analyse", "confirm", "export", "load", "run", "status", "stop"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
