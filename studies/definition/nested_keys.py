"""Nested mappings: dotted keys, as in `budget.total`, and mappings laid over others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynloss_core.config import ConfigError, show

__all__ = ["assign", "merged"]


def assign(document: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested mappings, creating those that are missing on the way."""
    *parents, leaf = key.split(".")
    for index, parent in enumerate(parents):
        below = document.setdefault(parent, {})
        if below is None:
            below = document[parent] = {}
        if not isinstance(below, dict):
            where = ".".join(parents[: index + 1])
            raise ConfigError(
                where, f"{show(below)} has no keys", f"set {where} as a whole", "--set"
            )
        document = below
    document[leaf] = value


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with the entries of another laid over it, nested ones entry by entry."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merged(old, value)
        result[key] = value
    return result
