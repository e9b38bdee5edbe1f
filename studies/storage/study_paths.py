"""What lies where in a study's folder.

study.yaml      the resolved definition
begun.json      its identity and definition when it began
state.json      where it lies, MLflow run, versions, hardware
origins.json    code and versions that its networks were trained with
optuna.db       every proposal
parts/          tables of each finished block; it is finished once its members table exists
checkpoints/    blocks in flight
tables/         members.parquet and curves.parquet, and what was recorded beside them
figures/        PNG and SVG, GIF if it moves; `.written`: what was written there and in tables/ last
confirm.json    rounds of confirmation asked for after the search
progress.json   while a driver runs: how far it has got
stop            while the driver is asked to end
summary.json    the answer
report.html     the answer, to be read
"""

from __future__ import annotations

from pathlib import Path

from studies.definition.sqlite import sqlite_url
from studies.messages import again

__all__ = ["StudyPaths"]


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
        self.report = self.path / "report.html"
        self.stop_request = self.path / "stop"
        self.lock = self.path / ".lock"
        self.begun = self.path / "begun.json"

    @property
    def optuna_url(self) -> str:
        """The URL of Optuna's storage, braces doubled: `RDBStorage` takes it for a template."""
        return sqlite_url(self.optuna).replace("{", "{{").replace("}", "}}")

    @property
    def default_tracking_uri(self) -> str:
        """The URL of the MLflow store beside the folder."""
        return sqlite_url(self.default_store)

    @property
    def resume_command(self) -> str:
        """The command that resumes the study, from the current folder."""
        return again(["run", str(self.definition), "--resume"], self.path.parent)
