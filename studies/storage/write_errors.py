"""Files that cannot be written, reported in one line."""

from __future__ import annotations

import errno
from pathlib import Path

from dynloss_core.config import ConfigError

__all__ = ["not_written"]


def not_written(error: OSError, folder: Path, remedy: str) -> ConfigError:
    """The refusal to continue after a file could not be written, in one line.

    Args:
        error: the error that writing it raised.
        folder: the file's folder, named if the error does not name the file.
        remedy: what to do, unless the disk is full.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space and continue with --resume"
    where = str(error.filename or folder)
    return ConfigError("", f"cannot be written: {error.strerror}", remedy, where)
