"""Where a study's folder lies, and whether it was moved or copied since it last ran.

A folder that was moved holds the same study. A copy is another study: it gets an identity of its
own, and so runs of its own in a store that both can reach, and never writes to its original's.
"""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from dynloss_core.config import ConfigError, reason_of
from dynloss_core.own_command import own_command
from studies.messages import say
from studies.out_folder import shown, store_address
from studies.storage.stored_study import StoredStudy

__all__ = ["move_artifacts", "located"]


def located(stored: StoredStudy) -> StoredStudy:
    """Record where a study lies, and give it an identity of its own if it is a copy. Its lock must
    be held."""
    folder = stored.folder
    if not folder.begun.exists():  # begun by a version that kept less, or the file is lost
        stored = stored.with_identity(stored.identity)
    place, known = _place(folder.path), stored.state.get("place")
    if known == place:
        return stored
    changes: dict[str, Any] = {"place": place}
    if known is None:
        changes["tracking_uri"] = stored.tracking_uri
    if known is not None and _is_copy(stored, known, place):
        stored = stored.with_identity()
        changes |= {"mlflow_run": None, "mlflow_experiment": None}
        say(f"{folder.path} is a copy of {known['path']}: from now on it is a separate study")
    return stored.with_state(**changes)


def _place(path: Path) -> dict[str, Any]:
    if store_address(path.parent) is not None:  # the same from every machine
        return {"path": shown(path), "inode": 0, "host": ""}
    return {"path": str(path), "inode": path.stat().st_ino, "host": socket.gethostname()}


def _is_copy(stored: StoredStudy, known: dict[str, Any], place: dict[str, Any]) -> bool:
    """Whether the original may still exist and write to the store of this study."""
    same_host = known["host"] == place["host"]
    if known["path"] == place["path"] and (same_host or known["inode"] == place["inode"]):
        return False
    original = Path(known["path"])
    beside = stored.tracking_uri == stored.folder.default_tracking_uri
    if beside and original.parent != stored.folder.path.parent:  # each has a store beside it
        return False
    return not same_host or _identity_at(original) == stored.identity


def _identity_at(path: Path) -> str | None:
    """The identity of the study in a folder; None if it cannot be read."""
    try:
        identity: str = json.loads((path / "begun.json").read_text(encoding="utf-8"))["study_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return identity


def move_artifacts(store: Path, artifacts: Path) -> None:
    """Correct where an SQLite store says its artifacts are, after both were moved or copied.

    MLflow keeps their addresses absolute, and has no call that changes them.

    Args:
        store: the SQLite file beside the studies' folders.
        artifacts: the folder of artifacts beside it.

    Raises:
        ConfigError: if the store cannot be read or written.
    """
    try:
        if store.stat().st_size:
            _move_artifacts(store, artifacts.absolute().as_uri(), artifacts.name)
    except FileNotFoundError:
        return
    except (OSError, sqlite3.Error) as error:
        problem = f"cannot be used: {reason_of(error)}"
        remedy = f"move it away, then `{own_command('sync')}` writes a study's runs to a new one"
        raise ConfigError("", problem, remedy, str(store)) from None


def _move_artifacts(store: Path, wanted: str, name: str) -> None:
    with closing(sqlite3.connect(store, timeout=30)) as database, database:
        rows = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for (before,) in rows:
            if before == wanted or not str(before).startswith("file:"):
                continue
            if not before.endswith(f"/{name}"):
                continue  # belongs to an experiment that the suite did not create
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
                (wanted, before),
            )
            database.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?)"
                " WHERE substr(artifact_uri, 1, ?) = ?",
                (wanted, len(before) + 1, len(before) + 1, f"{before}/"),
            )
