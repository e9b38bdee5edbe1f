"""Imports matplotlib without the user's `MPLBACKEND` and `matplotlibrc`; nothing else.

An unknown backend, or a file that is not UTF-8, makes the import of matplotlib fail; a bad line of
the file is reported on the terminal. This module is imported before any other import of matplotlib
in the suite, and leaves the environment and the current folder as they were.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress
from pathlib import Path

__all__: list[str] = []


def _import_matplotlib() -> None:
    if "matplotlib" in sys.modules:  # by a notebook, say; figures are drawn in our style anyway
        return
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    backend = os.environ.pop("MPLBACKEND", None)
    folder = os.open(".", os.O_RDONLY)
    try:
        # The file in the current folder comes first, and matplotlib's own is in this one.
        os.chdir(Path(spec.origin).parent / "mpl-data")
        import matplotlib as mpl
    finally:
        os.fchdir(folder)
        os.close(folder)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend is not None:
        with suppress(ValueError):
            mpl.rcParams["backend"] = backend  # for other drawing in this process


_import_matplotlib()
