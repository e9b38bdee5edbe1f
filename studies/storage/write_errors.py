"""Files and stores that cannot be used, reported in one line."""

from __future__ import annotations

import errno
from pathlib import Path

from dynloss_core.config import ConfigError, reason_of

__all__ = ["NotWrittenError", "not_written", "unreachable"]


class NotWrittenError(ConfigError):
    """A file could not be written. What was trained is kept: once the file can be, the same command
    goes on."""


def not_written(error: OSError, folder: Path, remedy: str) -> NotWrittenError:
    """The refusal to continue after a file could not be written, in one line.

    Args:
        error: the error that writing it raised.
        folder: the file's folder, named if the error does not name the file.
        remedy: what to do, unless the disk is full.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space and continue with --resume"
    where = str(error.filename or folder)
    return NotWrittenError("", f"cannot be written: {error.strerror}", remedy, where)


def unreachable(error: OSError, address: str) -> ConfigError:
    """The refusal to work on what is kept in an object store, in one line.

    Args:
        error: the error that the store raised.
        address: the address of what is kept there.
    """
    remedy = "try again later"
    if isinstance(error, FileNotFoundError):
        remedy = "create the bucket, or correct --out"
    elif isinstance(error, PermissionError) or "credential" in str(error).lower():
        remedy = "give credentials that may read and write it, in the environment"
    reason = error.strerror or reason_of(error)
    return ConfigError("", f"cannot be used: {reason[:200]}", remedy, address)
