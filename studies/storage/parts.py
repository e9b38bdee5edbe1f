"""The tables of finished blocks, one file per block and kind, from which a study is rebuilt.

A block is finished once its members table exists. That table names the block's other tables, so
that a lost one is noticed.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pandas as pd

from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError
from studies.blocks.block import Block, BlockResult
from studies.blocks.recorder import KINDS
from studies.storage.sealed_files import marks_of, read_table, write_parquet

__all__ = ["Parts"]


class Parts:
    """The tables of the finished blocks of a study.

    Args:
        folder: the folder of the study.
        resume_command: command that resumes the study, for remedies.
    """

    def __init__(self, folder: Path, resume_command: str) -> None:
        self._folder, self._resume_command = folder, resume_command
        self._path = folder / "parts"

    def record(self, block: Block, result: BlockResult) -> None:
        """Record a finished block's tables, and drop its checkpoint."""
        tables = {"curves": result.curves}
        tables |= {kind: frame for kind, frame in result.recorded.items() if not frame.empty}
        for kind, frame in tables.items():
            write_parquet(frame, self._part(block.id, kind))
        marks = {"kinds": ",".join(tables)}
        write_parquet(result.members, self._part(block.id, "members"), marks)
        for leftover in (block.checkpoint(self._folder), self._failure(block)):
            leftover.unlink(missing_ok=True)

    def record_failure(self, block: Block, error: str) -> None:
        """Record that a block failed, and why: an empty members table, and the reason."""
        write_atomically(self._failure(block), error + "\n")
        write_parquet(pd.DataFrame(), self._part(block.id, "members"), {"kinds": ""})

    def failures(self) -> dict[str, str]:
        """Blocks that could not be trained, and why."""
        reasons = {}
        for path in sorted(self._path.glob("*.error.txt")):
            with suppress(OSError):  # the empty members table says that it failed
                text = path.read_text(encoding="utf-8", errors="replace")
                reasons[path.name.removesuffix(".error.txt")] = text.strip()
        return reasons

    def recorded(self, block: Block) -> pd.DataFrame | None:
        """The members table of a finished block, empty if it failed; None if it is not finished."""
        path = self._part(block.id, "members")
        return self._read(path) if path.exists() else None

    def refuse(self, block: Block) -> NoReturn:
        """Refuse what is recorded of a block.

        Raises:
            ConfigError: always.
        """
        path = self._part(block.id, "members")
        problem = "does not hold the networks that the study expects there"
        optuna = self._folder / "optuna.db"
        remedy = f"delete {optuna}, which is rebuilt; if that does not help, {self._remedy(path)}"
        raise ConfigError("", problem, remedy, str(path))

    def table(self, block: Block, kind: str) -> pd.DataFrame:
        """One table of a finished block (see `gather`)."""
        return self._read(self._part(block.id, kind))

    def files(self, kind: str) -> list[Path]:
        """The files of one table, one per finished block, sorted by name."""
        return sorted(self._path.glob(f"*.{kind}.parquet"))

    def gather(self, kind: str) -> pd.DataFrame:
        """One table of all finished blocks: `members`, `curves` or what was recorded beside them
        (see `recorder.KINDS`); empty if there are none.

        If the parts are gone, this is the table that was gathered before.

        Raises:
            ConfigError: if a part is damaged or missing; it names the remedy.
        """
        finished = self.files("members")
        gathered = self._folder / "tables" / f"{kind}.parquet"
        if not finished:
            remedy = "restore it: the parts that it was gathered from are gone"
            return read_table(gathered, remedy) if gathered.exists() else pd.DataFrame()
        frames = [
            frame for path in self._complete(finished, kind) if len(frame := self._read(path))
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def _complete(self, finished: list[Path], kind: str) -> list[Path]:
        """The parts of one table, one per finished block that has it."""
        if kind == "members":
            return finished
        paths = []
        for members in finished:
            path = self._part(self.block_of(members), kind)
            kinds = marks_of(members, self._remedy(members)).get("kinds")
            if kinds is not None:
                wanted = kind in kinds.split(",")
            else:  # written by a version that did not keep the kinds
                wanted = path.exists() or (kind == "curves" and len(self._read(members)) > 0)
            if wanted:  # a missing one is refused when it is read
                paths.append(path)
        return paths

    def gather_all(self) -> dict[str, pd.DataFrame]:
        """Each table of all finished blocks, by kind."""
        return {kind: self.gather(kind) for kind in ("members", "curves", *KINDS)}

    def _failure(self, block: Block) -> Path:
        return self._path / f"{block.id}.error.txt"

    def _part(self, block_id: str, kind: str) -> Path:
        return self._path / f"{block_id}.{kind}.parquet"

    @staticmethod
    def block_of(part: Path) -> str:
        """The id of the block that a part belongs to."""
        return part.name.removesuffix(".parquet").rpartition(".")[0]

    def _read(self, part: Path) -> pd.DataFrame:
        return read_table(part, self._remedy(part))

    def _remedy(self, part: Path) -> str:
        """The remedy for a part that is damaged or missing: its block is trained again."""
        members = self._part(self.block_of(part), "members")
        return f"delete {members}, then `{self._resume_command}` trains its block again"
