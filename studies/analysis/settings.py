"""Scientific settings: their names, the rows of each, and the points of the arms there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dynloss_core import keys
from studies.analysis.question import Question

__all__ = ["by_setting", "label_of", "point_of"]


def label_of(setting: Mapping[str, object]) -> str:
    """`width 50`; empty if the study has no scientific setting."""
    return ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in setting.items())


def by_setting(
    rows: pd.DataFrame, scientific: Sequence[str]
) -> list[tuple[dict[str, object], pd.DataFrame]]:
    """The rows of each scientific setting."""
    if not scientific:
        return [({}, rows)]
    return [
        (dict(zip(scientific, map(_plain, values), strict=True)), group)
        for values, group in rows.groupby(list(scientific))
    ]


def point_of(question: Question, rows: pd.DataFrame, arm: str) -> dict[str, object]:
    """The parameters that an arm was trained with, as plain values, with the period in steps."""
    row = rows[rows[keys.ARM] == arm].iloc[0]
    names = [name for name in question.spaces[arm].parameters if name in rows.columns]
    plain = {name: _plain(row[name]) for name in names}
    return {name: None if pd.isna(value) else value for name, value in plain.items()}


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python value."""
    return value.item() if hasattr(value, "item") else value
