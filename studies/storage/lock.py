"""One driver at a time in a study's folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dynloss_core.config import ConfigError

__all__ = ["Lock", "exclusive", "is_taken"]

_SECONDS_OF_A_LOOK = 0.5  # for which `is_taken` elsewhere may hold the lock, and more
_TIMES_TAKEN_BACK = 100  # by others while this process opens the file, however slow its disk is


class Lock:
    """The lock that a file stands for, while it is held."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file = file
        self._path = path

    def is_in_place(self) -> bool:
        """Whether the file is still where it was locked: not once its folder was taken back, even
        if another process has made the folder and the file anew."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


@contextmanager
def exclusive(path: Path) -> Iterator[Lock]:
    """Hold the lock that a file stands for; the file and its folder are made.

    Raises:
        ConfigError: if another process holds it, or the file cannot be written.
    """
    try:
        file = _take(path)
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
        raise ConfigError("", problem, "choose another --out", str(path.parent)) from None
    with file:
        yield Lock(file, path)


def _take(path: Path) -> IO[str]:
    until = time.monotonic() + _SECONDS_OF_A_LOOK
    taken_back = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        except FileNotFoundError:  # the folder, or the one it is in, was taken back just now
            taken_back += 1
            if taken_back == _TIMES_TAKEN_BACK:
                raise
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            if time.monotonic() >= until:
                problem = "another process is running this study"
                raise ConfigError("", problem, "wait, or stop it", str(path.parent)) from None
            time.sleep(_SECONDS_OF_A_LOOK / 10)
            continue
        except OSError:
            file.close()
            raise
        if Lock(file, path).is_in_place():
            return file
        file.close()  # whoever held it took the folder back: this lock is of a file that is gone


def is_taken(path: Path) -> bool:
    """Whether a process holds the lock that a file stands for, as far as this one may look."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
