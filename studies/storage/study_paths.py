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
"""

from __future__ import annotations

import os
from pathlib import Path

from dynloss_core.atomic import PART, write_atomically
from dynloss_core.config import ConfigError
from studies.messages import repeat_command
from studies.storage.lock import is_taken

__all__ = ["BEGUN", "StudyPaths"]

BEGUN = {"begun.json", "state.json", ".lock", "plugins"}
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

    def is_locked(self) -> bool:
        """Whether a driver is running here."""
        return is_taken(self.lock)

    def ask_to_stop(self) -> None:
        """Ask the driver running here, on whatever machine, to end as after Ctrl-C."""
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
