"""A study's folder: what a study leaves on disk, and the truth that a resumed study starts from.

study.yaml      the resolved definition
state.json      identity, MLflow run, versions, hardware
optuna.db       every proposal
parts/          two tables a finished block; a block is finished when its members table is there
checkpoints/    blocks in flight
tables/         members.parquet and curves.parquet; what was recorded beside them
figures/        PNG and SVG, GIF if it moves
confirm.json    rounds of confirmation asked for after the search
progress.json   while a driver is at work: how far it is
stop            while it is asked to end
summary.json    the answer
report.html     the answer, to be read
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pandas as pd
import yaml

from dynloss_core.config import ConfigError, build, show, to_dict
from search_spaces.documents import read_document
from studies.blocks import Block, BlockResult
from studies.confirmation import Confirmation
from studies.definition import Study
from studies.recording import KINDS
from studies.study_files import study_from_mapping
from studies.tables import write_parquet

__all__ = ["StudyFolder"]

_SECONDS_OF_A_LOOK = 0.5  # for which `is_locked` elsewhere may hold a lock, and more
_BEGUN = {"state.json", "state.part", "study.part", ".lock"}  # what a begin may leave if killed


class StudyFolder:
    """The folder of one study.

    Args:
        path: where it is; its parent is the output folder that studies share.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @classmethod
    def of(cls, study: Study, out: Path) -> StudyFolder:
        """Where a study of this name lies in an output folder."""
        return cls(out / study.name)

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
        """Optuna's storage."""
        return f"sqlite:///{self.path / 'optuna.db'}"

    @property
    def default_tracking_uri(self) -> str:
        """MLflow's store, shared by the studies of one output folder."""
        return f"sqlite:///{self.path.parent / 'mlflow.db'}"

    def exists(self) -> bool:
        """Whether a study was begun here."""
        return os.access(self.definition, os.R_OK)

    def study(self) -> Study:
        """The study that was begun here.

        Raises:
            ConfigError: if there is none.
        """
        if not self.exists():
            raise ConfigError("", "holds no study", "run one first", str(self.path))
        return study_from_mapping(read_document(self.definition), source=str(self.definition))

    def begin(self, study: Study, *, resume: bool) -> bool:
        """Make the folder ready for a study, or check that it holds this one; whether it is new.

        Raises:
            ConfigError: if it holds another study, or this one and `resume` is false, or if it
                cannot be written; nothing is changed then.
        """
        if self.exists():
            there = self.study()
            if there.hash not in (study.hash, replace(study, extensions=there.extensions).hash):
                changed = "; ".join(self.differences(study))
                raise ConfigError(
                    "",
                    f"holds another study of this name: {changed}",
                    "rename yours, or choose another --out",
                    str(self.path),
                )
            if not resume:
                raise ConfigError(
                    "", "holds this study already", "add --resume to go on", str(self.path)
                )
            return False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            foreign = {path.name for path in self.path.iterdir()} - _BEGUN
            if foreign:
                raise ConfigError(
                    "", "is not empty and holds no study", "choose another --out", str(self.path)
                )
            self.write_state({"study_id": uuid.uuid4().hex})
            self.write_definition(study)
        except OSError as error:
            raise ConfigError(
                "", f"cannot be written: {error.strerror}", "choose another --out", str(self.path)
            ) from None
        return True

    def differences(self, study: Study) -> list[str]:
        """What differs between the study that was begun here and another, with both values."""
        return _differences(to_dict(self.study()), to_dict(study))

    def write_definition(self, study: Study) -> None:
        """Keep a study's resolved definition."""
        self._write(self.definition, yaml.safe_dump(to_dict(study), sort_keys=False))

    def discard(self) -> None:
        """Take back a `begin` that led to nothing, and the output folder if it is empty then."""
        shutil.rmtree(self.path)
        with suppress(OSError):
            self.path.parent.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other drivers out while this one works.

        Raises:
            ConfigError: if one is already at work here.
        """
        with (self.path / ".lock").open("w") as file:
            until = time.monotonic() + _SECONDS_OF_A_LOOK
            while not _is_taken(file):
                if time.monotonic() >= until:
                    problem = "another process is running this study"
                    raise ConfigError("", problem, "wait, or stop it", str(self.path))
                time.sleep(_SECONDS_OF_A_LOOK / 10)
            for left in (self._stop, self.progress):  # by or for an earlier driver
                left.unlink(missing_ok=True)
            try:
                yield
            finally:
                self._stop.unlink(missing_ok=True)
                self.progress.unlink(missing_ok=True)

    def is_locked(self) -> bool:
        """Whether a driver is at work here."""
        try:
            with (self.path / ".lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def ask_to_stop(self) -> None:
        """Ask the driver at work here, on whatever machine, to end as after Ctrl-C."""
        self._write(self._stop, "")

    def is_asked_to_stop(self) -> bool:
        """Whether somebody did."""
        return self._stop.exists()

    @property
    def progress(self) -> Path:
        """How far a driver has got, as JSON."""
        return self.path / "progress.json"

    @property
    def _stop(self) -> Path:
        return self.path / "stop"

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"

    def runs(self) -> pd.DataFrame:
        """MLflow's run id of each trial (see `Tracker.runs`); empty before a session has ended."""
        path = self.tables / "runs.parquet"
        return pd.read_parquet(path) if path.exists() else pd.DataFrame()

    def has_state(self) -> bool:
        """Whether a study was begun here."""
        return (self.path / "state.json").exists()

    def tracking_uri(self) -> str:
        """MLflow's store of the study that was begun here."""
        return str(self.state().get("tracking_uri", self.default_tracking_uri))

    def state(self) -> dict[str, Any]:
        """What `write_state` wrote."""
        state: dict[str, Any] = json.loads((self.path / "state.json").read_text())
        return state

    def write_state(self, changes: dict[str, Any]) -> None:
        """Lay changes over the state."""
        file = self.path / "state.json"
        state = self.state() if file.exists() else {}
        self._write(file, json.dumps({**state, **changes}, indent=2) + "\n")

    def confirmations(self) -> list[Confirmation]:
        """Rounds of confirmation that were asked for, in their order."""
        if not self.confirm.exists():
            return []
        rounds = json.loads(self.confirm.read_text())
        found = [
            build(Confirmation, each, source=f"{self.confirm}[{index}]")
            for index, each in enumerate(rounds)
        ]
        own = self.exists() and self.study().has_own_round()  # noted by an `extend` that was killed
        return [each for each in found if each.round > 1 or not own]

    def add_confirmation(self, confirmation: Confirmation) -> None:
        """Note a round before it begins, so that whoever resumes the study goes on with it; one
        that is there already is not noted again."""
        known = self.confirmations()
        if any(each.round == confirmation.round for each in known):
            return
        in_order = sorted((*known, confirmation), key=lambda each: each.round)
        rounds = [to_dict(each) for each in in_order]
        self._write(self.confirm, json.dumps(rounds, indent=2) + "\n")

    def checkpoint(self, block: Block) -> Path:
        """Where a block in flight is saved."""
        return self.path / "checkpoints" / f"{block.id}.pt"

    def record(self, block: Block, result: BlockResult) -> None:
        """Keep a finished block for good, and drop its checkpoint."""
        write_parquet(result.curves, self._part(block, "curves"))
        for kind, frame in result.recorded.items():
            if not frame.empty:
                write_parquet(frame, self._part(block, kind))
        write_parquet(result.members, self._part(block, "members"))
        for left in (self.checkpoint(block), self._failure(block)):
            left.unlink(missing_ok=True)

    def record_failure(self, block: Block, error: str) -> None:
        """Keep it that a block could not be trained: an empty members table, and the reason."""
        self._failure(block).parent.mkdir(parents=True, exist_ok=True)
        self._failure(block).write_text(error + "\n")
        write_parquet(pd.DataFrame(), self._part(block, "members"))

    def recorded_failure(self, block: Block) -> str:
        """Why a block could not be trained."""
        path = self._failure(block)
        return path.read_text().strip() if path.exists() else "unknown error"

    def failures(self) -> dict[str, str]:
        """Blocks that could not be trained, and why."""
        found = sorted((self.path / "parts").glob("*.error.txt"))
        return {path.name.removesuffix(".error.txt"): path.read_text().strip() for path in found}

    def recorded(self, block: Block) -> pd.DataFrame | None:
        """The members table of a finished block, empty if it failed; None if it is not finished."""
        path = self._part(block, "members")
        return pd.read_parquet(path) if path.exists() else None

    def part(self, block: Block, kind: str) -> pd.DataFrame:
        """One table of a finished block (see `gather`)."""
        return pd.read_parquet(self._part(block, kind))

    def parts(self, kind: str) -> list[Path]:
        """The files of one table, a finished block each, in the order of their names."""
        return sorted((self.path / "parts").glob(f"*.{kind}.parquet"))

    def gather(self, kind: str) -> pd.DataFrame:
        """One table of all finished blocks: `members`, `curves` or what was recorded beside them
        (see `recording.KINDS`); empty if there are none.

        Where the parts are gone, it is the table that was gathered before.
        """
        parts = self.parts(kind)
        gathered = self.tables / f"{kind}.parquet"
        if not parts:
            return pd.read_parquet(gathered) if gathered.exists() else pd.DataFrame()
        frames = [frame for path in parts if not (frame := pd.read_parquet(path)).empty]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def write_tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Write and return the members and the curves table of all finished blocks."""
        members, curves = self.gather("members"), self.gather("curves")
        write_parquet(members, self.tables / "members.parquet")
        write_parquet(curves, self.tables / "curves.parquet")
        for kind in KINDS:
            if not (frame := self.gather(kind)).empty:
                write_parquet(frame, self.tables / f"{kind}.parquet")
        return members, curves

    def sweep(self) -> None:
        """Remove what only an unfinished study needs."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def _failure(self, block: Block) -> Path:
        return self.path / "parts" / f"{block.id}.error.txt"

    def _part(self, block: Block, kind: str) -> Path:
        return self.path / "parts" / f"{block.id}.{kind}.parquet"

    @staticmethod
    def _write(path: Path, text: str) -> None:
        temporary = path.with_suffix(".part")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def _is_taken(file: IO[str]) -> bool:
    """Take a lock that nobody has; whether it is taken."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Each dotted key whose values differ, with both."""
    changed = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += _differences(before, after, f"{prefix}{key}.")
        elif before != after:
            changed.append(f"{prefix}{key} is {show(before)} there and {show(after)} in yours")
    return changed
