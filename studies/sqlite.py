"""SQLite as a study uses it: one writer, a driver, that commits often; readers beside it.

With a write-ahead log a commit appends instead of rewriting, readers never block the writer, and
with `synchronous = NORMAL` it does not wait for the disk: a commit survives the driver's death, and
a power failure can cost the last ones but never the consistency of the file. The parts in the
study's folder, which are flushed to the disk, bring Optuna's and MLflow's files up to date.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

__all__ = ["tune_sqlite"]


def tune_sqlite() -> None:
    """Let every SQLite connection that this process opens from now on work so."""
    if not event.contains(Engine, "connect", _on_connect):
        event.listen(Engine, "connect", _on_connect)


def _on_connect(connection: Any, _: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
