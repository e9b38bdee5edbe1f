"""SQLite as a study uses it: one writer, the driver, which commits often, and readers beside it.

With a write-ahead log a commit appends instead of rewriting, readers never block the writer, and
with `synchronous = NORMAL` it does not wait for the disk: a commit survives the driver's death, and
a power failure can cost the last ones but never the consistency of the file. The parts in the
study's folder, which are flushed to the disk, bring Optuna's and MLflow's files up to date.

Such a log only works among the processes of one machine (https://sqlite.org/wal.html), so files
that other machines may have mounted are left as SQLite makes them. Nor can a file with a log be
opened on a read-only medium. So the last driver removes the log when it ends, and a read-only copy
opens in plain Optuna and MLflow.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

import psutil
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from dynloss_core.config import ConfigError

__all__ = ["is_shared", "sqlite_path", "sqlite_url", "tuned_sqlite"]

# file systems that several machines may have mounted
_SHARED = {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4"}
_SHARED |= {"smb3", "smbfs", "sshfs"}


def sqlite_url(path: Path) -> str:
    """The URL of a file for SQLAlchemy, Optuna and MLflow, whatever characters its path contains.

    Which of them are special in a URL depends on SQLAlchemy's version: from 2.1 on, `%20` is a
    space. Naming the driver keeps MLflow from taking the URL for a path and making a folder of that
    name.

    Raises:
        ConfigError: if no URL leads to the file.
    """
    text = str(path.absolute())
    with suppress(UnicodeEncodeError):  # a name in bytes that are not text in this locale
        for url in (f"sqlite:///{text}", f"sqlite+pysqlite:///{quote(text)}"):
            if make_url(url).database == text:
                return url
    problem = "has a name that cannot be part of a database address"
    raise ConfigError("", problem, "choose another --out, of letters and digits", text)


def sqlite_path(url: str) -> Path | None:
    """The file behind the URL of an SQLite database; None for any other URL."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.partition("+")[0] != "sqlite":
        return None
    with suppress(SQLAlchemyError, ValueError):  # whatever opens it will say what is wrong
        return Path(make_url(url).database or "")
    return None


@contextmanager
def tuned_sqlite() -> Iterator[None]:
    """Apply these settings to every SQLite connection that this process opens inside, and close
    the files at the end. What the process opens afterwards, to read them, leaves them as they are.
    """
    if event.contains(Engine, "connect", _on_connect):  # whoever asked first closes
        yield
        return
    listeners: dict[str, Callable[..., None]] = {
        "connect": _on_connect,
        "close": _on_close,
        "engine_connect": _on_use,
    }
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)
        _close()


def _close() -> None:
    """Close every SQLite file used, and remove its log unless another process has it open."""
    for engine in list(_engines):
        engine.dispose()
    paths = set(_paths)
    _engines.clear()
    _paths.clear()
    if sum(_keeps_log(path) for path in paths):
        for connection in _open.values():  # of whoever did not close it, such as an error's frames
            with suppress(sqlite3.Error):
                connection.close()
        for path in paths:
            _keeps_log(path)
    _open.clear()


def _keeps_log(path: Path) -> bool:
    """Remove a file's log; whether it has one still, because the file is in use."""
    if not path.is_file():
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1)) as database:
        mode: tuple[str] = database.execute("PRAGMA journal_mode = DELETE").fetchone()
        return mode != ("delete",)
    return True


_engines: WeakSet[Engine] = WeakSet()  # those of SQLite that were used, and still live
_paths: set[Path] = set()  # of their files, whether they live or not
_open: dict[int, sqlite3.Connection] = {}


def _on_use(connection: Connection) -> None:
    if connection.engine.dialect.name == "sqlite":
        _engines.add(connection.engine)
        _paths.add(Path(connection.engine.url.database or ""))


def _on_connect(connection: Any, _: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        _open[id(connection)] = connection
        _, _, path = connection.execute("PRAGMA database_list").fetchone()
        if path and not os.access(path, os.W_OK):
            return
        shared = is_shared(Path(path).parent)
        connection.execute(f"PRAGMA journal_mode = {'DELETE' if shared else 'WAL'}")
        if not shared:
            connection.execute("PRAGMA synchronous = NORMAL")


def _on_close(connection: Any, _: Any) -> None:
    _open.pop(id(connection), None)


@cache
def is_shared(folder: Path) -> bool:
    """Whether other machines may have a folder mounted, judging by its file system."""
    mounts = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    kinds = (mounts[above] for above in (folder, *folder.parents) if above in mounts)
    return next(kinds, "").removeprefix("fuse.") in _SHARED
