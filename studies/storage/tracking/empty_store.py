"""Empty MLflow stores in SQLite. MLflow makes one by dozens of migrations, which takes seconds: the
result is kept in the user's cache, by version, and later stores are copies of it.
"""

from __future__ import annotations

import fcntl
import glob
import sqlite3
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError
from dynloss_core.data.image_folders import cache_folder
from studies.definition.sqlite import sqlite_url

__all__ = ["make_store"]


def make_store(store: Path) -> None:
    """Make an SQLite store completely or not at all: MLflow makes its tables in dozens of steps,
    and cannot continue if it was killed between two.

    Args:
        store: its file, which is there and empty.
    """
    with store.with_suffix(".lock").open("wb") as lock:  # one process at a time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if store.stat().st_size:
            return
        complete, kept = store.with_suffix(".part"), _kept()
        complete.unlink(missing_ok=True)
        if kept is None or not _is_copied(kept, complete):
            complete.unlink(missing_ok=True)
            _migrate(store, complete)
            if kept is not None:
                with suppress(OSError):  # no room, or no place to write: the next one migrates too
                    write_atomically(kept, complete.read_bytes())
        complete.replace(store)


def _kept() -> Path | None:
    """Where an empty store of this version of MLflow is kept; None for a user without a home."""
    try:
        return cache_folder() / f"mlflow-{version('mlflow')}.db"
    except ConfigError:
        return None


def _is_copied(kept: Path, complete: Path) -> bool:
    """Copy the store that is kept, if there is one and it is whole."""
    with suppress(OSError, sqlite3.Error):
        complete.write_bytes(kept.read_bytes())
        with closing(sqlite3.connect(complete)) as database:
            (sound,) = database.execute("PRAGMA integrity_check").fetchone()
            (revisions,) = database.execute("SELECT count(*) FROM alembic_version").fetchone()
            (experiments,) = database.execute("SELECT count(*) FROM experiments").fetchone()
        return bool(sound == "ok" and revisions == 1 and experiments == 0)
    return False


def _migrate(store: Path, complete: Path) -> None:
    """Let MLflow make an empty store. It makes an experiment too, with artifacts below the folder
    that it was started in: that is taken out, and made again where the store is opened first."""
    from mlflow import MlflowClient

    draft = store.with_suffix(f".making-{uuid4().hex}")  # a new name: MLflow remembers old ones
    try:
        MlflowClient(sqlite_url(draft)).search_experiments(max_results=1)
        with (
            closing(sqlite3.connect(draft)) as source,
            closing(sqlite3.connect(complete)) as target,
        ):
            source.backup(target)
            target.execute("DELETE FROM experiments")
            target.commit()
    finally:
        # write-ahead logs among them
        for leftover in store.parent.glob(f"{glob.escape(store.stem)}.making-*"):
            leftover.unlink()
