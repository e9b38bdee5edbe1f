"""The tables of finished blocks, one file per block and kind, from which a study is rebuilt.

A block is finished once its members table exists. That table names the block's other tables, so
that a lost one is noticed.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pyarrow as pa

from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError
from studies.blocks.block import Block, BlockResult
from studies.blocks.recorder import KINDS
from studies.storage.block_counts import failures_in
from studies.storage.gathered_tables import (
    Frames,
    GatheredTables,
    concatenated,
    written_tables,
)
from studies.storage.sealed_files import marks_in, read_arrow, read_table, write_parquet

__all__ = ["Parts"]

_READERS = min(4, os.cpu_count() or 1)  # threads: most of their time is Arrow's, beside Python's
_FILES_AT_ONCE = 256  # of each thread


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
        for leftover in (self._folder / block.checkpoint, self._failure(block)):
            leftover.unlink(missing_ok=True)

    def record_failure(self, block: Block, error: str) -> None:
        """Record that a block failed, and why: an empty members table, and the reason."""
        write_atomically(self._failure(block), error + "\n")
        write_parquet(pd.DataFrame(), self._part(block.id, "members"), {"kinds": ""})

    def failures(self) -> dict[str, str]:
        """Blocks that could not be trained, and why."""
        return failures_in(self._path)

    def recorded(self, block: Block) -> pd.DataFrame | None:
        """The members table of a finished block, empty if it failed; None if it is not finished."""
        path = self._part(block.id, "members")
        return self._read(path) if path.exists() else None

    def all_recorded(self) -> Frames:
        """What `recorded` gives, of every block by its id, read together. Parts that cannot be read
        are left out."""
        return Frames(self._readable())

    @contextmanager
    def read_ahead(self) -> Iterator[Callable[[], Frames]]:
        """What `all_recorded` gives, read while the caller waits for something else: the function
        that returns it."""
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit(self.all_recorded).result

    def _readable(self) -> Iterator[tuple[str, pa.Table]]:
        paths = self.files("members")
        for path, table in zip(paths, self._read_side_by_side(paths), strict=True):
            if not isinstance(table, ConfigError):
                yield self.block_of(path), table

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
        return self._gather((kind,), self.stamp())[kind]

    def gather_all(self) -> GatheredTables:
        """Each table of all finished blocks.

        Raises:
            ConfigError: as `gather`.
        """
        stamp = self.stamp()  # before they are read: a part that is written meanwhile changes it
        return GatheredTables(self._gather(("members", "curves", *KINDS), stamp), stamp)

    def stamp(self) -> str:
        """Text that changes when a part is written, replaced or deleted; empty without a finished
        block."""
        if not self._path.is_dir():
            return ""
        with os.scandir(self._path) as entries:
            parts = [(entry.name, entry.stat()) for entry in entries]
        listed = sorted(
            (name, stat.st_size, stat.st_mtime_ns)
            for name, stat in parts
            if name.endswith(".parquet")
        )
        if not any(name.endswith(".members.parquet") for name, _, _ in listed):
            return ""
        return hashlib.sha256(repr(listed).encode()).hexdigest()

    def _gather(self, kinds: Collection[str], stamp: str) -> dict[str, pd.DataFrame]:
        if not stamp:
            return {kind: self._gathered_before(kind) for kind in kinds}
        tables = written_tables(self._folder / "tables", kinds, stamp)
        if tables is not None:
            return tables
        finished = self.files("members")
        known: dict[Path, Collection[str]] = {}  # the kinds of each block's tables

        def members() -> Iterator[pa.Table]:
            for path, table in zip(finished, self._read_all(finished), strict=True):
                known[path] = self._kinds(path, table.schema, len(table))
                yield table

        gathered = {"members": concatenated(members())}
        for kind in kinds:
            if kind != "members":
                paths = [self._part(self.block_of(p), kind) for p in finished if kind in known[p]]
                gathered[kind] = concatenated(self._read_all(paths))
        return gathered

    def _gathered_before(self, kind: str) -> pd.DataFrame:
        """The table that parts which are gone were gathered into."""
        gathered = self._folder / "tables" / f"{kind}.parquet"
        remedy = "restore it: the parts that it was gathered from are gone"
        return read_table(gathered, remedy) if gathered.exists() else pd.DataFrame()

    def _kinds(self, part: Path, schema: pa.Schema, rows: int) -> Collection[str]:
        """The kinds of a finished block's other tables. One that is missing is refused when it is
        read."""
        kinds = marks_in(schema).get("kinds")
        if kinds is not None:
            return kinds.split(",")
        # written by a version that did not keep the kinds
        block = self.block_of(part)
        present = {kind for kind in KINDS if self._part(block, kind).exists()}
        return present | {"curves"} if rows else present

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

    def _read_all(self, parts: Sequence[Path]) -> Iterator[pa.Table]:
        """The tables of parts, in their order; the first that cannot be read is raised."""
        for table in self._read_side_by_side(parts):
            if isinstance(table, ConfigError):
                raise table
            yield table

    def _read_side_by_side(self, parts: Sequence[Path]) -> Iterator[pa.Table | ConfigError]:
        """The tables of parts, in their order, or why one cannot be read. Some are read ahead, so
        many that no thread waits, and so few that they take little memory."""
        chunks = (parts[i : i + _FILES_AT_ONCE] for i in range(0, len(parts), _FILES_AT_ONCE))
        with ThreadPoolExecutor(_READERS) as pool:
            ahead = deque(
                pool.submit(self._tables_in, chunk) for chunk in islice(chunks, _READERS + 1)
            )
            while ahead:
                yield from ahead.popleft().result()
                ahead.extend(pool.submit(self._tables_in, chunk) for chunk in islice(chunks, 1))

    def _tables_in(self, parts: Sequence[Path]) -> list[pa.Table | ConfigError]:
        tables: list[pa.Table | ConfigError] = []
        for part in parts:
            try:
                tables.append(read_arrow(part, self._remedy(part)))
            except ConfigError as error:
                tables.append(error)
        return tables

    def _remedy(self, part: Path) -> str:
        """The remedy for a part that is damaged or missing: its block is trained again."""
        members = self._part(self.block_of(part), "members")
        return f"delete {members}, then `{self._resume_command}` trains its block again"
