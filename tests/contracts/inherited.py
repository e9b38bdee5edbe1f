"""Contracts inherited for many entries at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def inherited(contract: type, attribute: str, entries: Mapping[str, Any]) -> dict[str, type]:
    """A class of tests for each entry by name, as if each were written down."""
    names = {f"Test_{name.replace(' ', '_')}": entry for name, entry in entries.items()}
    return {name: type(name, (contract,), {attribute: entry}) for name, entry in names.items()}
