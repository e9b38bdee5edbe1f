"""The folder behind `--out`: the one that was named, or the working copy of an object store.

`--out s3://bucket/x` is worked on in a folder of this machine, which a small file in it ties to its
address. All but `studies.storage.mirror` and the lock then deal with folders alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from os import PathLike
from pathlib import Path

from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError

__all__ = ["WORK_FOLDER", "out_folder", "shown", "store_address"]

WORK_FOLDER = "DYNLOSS_WORK_DIR"
"""The environment variable that says where working copies are kept."""

_ADDRESS = ".store"  # file of an output folder that is the working copy of an object store


def out_folder(out: str | PathLike[str]) -> Path:
    """The folder to work in: `out` itself, or the working copy of the object store at `out`.

    Raises:
        ConfigError: if `out` is the address of a store and no working copy can be made.
    """
    text = os.fspath(out)
    if "://" not in text:
        return Path(text)
    address = text.rstrip("/")
    readable = re.sub(r"[^A-Za-z0-9]+", "-", address)[:40]
    digest = hashlib.sha256(address.encode()).hexdigest()[:12]
    folder = _work_folder() / f"{readable}-{digest}"
    try:
        if store_address(folder) != address:
            write_atomically(folder / _ADDRESS, address)
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
        remedy = f"set {WORK_FOLDER} to a folder of your own"
        raise ConfigError("", problem, remedy, str(folder)) from None
    return folder


def store_address(folder: Path) -> str | None:
    """The address of the store whose working copy an output folder is; None if it is none."""
    try:
        return (folder / _ADDRESS).read_text(encoding="utf-8")
    except OSError:
        return None


def shown(path: Path) -> str:
    """A path in words: in a working copy, the address of what is kept in the store."""
    path = path.absolute()
    for folder in (path, *path.parents[:3]):
        address = store_address(folder)
        if address is not None:
            inside = path.relative_to(folder).as_posix()
            return address if inside == "." else f"{address}/{inside}"
    return str(path)


def _work_folder() -> Path:
    named = os.environ.get(WORK_FOLDER)
    if named:
        return Path(named).absolute()
    parent = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(parent) if parent else Path.home() / ".cache") / "dynloss" / "stores"
    except RuntimeError:  # no home
        remedy = "set it to a folder of your own"
        raise ConfigError(WORK_FOLDER, "is not set, and there is no home", remedy) from None
