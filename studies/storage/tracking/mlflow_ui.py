"""MLflow's user interface on a study's store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from dynloss_core.config import ConfigError
from studies.definition.redaction import HIDDEN, hide_password
from studies.definition.sqlite import sqlite_path, sqlite_url
from studies.messages import console, say
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.mlflow_store import tracking_uri

__all__ = ["serve"]

_LOOPBACK = "127.0.0.1"
_SECONDS_TO_END = 3.0


def serve(folder: StudyFolder | None, out: Path, port: int) -> int:
    """Serve MLflow's user interface until Ctrl-C, and return MLflow's exit code.

    Args:
        folder: the folder of a study, whose store is served; None for the store in `out`.
        out: output folder.
        port: port on loopback.

    Raises:
        ConfigError: if there is no store, its password is not known, or the port is taken.
    """
    stored = None if folder is None else StoredStudy.read(folder)
    uri = sqlite_url(out / "mlflow.db") if stored is None else stored.tracking_uri
    if stored is not None and HIDDEN in uri:
        uri = tracking_uri(stored)
    store = sqlite_path(uri)
    if store is not None and not (store.exists() and store.stat().st_size):
        raise ConfigError("", "holds no MLflow store", "run a study first, or use --out", str(out))
    if uri.startswith(("http://", "https://")):
        console.print(f"this study is tracked by a server: open {hide_password(uri)}")
        return 0
    with socket.socket() as probe:
        if probe.connect_ex((_LOOPBACK, port)) == 0:
            raise ConfigError("--port", f"{port} is in use", f"try --port {port + 1}")
    console.print(f"MLflow at http://{_LOOPBACK}:{port}  (Ctrl-C stops it)")
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--host", _LOOPBACK, "--port", str(port), "--workers", "1"]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        # in a session of its own, to be ended with all the processes that MLflow starts
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "MLFLOW_BACKEND_STORE_URI": uri},  # other users can read commands
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            code = server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)
        log.seek(0)
        say("".join(log.readlines()[-5:]).rstrip())
    return code


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=_SECONDS_TO_END)
