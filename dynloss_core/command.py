"""Entry point of the command `dynloss`, which first makes sure that nothing shadows the suite.

A user's own folders may be called `studies` or `search_spaces`, and PYTHONPATH puts those first. So
this check is in the only package with a name of its own, and imports nothing from the others.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

__all__ = ["main", "shadow"]

_ROOT = Path(__file__).parents[1]
_OBJECTS = 10_000
"""How many objects more are alive each time Python searches for garbage. Its own 700 are for small
programs: the imports and figures of a study make a million that stay, and searching them so often
takes a sixth of the time of `dynloss analyse`."""


def main() -> None:
    """Run the command, and leave with its exit code."""
    gc.set_threshold(_OBJECTS)
    end = _End()
    atexit.register(end.leave)  # the first to be registered is the last to run
    try:
        _run()
        end.code = 0
    except SystemExit as error:
        end.code = 0 if error.code is None else error.code
        raise


class _End:
    """The end of the program. Python frees all that was imported before it leaves, which takes two
    seconds after a study; this leaves at once, after all that was registered for the end has run.

    Attributes:
        code: the exit code; anything but a number leaves the end to Python.
    """

    code: int | str | None = None

    def leave(self) -> None:
        """Leave, unless something is still to be shown."""
        if not isinstance(self.code, int):
            return
        logging.shutdown()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):  # closed by who was reading: Python knows what to do
            return
        os._exit(self.code)


def _run() -> None:
    """Run the command, or name the file that shadows it in one line, with exit code 2."""
    for package in ("search_spaces", "studies"):
        if file := shadow(package):
            own = _ROOT / package
            remedy = "rename it, work from another folder, or take its folder out of PYTHONPATH"
            sys.stderr.write(f"dynloss: {file} is imported instead of {own}; {remedy}\n")
            sys.exit(2)
    try:
        commands = import_module("studies.cli.commands")
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("dynloss_core", "search_spaces", "studies"):
            raise
        remedy = "pip install 'dynloss[studies]', or dynloss[all] for Ray and MLflow too"
        sys.stderr.write(f"dynloss: the command needs {name}, which is not installed; {remedy}\n")
        sys.exit(2)
    commands.main()


def shadow(package: str) -> str:
    """The file or folder that is imported instead of a package of the suite; empty if the package
    itself is."""
    spec = find_spec(package)
    if spec is None:
        return "nothing"
    file = spec.origin or next(iter(spec.submodule_search_locations or ()))
    own = _ROOT / package / "__init__.py"
    return "" if own.exists() and Path(file).exists() and own.samefile(file) else file
