"""Entry point of the command `dynloss`, which first makes sure that nothing shadows the suite.

A user's own folders may be called `studies` or `search_spaces`, and PYTHONPATH puts those first. So
this check is in the only package with a name of its own, and imports nothing from the others.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

__all__ = ["main", "shadow"]

_ROOT = Path(__file__).parents[1]


def main() -> None:
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
