"""How the command `dynloss` is typed in the shell that this program was started from.

What is printed to be pasted is made here. What is written into files names plain `dynloss`: their
readers have a shell of their own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

__all__ = ["own_command", "program"]

_NAME = "dynloss"


def own_command(*words: str) -> str:
    """A `dynloss` command to paste, quoted for the shell.

    Args:
        words: the arguments of `dynloss`.
    """
    return shlex.join([*program(), *words])


def program() -> list[str]:
    """The words that start `dynloss` again: its name where the shell finds this installation by
    it, else the path of its script, else `python -m studies`."""
    started = Path(sys.argv[0] if sys.argv else "")
    beside = Path(sysconfig.get_path("scripts")) / _NAME  # the interpreter
    script = beside
    if started.stem == _NAME:
        if started.parent == Path():  # no shell names a script without its folder
            return [_NAME]
        script = started
    on_path = shutil.which(_NAME)
    if on_path is not None and _are_same(on_path, script):
        return [_NAME]
    if script.exists() and not _is_module(started):
        return [_shortest(script)]
    return [_interpreter(), "-m", "studies"]


def _is_module(started: Path) -> bool:
    """Whether this is `python -m studies`."""
    return started.name == "__main__.py" and started.parent.name == "studies"


def _interpreter() -> str:
    """This Python, by its name if the shell finds it by that."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        # a virtual environment's links to the Python that it was made from, and is not that
        is_beside = found is not None and Path(found).parent == Path(sys.executable).parent
        if found is not None and is_beside and _are_same(found, sys.executable):
            return name
    return _shortest(Path(sys.executable))


def _are_same(one: str | Path, other: str | Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _shortest(path: Path) -> str:
    """A path from the working directory, if that is shorter than the whole one."""
    whole = os.path.abspath(path)  # noqa: PTH100  resolves no links
    try:
        relative = os.path.relpath(whole)
    except (OSError, ValueError):  # the directory is gone, or on another drive
        return whole
    if os.sep not in relative:
        relative = os.path.join(os.curdir, relative)  # noqa: PTH118  Path drops the dot
    return min(relative, whole, key=len)
