"""MLflow's user interface on a study's store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import requests

from dynloss_core.config import ConfigError
from studies.definition.redaction import HIDDEN, hide_password
from studies.definition.sqlite import sqlite_path, sqlite_url
from studies.messages import UI_PORT, console, say
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.mlflow_store import tracking_uri
from studies.storage.tracking.runs_view import run_page, runs_page

__all__ = ["serve"]

_LOOPBACK = "127.0.0.1"
_SECONDS_TO_END = 3.0
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_ANSWER = 5.0

Pages = dict[str, Callable[[str], str]]
"""Addresses by what is there, given that of the server."""


def serve(folder: StudyFolder | None, out: Path, port: int, *, opens: bool = True) -> int:
    """Serve MLflow's user interface until Ctrl-C, open it in a browser once it answers, and return
    MLflow's exit code.

    Args:
        folder: the folder of a study, whose store is served; None for the store in `out`.
        out: output folder.
        port: port on loopback.
        opens: whether to open a browser, where there is one and somebody watches.

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
    pages = _pages_of_folder(out) if stored is None else _pages_of(stored)
    if uri.startswith(("http://", "https://")):
        console.print(f"this study is tracked by a server: open {hide_password(uri)}")
        _show(pages, _without_user(uri), opens=opens)
        return 0
    with socket.socket() as probe:
        if probe.connect_ex((_LOOPBACK, port)) == 0:
            raise ConfigError("--port", f"{port} is in use", f"try --port {port + 1}")
    base = f"http://{_LOOPBACK}:{port}"
    say("starting MLflow, which takes some seconds (Ctrl-C stops it)")
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--host", _LOOPBACK, "--port", str(port), "--workers", "1"]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        # in a session of its own, to be ended with all the processes that MLflow starts
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                **os.environ,
                "MLFLOW_BACKEND_STORE_URI": uri,  # other users can read commands
                "MLFLOW_DISABLE_TELEMETRY": "true",  # the server's, and that of its pages
            },
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while server.poll() is None and not _answers(base):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            if server.poll() is None:
                console.print(f"MLflow at {base}")
                _show(pages, base, opens=opens)
                if port != UI_PORT:
                    say(f"reports link to port {UI_PORT}: enter {port} above their trials")
            code = server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)
        log.seek(0)
        say("".join(log.readlines()[-5:]).rstrip())
    return code


def _pages_of(stored: StoredStudy) -> Pages:
    """The pages of a study: its runs, and its own run. The first is opened."""
    experiment, run = (stored.state.get(key) for key in ("mlflow_experiment", "mlflow_run"))
    if not experiment or not run:  # it has not reached its store yet
        return {}
    view, name = stored.state.get("mlflow_view"), stored.study.name
    return {
        "its runs": lambda base: runs_page(base, experiment, name, view),
        "its verdict": lambda base: run_page(base, experiment, run),
    }


def _pages_of_folder(out: Path) -> Pages:
    """The page of the runs of all studies in a folder, if they are in one experiment."""
    folders = (StudyFolder(path) for path in out.iterdir() if StudyFolder(path).exists())
    experiments = {folder.state().get("mlflow_experiment") for folder in folders} - {None}
    if len(experiments) != 1:
        return {}
    (experiment,) = experiments
    return {"all runs": lambda base: runs_page(base, str(experiment))}


def _show(pages: Pages, base: str, *, opens: bool) -> None:
    """Print pages, and open the first in a browser that has a window of its own."""
    addresses = {name: page(base) for name, page in pages.items()}
    for name, address in addresses.items():
        console.print(f"{name:11s} {address}")
    first = next(iter(addresses.values()), base)
    if opens and console.is_terminal:
        with suppress(webbrowser.Error):
            browser = webbrowser.get()
            if type(browser) is not webbrowser.GenericBrowser:  # which would take the terminal
                browser.open(first)


def _answers(base: str) -> bool:
    """Whether the server answers by now."""
    with suppress(OSError):
        return requests.get(f"{base}/health", timeout=_SECONDS_TO_ANSWER).ok
    return False


def _without_user(uri: str) -> str:
    """The address of a server without the name and the password of its user."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=_SECONDS_TO_END)
