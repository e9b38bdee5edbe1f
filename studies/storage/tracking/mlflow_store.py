"""MLflow's store: where it is, and whether it answers.

Importing this module sets environment variables that MLflow reads when it is imported.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from dynloss_core.config import ConfigError
from studies.definition.options import absolute_store
from studies.definition.redaction import HIDDEN
from studies.definition.sqlite import sqlite_path
from studies.definition.study import Study
from studies.storage.stored_study import StoredStudy
from studies.storage.tracking.empty_store import make_store

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # see `repeating_client`
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # seconds

__all__ = ["is_served", "named_by", "probe", "tracking_uri"]

_VARIABLE = "MLFLOW_TRACKING_URI"
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}


def tracking_uri(stored: StoredStudy) -> str:
    """Where a study is tracked: as its file says, else the environment, else where it began.

    Raises:
        ConfigError: if it began on a store whose password only the environment knew.
    """
    begun_with = stored.tracking_uri
    uri = stored.study.storage.tracking_uri or _environment_uri() or begun_with
    if uri == begun_with and HIDDEN in uri:
        raise ConfigError(
            _VARIABLE, f"not set; the study is tracked at {uri}", "set it to continue"
        )
    return uri


def named_by(study: Study, uri: str) -> str:
    """The key or variable that the URI comes from."""
    by_variable = study.storage.tracking_uri is None and uri == _environment_uri()
    return _VARIABLE if by_variable else "storage.tracking_uri"


def _environment_uri() -> str:
    return absolute_store(os.environ.get(_VARIABLE, ""))


def is_served(uri: str) -> bool:
    """Whether the store is behind a server, which then has its own place for artifacts."""
    return uri.startswith(("http:", "https:", "databricks"))


def probe(uri: str) -> None:
    """Fail at once where MLflow would retry for minutes: an SQLite file that cannot be written, or
    a server that does not answer. An SQLite store that is missing is created."""
    if (store := sqlite_path(uri)) is not None:
        with closing(sqlite3.connect(store, timeout=30)) as database:
            database.execute("BEGIN IMMEDIATE")
        if not store.stat().st_size:
            make_store(store)
    elif (scheme := urlsplit(uri).scheme.partition("+")[0]) in _PORTS:
        if scheme.startswith("http"):
            host, port = urlsplit(uri).hostname, urlsplit(uri).port
        else:  # a password may contain characters that a web address may not
            host, port = make_url(uri).host, make_url(uri).port
        socket.create_connection((host or "", port or _PORTS[scheme]), timeout=5).close()
