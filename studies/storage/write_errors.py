"""Files that cannot be written, told in a line."""

from __future__ import annotations

import errno
from pathlib import Path

from dynloss_core.config import ConfigError

__all__ = ["not_written"]


def not_written(error: OSError, folder: Path, remedy: str) -> ConfigError:
    """The refusal to go on where a file cannot be written, in a line.

    Args:
        error: what writing it raised.
        folder: where it should be, should the error not name the file.
        remedy: unless the disk is full.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space, and go on with --resume"
    where = str(error.filename or folder)
    return ConfigError("", f"cannot be written: {error.strerror}", remedy, where)
