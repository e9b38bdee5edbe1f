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

_SECONDS_OF_A_CHECK = 0.5  # longer than `is_taken` in another process holds the lock
_MAX_DISCARDS = 100  # of the folder by others, while this process opens the file on a slow disk


class Lock:
    """A lock that is held on a file."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file = file
        self._path = path

    def is_in_place(self) -> bool:
        """Whether the file is still where it was locked: not once its folder was discarded, even if
        another process has made the folder and the file again."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False


@contextmanager
def exclusive(path: Path) -> Iterator[Lock]:
    """Hold an exclusive lock on a file; the file and its folder are created.

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
    deadline = time.monotonic() + _SECONDS_OF_A_CHECK
    discards = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        except FileNotFoundError:  # the folder, or its parent, was discarded just now
            discards += 1
            if discards == _MAX_DISCARDS:
                raise
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            if time.monotonic() >= deadline:
                problem = "another process is running this study"
                raise ConfigError("", problem, "wait, or stop it", str(path.parent)) from None
            time.sleep(_SECONDS_OF_A_CHECK / 10)
            continue
        except OSError:
            file.close()
            raise
        if Lock(file, path).is_in_place():
            return file
        file.close()  # whoever held it discarded the folder, and the locked file is gone


def is_taken(path: Path) -> bool:
    """Whether a process holds the lock on a file, as far as this process can read it."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
