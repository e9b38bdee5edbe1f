"""Whether a database of another program has the columns that we know."""

from __future__ import annotations

import sqlalchemy as sa

__all__ = ["has_columns"]


def has_columns(engine: sa.Engine, expected: sa.MetaData) -> bool:
    """Whether the expected tables are there, with their columns and no others.

    Args:
        engine: of the database.
        expected: the tables.
    """
    present = sa.MetaData()
    present.reflect(engine, only=lambda name, _: name in expected.tables, resolve_fks=False)
    return _columns(present) == _columns(expected)


def _columns(metadata: sa.MetaData) -> dict[str, set[str]]:
    return {table.name: set(table.c.keys()) for table in metadata.tables.values()}
