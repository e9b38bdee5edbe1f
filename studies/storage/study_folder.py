"""A study's folder: what a study leaves on disk, and what a resumed study starts from."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from dynloss_core.atomic import PART
from dynloss_core.config import ConfigError
from dynloss_core.own_command import own_command
from studies.blocks.block import CHECKPOINTS
from studies.definition.study import Study
from studies.object_store import LocalDisk, ObjectStore
from studies.storage.lock import exclusive
from studies.storage.mirror import kept_in_store, refresh
from studies.storage.parts import Parts
from studies.storage.sealed_files import read_json, read_table, write_json
from studies.storage.study_paths import BEGUN, StudyPaths

__all__ = ["StudyFolder"]

_WRITTEN = ("", "parts", "tables", "figures", CHECKPOINTS)


class StudyFolder(StudyPaths):
    """The folder of one study.

    Args:
        path: the path of the folder; its parent is the output folder that studies share.
    """

    @property
    def parts(self) -> Parts:
        """The tables of its finished blocks."""
        return Parts(self.path, self.resume_command)

    @classmethod
    def of(cls, study: Study, out: Path) -> StudyFolder:
        """The folder of a study in an output folder, up to date with the store that keeps it."""
        folder = cls(out / study.name)
        refresh(folder)
        return folder

    def refuse_foreign(self) -> None:
        """Refuse a folder that is not empty and holds no study."""
        if self.path.exists() and self.names() - BEGUN:
            raise ConfigError(
                "", "is not empty and holds no study", "choose another --out", str(self.path)
            )

    def has_training(self) -> bool:
        """Whether anything was trained here: a block that is finished, or saved while in flight."""
        return any((self.path / name).exists() for name in ("parts", CHECKPOINTS))

    def discard(self) -> None:
        """Remove the folder of a start that led to nothing, and the output folder if then empty."""
        aside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:12]}{PART}")
        self.path.replace(aside)  # in one step: whoever waits for the lock makes a new folder
        shutil.rmtree(aside)
        with suppress(OSError):
            self.path.parent.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other drivers out while this one works. The folder is created, and removed again if
        no study was begun in it.

        Raises:
            ConfigError: if a driver is already running here, or the folder cannot be written.
        """
        if not self.exists():
            self.refuse_foreign()
        with exclusive(self.lock) as lock, kept_in_store(self):
            self._sweep_parts()
            for leftover in (self.stop_request, self.progress):  # by or for an earlier driver
                leftover.unlink(missing_ok=True)
            try:
                yield
            finally:
                if lock.is_in_place():  # if discarded, another driver's folder may be here by now
                    self.stop_request.unlink(missing_ok=True)
                    self.progress.unlink(missing_ok=True)
                    if not self.exists():
                        self.discard()

    def _sweep_parts(self) -> None:
        """Remove files that writers left half written when they were killed."""
        for name in _WRITTEN:
            for path in (self.path / name).glob(f"*{PART}"):
                path.unlink(missing_ok=True)

    def runs(self) -> pd.DataFrame:
        """MLflow's run id of each trial (see `Tracker.runs`); empty before a session has ended."""
        path = self.tables / "runs.parquet"
        remedy = f"delete it: the next `{own_command('sync')}` writes it again"
        return read_table(path, remedy) if path.exists() else pd.DataFrame()

    def state(self) -> dict[str, Any]:
        """The state that `write_state` wrote; empty before it wrote any."""
        file = self.path / "state.json"
        if not file.exists():
            return {}
        remedy = f"delete it: `{self.resume_command}` writes it again"
        state: dict[str, Any] = read_json(file, remedy)
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        """Write the state."""
        write_json(self.path / "state.json", state)

    def sweep(self) -> None:
        """Remove what only an unfinished study needs."""
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        self.counts.unlink(missing_ok=True)
        if self.store is not None:
            with suppress(OSError):
                for name in self.store.list(f"{CHECKPOINTS}/"):
                    self.store.delete(name)

    @property
    def checkpoints(self) -> ObjectStore:
        """Where blocks in flight are saved, by whatever process trains them."""
        return self.store or LocalDisk(self.path)
