"""The tables of a study, gathered from the parts of its blocks.

Each is marked with the stamp of the parts that it was gathered from: as long as no part is written,
replaced or deleted, it is read in their place, and not block by block again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd
import pyarrow as pa

from dynloss_core.config import ConfigError
from studies.blocks.recorder import KINDS
from studies.storage.sealed_files import marks_in, marks_of, read_arrow, write_parquet

__all__ = ["Frames", "GatheredTables", "concatenated", "written_tables"]

_TABLES_AT_ONCE = 256
_STAMP, _KINDS = "gathered_from", "kinds"  # marks


@dataclass(frozen=True)
class GatheredTables:
    """The tables of all finished blocks.

    Args:
        of_kind: `members`, `curves` and the others by kind; empty frames if there are none.
        stamp: of the parts when they were gathered (see `Parts.stamp`).
    """

    of_kind: Mapping[str, pd.DataFrame]
    stamp: str

    def write(self, folder: Path) -> None:
        """Write them to a folder, but for those that are there already; of what a study need not
        record, only what has rows."""
        written = {
            kind: table
            for kind, table in self.of_kind.items()
            if kind not in KINDS or not table.empty
        }
        marks = {_KINDS: ",".join(written), _STAMP: self.stamp}
        for kind, table in written.items():
            path = folder / f"{kind}.parquet"
            if not self.stamp or _stamp_of(path) != self.stamp:
                write_parquet(table, path, marks)


def written_tables(
    folder: Path, kinds: Collection[str], stamp: str
) -> dict[str, pd.DataFrame] | None:
    """Tables that `GatheredTables.write` wrote, by kind; None if they were not gathered from parts
    of this stamp, or are damaged."""
    if _stamp_of(folder / "members.parquet") != stamp:
        return None
    with suppress(ConfigError, KeyError):
        known = marks_of(folder / "members.parquet", "")[_KINDS].split(",")
        tables = {
            kind: read_arrow(folder / f"{kind}.parquet", "") for kind in kinds if kind in known
        }
        if all(marks_in(table.schema)[_STAMP] == stamp for table in tables.values()):
            return {
                kind: tables[kind].to_pandas() if kind in tables else pd.DataFrame()
                for kind in kinds
            }
    return None


def concatenated(tables: Iterable[pa.Table]) -> pd.DataFrame:
    """Tables one below the other, as pandas would put their frames; empty ones are left out.

    Neighbours of one form become one frame, so that the cost is by row and not by table.
    """
    filled = (table for table in tables if len(table))
    frames = [_joined(alike).to_pandas() for _, alike in groupby(filled, _form)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


class Frames:
    """Tables as frames, each made when it is asked for, at a cost by row and not by table.

    Args:
        tables: the tables, each with its name.
    """

    def __init__(self, tables: Iterable[tuple[str, pa.Table]]) -> None:
        self._rows: dict[str, tuple[pd.DataFrame, int, int]] = {}
        for _, pairs in groupby(tables, lambda pair: _form(pair[1])):
            lengths: dict[str, int] = {}
            frame, start = _joined(_noted(pairs, lengths)).to_pandas(), 0
            for name, length in lengths.items():
                self._rows[name] = frame, start, start + length
                start += length

    def pop(self, name: str) -> pd.DataFrame | None:
        """A frame, once; None if there is none of that name."""
        if name not in self._rows:
            return None
        frame, start, end = self._rows.pop(name)
        own = frame.iloc[start:end]
        own.index = pd.RangeIndex(len(own))
        return own


def _noted(pairs: Iterable[tuple[str, pa.Table]], lengths: dict[str, int]) -> Iterator[pa.Table]:
    for name, table in pairs:
        lengths[name] = len(table)
        yield table


def _joined(alike: Iterable[pa.Table]) -> pa.Table:
    """Tables of one form, one below the other. A few at a time: what a small table takes beside its
    rows, a hundred times as much, is let go."""
    tables, small = [], []
    for table in alike:
        small.append(table)
        if len(small) == _TABLES_AT_ONCE:
            tables.append(pa.concat_tables(small).combine_chunks())
            small = []
    return pa.concat_tables([*tables, *small])


def _form(table: pa.Table) -> tuple[pa.Schema, bytes]:
    """What decides which frame a table becomes: its columns, and what pandas notes of them."""
    metadata = table.schema.metadata or {}
    return table.schema.remove_metadata(), metadata.get(b"pandas", b"")


def _stamp_of(path: Path) -> str | None:
    """The stamp that a table was written with; None if there is none."""
    with suppress(ConfigError):
        return marks_of(path, "").get(_STAMP)
    return None
