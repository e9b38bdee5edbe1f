"""Tables and JSON files that carry a digest of themselves, so that one that was damaged or edited
since it was written is refused.

The digest is a SHA-256 over the whole content, with zeros in its own place. Parquet files keep it
in their metadata, so that any Parquet reader can read them, and have a checksum on each page too.
Files from versions that wrote no digest are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dynloss_core.atomic import atomic_file, write_atomically
from dynloss_core.config import ConfigError, reason_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "SEAL",
    "marks_in",
    "marks_of",
    "read_arrow",
    "read_json",
    "read_table",
    "write_json",
    "write_parquet",
]

SEAL = "sha256"
_OPEN = b"dynloss-sha256=" + b"0" * 64
_SEALED = re.compile(rb"dynloss-sha256=([0-9a-f]{64})")
_MARK = b"dynloss."
_LARGE = 2**20  # bytes, from which on a file is worth several threads
_DAMAGES = (ValueError, KeyError, TypeError, MemoryError, RecursionError, pa.ArrowException)


def write_parquet(frame: pd.DataFrame, path: Path, marks: Mapping[str, str] | None = None) -> None:
    """Write a sealed table, so that a reader sees all of it or nothing.

    Args:
        frame: the table.
        path: the path of the file.
        marks: short texts to keep with it, by name (see `marks_of`).
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    notes = {f"dynloss.{name}": text for name, text in (marks or {}).items()}
    metadata = {**(table.schema.metadata or {}), **notes, "dynloss.seal": _OPEN}
    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, write_page_checksum=True)
    content = buffer.getvalue().to_pybytes()
    if content.count(_OPEN) != 1:
        raise RuntimeError("the table's metadata cannot be sealed")
    sealed = _OPEN[:-64] + hashlib.sha256(content).hexdigest().encode()
    with atomic_file(path) as file:
        file.write(content.replace(_OPEN, sealed))


def read_table(path: Path, remedy: str) -> pd.DataFrame:
    """Read a table that `write_parquet` wrote.

    Args:
        path: the path of the file.
        remedy: what to do if it is missing or damaged.

    Raises:
        ConfigError: naming the file, what is wrong, and the remedy.
    """
    table = read_arrow(path, remedy)
    try:
        frame: pd.DataFrame = table.to_pandas()
    except _DAMAGES as error:
        raise _damaged(path, error, remedy) from None
    return frame


def read_arrow(path: Path, remedy: str) -> pa.Table:
    """As `read_table`, in Arrow's own form.

    Raises:
        ConfigError: as `read_table`.
    """
    content = _read(path, remedy)
    try:
        _check_seal(content)
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        return file.read(use_threads=len(content) > _LARGE)
    except (*_DAMAGES, OSError) as error:  # Arrow's, as the bytes are in memory
        raise _damaged(path, error, remedy) from None


def marks_of(path: Path, remedy: str) -> dict[str, str]:
    """The short texts that `write_parquet` kept with a table.

    Raises:
        ConfigError: as `read_table`.
    """
    try:
        schema = pq.read_schema(path)
    except (*_DAMAGES, OSError) as error:
        _read(path, remedy)  # refuses a missing or unreadable file
        raise _damaged(path, error, remedy) from None
    return marks_in(schema)


def marks_in(schema: pa.Schema) -> dict[str, str]:
    """The same, of a table that was read."""
    return {
        key.removeprefix(_MARK).decode(): text.decode()
        for key, text in (schema.metadata or {}).items()
        if key.startswith(_MARK)
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as sealed JSON, so that a reader sees all of it or nothing."""
    plain = json.loads(json.dumps(content))
    sealed = {**plain, SEAL: _digest(plain)}
    write_atomically(path, json.dumps(sealed, indent=2) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """Read JSON that `write_json` wrote, or an earlier version without a seal.

    Raises:
        ConfigError: naming the file, what is wrong, and the remedy.
    """
    try:
        content = json.loads(_read(path, remedy))
        if isinstance(content, dict) and SEAL in content:
            seal = content.pop(SEAL)
            if seal != _digest(content):
                raise ValueError("its content is not what was written")
    except _DAMAGES as error:
        raise _damaged(path, error, remedy) from None
    return content


def _digest(plain: Any) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_seal(content: bytes) -> None:
    """Raise ValueError if a sealed file is not what was written."""
    seal = _SEALED.search(content)
    if seal is None:
        return
    digest = hashlib.sha256(content[: seal.start(1)])
    digest.update(b"0" * 64)
    digest.update(content[seal.end(1) :])
    if digest.hexdigest().encode() != seal.group(1):
        raise ValueError("its content is not what was written")


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError("", "is missing", remedy, str(path)) from None
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        raise ConfigError("", problem, "make it readable", str(path)) from None


def _damaged(path: Path, error: Exception, remedy: str) -> ConfigError:
    return ConfigError("", f"is damaged: {reason_of(error)[:120]}", remedy, str(path))
