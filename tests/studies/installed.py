"""Packages as pip leaves them in a folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

__all__ = ["PACKAGES", "installed"]

PACKAGES = ("signal_kit", "other_kit", "own_nets")
"""Names that tests give to packages and modules of their own."""


def installed(folder: Path, text: str, points: str, package: str = "signal_kit") -> Path:
    """A package with one module, `nets`, in a folder of its own, on the path.

    Args:
        folder: where it is put.
        text: the module.
        points: its entry points, `{package}` for its name.
        package: its name, one of `PACKAGES`.
    """
    info = folder / f"{package}-1.0.dist-info"
    (folder / package).mkdir(parents=True)
    info.mkdir()
    (folder / package / "__init__.py").write_text("")
    (folder / package / "nets.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points.format(package=package))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return folder
