"""What lies where in a study's folder.

study.yaml      the resolved definition
begun.json      its identity and definition when it began
state.json      where it lies, MLflow run, versions, hardware
origins.json    code and versions that its networks were trained with
optuna.db       every proposal
parts/          tables of each finished block; it is finished once its members table exists
checkpoints/    blocks in flight
tables/         members.parquet and curves.parquet, and what was recorded beside them
figures/        PNG, GIF if it moves; `.written`: what was written there and in tables/ last
confirm.json    rounds of confirmation asked for after the search
counts.jsonl    what each finished block adds to how far it is (see `block_counts`)
progress.json   while a driver runs: how far it has got
status.json     how far the last one had got (see `status_file`)
log.txt         what libraries logged while it ran, if they did
stop            while the driver is asked to end
summary.json    the answer
report.html     the answer, to be read

In a working copy of what an object store keeps (see `mirror`), `.copy.json` tells which copy it is,
when a driver last worked in it, and which versions of the objects it has.
"""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from dynloss_core.atomic import PART, write_atomically
from dynloss_core.config import ConfigError
from studies.messages import repeat_command
from studies.object_store import ObjectStore, opened
from studies.out_folder import shown, store_address
from studies.storage.lease import latest_term
from studies.storage.lock import is_taken
from studies.storage.write_errors import unreachable

__all__ = ["BEGUN", "COPY", "StudyPaths"]

COPY = ".copy.json"
"""The file of a working copy that tells which copy it is."""

BEGUN = {"begun.json", "state.json", ".lock", COPY, "plugins"}
"""What a start that was killed may leave."""


class StudyPaths:
    """The files of one study.

    Args:
        path: the path of its folder; its parent is the output folder that studies share.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.definition = self.path / "study.yaml"
        self.figures = self.path / "figures"
        self.tables = self.path / "tables"
        self.written = self.figures / ".written"
        self.summary = self.path / "summary.json"
        self.confirm = self.path / "confirm.json"
        self.optuna = self.path / "optuna.db"
        self.default_store = self.path.parent / "mlflow.db"
        self.progress = self.path / "progress.json"
        self.origins = self.path / "origins.json"
        self.log = self.path / "log.txt"
        self.report = self.path / "report.html"
        self.stop_request = self.path / "stop"
        self.lock = self.path / ".lock"
        self.begun = self.path / "begun.json"
        self.status = self.path / "status.json"
        self.counts = self.path / "counts.jsonl"
        self.plugins = self.path / "plugins"
        self.parts_folder = self.path / "parts"

    def exists(self) -> bool:
        """Whether a study was begun here; what a start that was killed leaves is not enough."""
        if os.access(self.definition, os.R_OK):
            return True
        return self.begun.exists() and bool(self.names() - BEGUN)

    def names(self) -> set[str]:
        """Names of what is in the folder, except files that are being written.

        Raises:
            ConfigError: if it cannot be read.
        """
        try:
            return {path.name for path in self.path.iterdir() if path.suffix != PART}
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            raise ConfigError("", problem, "choose another --out", str(self.path)) from None

    @cached_property
    def store(self) -> ObjectStore | None:
        """The object store whose working copy the folder is; None if it is none.

        Raises:
            ConfigError: if the store cannot be used with what is installed.
        """
        address = store_address(self.path.parent)
        return None if address is None else opened(f"{address}/{self.path.name}")

    def is_locked(self) -> bool:
        """Whether a driver is running the study, here or, of an object store, anywhere."""
        if self.is_driven_here():
            return True
        if self.store is None:
            return False
        try:
            term = latest_term(self.store)
        except OSError as error:
            raise unreachable(error, shown(self.path)) from None
        # a driver that worked in this copy is dead
        return term is not None and not term.has_ended and term.owner != self.copy_owner()

    def is_driven_here(self) -> bool:
        """Whether a driver is at work in this folder."""
        return is_taken(self.lock)

    def read_copy(self) -> dict[str, Any]:
        """What `.copy.json` says; empty if it cannot be read."""
        try:
            content = json.loads((self.path / COPY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def copy_owner(self) -> str | None:
        """The name of this working copy, under which its drivers take the lease; None before there
        was one."""
        return self.read_copy().get("owner")

    def ask_to_stop(self) -> None:
        """Ask the driver running the study, on whatever machine, to end as after Ctrl-C."""
        if self.store is not None and not self.is_driven_here():
            try:
                self.store.write(self.stop_request.name, b"")
            except OSError as error:
                raise unreachable(error, shown(self.path)) from None
        self.ask_to_stop_here()

    def ask_to_stop_here(self) -> None:
        """Ask the driver that works in this folder to end."""
        write_atomically(self.stop_request, "")

    def is_asked_to_stop(self) -> bool:
        """Whether somebody asked the driver to end."""
        return self.stop_request.exists()

    @property
    def optuna_url(self) -> str:
        """The URL of Optuna's storage, braces doubled: `RDBStorage` takes it for a template."""
        from studies.definition.sqlite import sqlite_url  # and with it SQLAlchemy

        return sqlite_url(self.optuna).replace("{", "{{").replace("}", "}}")

    @property
    def default_tracking_uri(self) -> str:
        """The URL of the MLflow store beside the folder."""
        from studies.definition.sqlite import sqlite_url

        return sqlite_url(self.default_store)

    @property
    def resume_command(self) -> str:
        """The command that resumes the study, from the current folder."""
        return repeat_command(["run", str(self.definition), "--resume"], self.path.parent)
