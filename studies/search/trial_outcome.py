"""How a trial of a search ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from search_spaces import Point

__all__ = ["EndedTrial", "State"]

State = Literal["complete", "stopped", "failed"]


@dataclass(frozen=True)
class EndedTrial:
    """A trial that has ended.

    Args:
        number: its number within its arm and search.
        point: its point.
        state: `complete` with a value, `stopped` early, or `failed`: it diverged, or could not be
            trained.
        value: mean of the objective over the seeds; None unless it is complete.
        attributes: what else is recorded of it: the value of each seed, or why there is none.
        at_rungs: its values at the rungs where it was compared, by step (see `early_stopping`).
        curve: its objective at the evaluations, by step, for those who look on.
        asked_at: when it was asked for.
    """

    number: int
    point: Point
    state: State
    value: float | None
    attributes: dict[str, Any]
    at_rungs: Mapping[int, float] = field(default_factory=dict)
    curve: Mapping[int, float] = field(default_factory=dict)
    asked_at: datetime | None = None
