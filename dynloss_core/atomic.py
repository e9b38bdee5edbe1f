"""Files that a reader sees whole or not at all, however the writer ends. The suite writes
everything it keeps in this way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

__all__ = ["PART", "atomic_file", "write_atomically"]

PART = ".part"
"""Suffix of a file that is being written; a leftover one is from a writer that was killed."""


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write, which replaces `path` once the block ends without an error.

    It is flushed to disk first. Missing folders are created. If writing fails, nothing is left
    behind and an older file at `path` stays as it was.

    Raises:
        OSError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex[:12]}{PART}")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):  # report the file asked for
            error.filename = str(path)
        raise


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, as `atomic_file` does.

    Raises:
        OSError: if the file cannot be written.
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
