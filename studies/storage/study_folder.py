"""A study's folder: what a study leaves on disk, and the truth that a resumed study starts from."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from dynloss_core import keys
from dynloss_core.atomic import PART, write_atomically
from dynloss_core.config import ConfigError, build, to_dict
from search_spaces.documents import read_document
from studies.blocks.block import CHECKPOINTS
from studies.blocks.recorder import KINDS
from studies.definition.study import Study
from studies.definition.study_files import study_from_mapping
from studies.search.confirmation import Confirmation
from studies.storage.begun import Begun, check_unchanged, differences
from studies.storage.lock import exclusive, is_taken
from studies.storage.parts import Parts
from studies.storage.sealed_files import read_json, read_table, write_json, write_parquet
from studies.storage.study_paths import StudyPaths

__all__ = ["DEFAULT", "StudyFolder"]

DEFAULT = "default"
"""What a folder keeps of MLflow's store if it is the one beside it, wherever both are moved."""

_BEGUN = {"begun.json", "state.json", ".lock"}  # what a begin may leave if killed
_WRITTEN = ("", "parts", "tables", "figures", CHECKPOINTS)
_RUNS = "delete it: the next `dynloss sync` writes it again"


class StudyFolder(StudyPaths):
    """The folder of one study.

    Args:
        path: where it is; its parent is the output folder that studies share.
    """

    @property
    def parts(self) -> Parts:
        """The tables of its finished blocks."""
        return Parts(self.path, self.resume_command)

    @classmethod
    def of(cls, study: Study, out: Path) -> StudyFolder:
        """Where a study of this name lies in an output folder."""
        return cls(out / study.name)

    def exists(self) -> bool:
        """Whether a study was begun here: more than what a begin leaves that was killed."""
        if os.access(self.definition, os.R_OK):
            return True
        return self.begun.exists() and bool(self._names() - _BEGUN)

    def study(self) -> Study:
        """The study that was begun here, with what was changed since and changes no result.

        Raises:
            ConfigError: if there is none, a file of it is damaged, or its definition was edited.
        """
        if not self.exists():
            raise ConfigError("", "holds no study", "run one first", str(self.path))
        begun = Begun.read(self.begun)
        if begun is not None and not self.definition.exists():
            return begun.study
        try:
            document = read_document(self.definition)
            study = study_from_mapping(document, source=str(self.definition))
        except ConfigError as error:
            if begun is None:
                raise
            remedy = "delete it: it is written again when the study goes on"
            raise ConfigError(error.key, error.problem, remedy, error.source) from None
        if begun is None:
            return study
        known = begun.study.extensions
        if study.extensions == known[: len(study.extensions)]:  # killed while extending
            study = replace(study, extensions=known)
        check_unchanged(begun.study, study, self.definition)
        return study

    def identity(self) -> str:
        """What finds the study's runs in MLflow again.

        Raises:
            ConfigError: if the file that holds it is damaged.
        """
        begun = Begun.read(self.begun)
        return begun.study_id if begun is not None else str(self.state()["study_id"])

    def identify(self, study: Study, identity: str | None = None) -> None:
        """Give the study an identity, a new one by default, and keep what it is from now on."""
        known = Begun(identity or uuid.uuid4().hex, study)
        known.write(self.begun)
        self.write_state({"study_id": known.study_id})

    @property
    def is_identified(self) -> bool:
        """Whether it is kept what the study was begun as."""
        return self.begun.exists()

    def begin(self, study: Study, *, resume: bool) -> bool:
        """Make the folder ready for a study, or check that it holds this one; whether it is new.

        Whoever may not be alone here holds the lock (see `locked`).

        Raises:
            ConfigError: if it holds another study, or this one and `resume` is false, or if it
                cannot be written; nothing is changed then.
        """
        if self.exists():
            known = self.study()
            if known.hash not in (study.hash, replace(study, extensions=known.extensions).hash):
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
        self._refuse_foreign()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.identify(study)
            self.write_definition(study)
        except OSError as error:
            raise ConfigError(
                "", f"cannot be written: {error.strerror}", "choose another --out", str(self.path)
            ) from None
        return True

    def _refuse_foreign(self) -> None:
        """Refuse a folder that holds something and no study."""
        if self.path.exists() and self._names() - _BEGUN:
            raise ConfigError(
                "", "is not empty and holds no study", "choose another --out", str(self.path)
            )

    def _names(self) -> set[str]:
        """What is in the folder, but for files that are being written."""
        try:
            return {path.name for path in self.path.iterdir() if path.suffix != PART}
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            raise ConfigError("", problem, "choose another --out", str(self.path)) from None

    def differences(self, study: Study) -> list[str]:
        """What differs between the study that was begun here and another, with both values."""
        return differences(self.study(), study)

    def write_definition(self, study: Study) -> None:
        """Keep a study's resolved definition, and what it was begun as where it was extended."""
        begun = Begun.read(self.begun)
        if begun is not None and begun.study.hash != study.hash:
            Begun(begun.study_id, study).write(self.begun)
        write_atomically(self.definition, yaml.safe_dump(to_dict(study), sort_keys=False))

    def has_training(self) -> bool:
        """Whether anything was trained here: a block that is finished, or saved in flight."""
        return any((self.path / name).exists() for name in ("parts", CHECKPOINTS))

    def discard(self) -> None:
        """Take back a `begin` that led to nothing, and the output folder if it is empty then."""
        aside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:12]}{PART}")
        self.path.replace(aside)  # at once: whoever waits for the lock makes the folder anew
        shutil.rmtree(aside)
        with suppress(OSError):
            self.path.parent.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other drivers out while this one works; the folder is made, and goes again if no
        study was begun in it.

        Raises:
            ConfigError: if one is already at work here, or the folder cannot be written.
        """
        if not self.exists():
            self._refuse_foreign()
        with exclusive(self.lock) as lock:
            self._sweep_parts()
            for left in (self.stop_request, self.progress):  # by or for an earlier driver
                left.unlink(missing_ok=True)
            try:
                yield
            finally:
                if lock.is_in_place():  # else it was discarded, and another's may lie here by now
                    self.stop_request.unlink(missing_ok=True)
                    self.progress.unlink(missing_ok=True)
                    if not self.exists():
                        self.discard()

    def is_locked(self) -> bool:
        """Whether a driver is at work here."""
        return is_taken(self.lock)

    def _sweep_parts(self) -> None:
        """Remove what writers that were killed left half written."""
        for name in _WRITTEN:
            for path in (self.path / name).glob(f"*{PART}"):
                path.unlink(missing_ok=True)

    def ask_to_stop(self) -> None:
        """Ask the driver at work here, on whatever machine, to end as after Ctrl-C."""
        write_atomically(self.stop_request, "")

    def is_asked_to_stop(self) -> bool:
        """Whether somebody did."""
        return self.stop_request.exists()

    def runs(self) -> pd.DataFrame:
        """MLflow's run id of each trial (see `Tracker.runs`); empty before a session has ended."""
        path = self.tables / "runs.parquet"
        return read_table(path, _RUNS) if path.exists() else pd.DataFrame()

    def tracking_uri(self) -> str:
        """MLflow's store of the study that was begun here."""
        state = self.state()
        uri = str(state.get("tracking_uri", DEFAULT))
        if uri == DEFAULT:
            return self.default_tracking_uri
        if "place" not in state and uri.startswith("sqlite:") and uri.endswith("/mlflow.db"):
            return self.default_tracking_uri  # kept as an address before folders could move
        return uri

    def state(self) -> dict[str, Any]:
        """What `write_state` wrote; empty if nothing was."""
        file = self.path / "state.json"
        if not file.exists():
            return {}
        remedy = f"delete it: `{self.resume_command}` writes it again"
        state: dict[str, Any] = read_json(file, remedy)
        return state

    def write_state(self, changes: dict[str, Any]) -> None:
        """Lay changes over the state."""
        write_json(self.path / "state.json", {**self.state(), **changes})

    def confirmations(self) -> list[Confirmation]:
        """Rounds of confirmation that were asked for, in their order."""
        if not self.confirm.exists():
            return []
        remedy = "restore it: without it nobody knows what its rounds rerun"
        content = read_json(self.confirm, remedy)
        rounds = content["rounds"] if isinstance(content, dict) else content
        planned = [
            build(Confirmation, entry, source=f"{self.confirm}[{index}]")
            for index, entry in enumerate(rounds)
        ]
        own = self.exists() and self.study().has_own_round()  # noted by an `extend` that was killed
        return [entry for entry in planned if entry.round > 1 or not own]

    def refuse_lost_rounds(self) -> None:
        """Refuse to plan anything while rounds were trained that nobody knows any more.

        Raises:
            ConfigError: naming the round.
        """
        own = self.study().has_own_round()
        known = {keys.SEARCH, *(entry.phase for entry in self.confirmations())}
        known |= {keys.CONFIRM} if own else set()
        for part in self.parts.files("members"):
            phase = self.parts.block_of(part).rsplit("-", 2)[0]
            if phase not in known:
                problem = f"lacks the round {phase}, which was trained"
                remedy = f"restore it, or delete {part.parent / phase}-* to give the round up"
                raise ConfigError("", problem, remedy, str(self.confirm))

    def add_confirmation(self, confirmation: Confirmation) -> None:
        """Note a round before it begins, so that whoever resumes the study goes on with it; one
        that is there already is not noted again."""
        known = self.confirmations()
        if any(each.round == confirmation.round for each in known):
            return
        in_order = sorted((*known, confirmation), key=lambda each: each.round)
        write_json(self.confirm, {"rounds": [to_dict(each) for each in in_order]})

    def write_tables(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Keep gathered tables; of what may be recorded beside evaluations, those with rows."""
        for kind, frame in tables.items():
            if kind not in KINDS or not frame.empty:
                write_parquet(frame, self.tables / f"{kind}.parquet")

    def sweep(self) -> None:
        """Remove what only an unfinished study needs."""
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
