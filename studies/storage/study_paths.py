"""What lies where in a study's folder.

study.yaml      the resolved definition
begun.json      its identity and definition when it began
state.json      where it lies, MLflow run, versions, hardware
origins.json    code and versions that its networks were trained with
optuna.db       every proposal
parts/          tables of each finished block; it is finished once its members table exists
checkpoints/    blocks in flight
tables/         members.parquet and curves.parquet, and what was recorded beside them
figures/        PNG and SVG, GIF if it moves
confirm.json    rounds of confirmation asked for after the search
progress.json   while a driver runs: how far it has got
stop            while the driver is asked to end
summary.json    the answer
report.html     the answer, to be read
"""

from __future__ import annotations

import shlex
from pathlib import Path

from studies.definition.sqlite import sqlite_url

__all__ = ["StudyPaths"]


class StudyPaths:
    """The files of one study.

    Args:
        path: the path of its folder; its parent is the output folder that studies share.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def definition(self) -> Path:
        """The resolved study file."""
        return self.path / "study.yaml"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.path / "figures"

    @property
    def tables(self) -> Path:
        """Folder of the tables."""
        return self.path / "tables"

    @property
    def summary(self) -> Path:
        """The answer, as JSON."""
        return self.path / "summary.json"

    @property
    def confirm(self) -> Path:
        """Rounds of confirmation, as JSON."""
        return self.path / "confirm.json"

    @property
    def optuna_url(self) -> str:
        """The URL of Optuna's storage, braces doubled: `RDBStorage` takes it for a template."""
        return sqlite_url(self.optuna).replace("{", "{{").replace("}", "}}")

    @property
    def optuna(self) -> Path:
        """Optuna's storage."""
        return self.path / "optuna.db"

    @property
    def default_store(self) -> Path:
        """MLflow's store, shared by the studies of one output folder."""
        return self.path.parent / "mlflow.db"

    @property
    def default_tracking_uri(self) -> str:
        """The URL of that store."""
        return sqlite_url(self.default_store)

    @property
    def resume_command(self) -> str:
        """The command that resumes the study, from the current folder."""
        out = self.path.parent
        where = [] if out == Path("results").absolute() else ["--out", str(out)]
        return shlex.join(["dynloss", "run", str(self.definition), "--resume", *where])

    @property
    def progress(self) -> Path:
        """How far a driver has got, as JSON."""
        return self.path / "progress.json"

    @property
    def origins(self) -> Path:
        """What its networks were trained with, as JSON (see `studies.blocks.code_origin`)."""
        return self.path / "origins.json"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"

    @property
    def stop_request(self) -> Path:
        """A file that exists while the driver is asked to end."""
        return self.path / "stop"

    @property
    def lock(self) -> Path:
        """The file on which a running driver holds a lock."""
        return self.path / ".lock"

    @property
    def begun(self) -> Path:
        """The study's identity and definition when it began, as JSON."""
        return self.path / "begun.json"
