"""MLflow's store: which it is, whether it answers, and how one in SQLite is made.

Importing this module sets MLflow's environment, which it reads when it is imported.
"""

from __future__ import annotations

import fcntl
import glob
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from sqlalchemy.engine import make_url

from dynloss_core.config import ConfigError
from studies.definition.options import absolute_store
from studies.definition.redaction import HIDDEN
from studies.definition.sqlite import sqlite_path, sqlite_url
from studies.definition.study import Study
from studies.storage.stored_study import StoredStudy

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
os.environ.setdefault(
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0"
)  # `studies.storage.tracking.delivery` tries again
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # seconds

__all__ = ["is_served", "named_by", "probe", "tracking_uri"]

_VARIABLE = "MLFLOW_TRACKING_URI"
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}


def tracking_uri(stored: StoredStudy) -> str:
    """Where a study is tracked: as its file says, else the environment, else where it was begun.

    Raises:
        ConfigError: if it was begun on a store whose password only the environment knew.
    """
    begun_with = stored.tracking_uri
    uri = stored.study.storage.tracking_uri or _of_environment() or begun_with
    if uri == begun_with and HIDDEN in uri:
        raise ConfigError(_VARIABLE, f"not set; the study is tracked at {uri}", "set it, to go on")
    return uri


def named_by(study: Study, uri: str) -> str:
    """The key or variable that an address comes from."""
    by_variable = study.storage.tracking_uri is None and uri == _of_environment()
    return _VARIABLE if by_variable else "storage.tracking_uri"


def _of_environment() -> str:
    return absolute_store(os.environ.get(_VARIABLE, ""))


def is_served(uri: str) -> bool:
    """Whether a server stands before the store, which then has a place for artifacts."""
    return uri.startswith(("http:", "https:", "databricks"))


def _make(store: Path) -> None:
    """Make an SQLite store, whole or not at all: MLflow makes its tables in dozens of steps, and
    cannot go on where it was ended between two."""
    with store.with_suffix(".lock").open("wb") as lock:  # by one process at a time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if store.stat().st_size:
            return
        whole = store.with_suffix(".part")
        making = store.with_suffix(f".making-{uuid4().hex}")  # MLflow never forgets a name
        try:
            from mlflow import MlflowClient

            MlflowClient(sqlite_url(making)).search_experiments(max_results=1)
            whole.unlink(missing_ok=True)
            with closing(sqlite3.connect(making)) as made, closing(sqlite3.connect(whole)) as copy:
                made.backup(copy)
            whole.replace(store)
        finally:
            for left in store.parent.glob(
                f"{glob.escape(store.stem)}.making-*"
            ):  # with write-ahead logs
                left.unlink()


def probe(uri: str) -> None:
    """Fail at once where MLflow would retry for minutes: an SQLite file that cannot be written, a
    server that does not answer. Makes a new SQLite store."""
    if (store := sqlite_path(uri)) is not None:
        with closing(sqlite3.connect(store, timeout=30)) as database:
            database.execute("BEGIN IMMEDIATE")
        if not store.stat().st_size:
            _make(store)
    elif (scheme := urlsplit(uri).scheme.partition("+")[0]) in _PORTS:
        if scheme.startswith("http"):
            host, port = urlsplit(uri).hostname, urlsplit(uri).port
        else:  # a password may hold what it could not in a web address
            host, port = make_url(uri).host, make_url(uri).port
        socket.create_connection((host or "", port or _PORTS[scheme]), timeout=5).close()
