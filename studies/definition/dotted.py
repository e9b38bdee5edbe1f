"""Dotted keys, as in `budget.total`, in nested mappings."""

from __future__ import annotations

from typing import Any

from dynloss_core.config import ConfigError, show

__all__ = ["assign"]


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
