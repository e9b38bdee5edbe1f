"""What the run of a trial holds, whichever backend keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from dynloss_core import keys
from search_spaces import Point
from studies.definition.early_stopping import is_stopped

__all__ = ["CURVES", "TAG", "TrialContent", "cut", "searched_values"]

TAG = "dynloss."
"""Prefix of the suite's own tags."""

CURVES = "curves/"
"""Prefix of the metrics that are curves. MLflow draws the metrics of a prefix together, and those
without one after them: its charts begin with the curves."""

_MAX_TAG_CHARACTERS = 5000

_FINAL = (*keys.EVALUATION_METRICS, *keys.TEST_METRICS, *keys.FINAL_CURVATURE_METRICS)


@dataclass(frozen=True)
class TrialContent:
    """What the run of a finished trial holds beside its curve.

    Args:
        status: FAILED if a network diverged, KILLED if the trial was stopped early.
        metrics: means over the seeds and their standard deviations, under `final_`, or `stopped_`
            for a stopped trial, so that the two are never compared; and the cost.
        tags: what tells the trial from others.
    """

    status: Literal["FINISHED", "KILLED", "FAILED"]
    metrics: dict[str, float]
    tags: dict[str, str]

    @classmethod
    def of(cls, members: pd.DataFrame) -> TrialContent:
        """The content for one trial, from its rows of the members table."""
        stopped = bool(is_stopped(members).any())
        diverged = int(members[keys.DIVERGED].sum())
        status: Literal["FINISHED", "KILLED", "FAILED"] = "KILLED" if stopped else "FINISHED"
        return cls("FAILED" if diverged else status, _metrics(members), _tags(members))


def cut(text: object) -> str:
    """A text that fits into a tag."""
    return str(text)[:_MAX_TAG_CHARACTERS]


def searched_values(point: Point) -> dict[str, float]:
    """The numbers of a point, by name."""
    return {
        name: float(value)
        for name, value in point.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _metrics(members: pd.DataFrame) -> dict[str, float]:
    when = "stopped_" if bool(is_stopped(members).any()) else "final_"
    metrics = {}
    for metric in _FINAL:
        if metric in members and len(values := members[metric].dropna()):
            name = when + metric.removeprefix("final_")
            metrics[name] = float(values.mean())
            metrics[f"{name}_sd"] = float(values.std(ddof=1))
    metrics["diverged_members"] = float(members[keys.DIVERGED].sum())
    metrics[keys.SECONDS] = float(members[keys.SECONDS].sum())
    for name in (keys.CPU_PERCENT, keys.MEMORY, keys.GPU_MEMORY):
        if name in members:
            metrics[f"system/{name}"] = float(members[name].iloc[0])  # of the block's process
    return metrics


def _tags(members: pd.DataFrame) -> dict[str, str]:
    first = members.iloc[0]
    tags = {name: str(first[name]) for name in (keys.CONFIG_HASH, keys.ENGINE)}
    tags[keys.DIVERGED] = str(bool(members[keys.DIVERGED].any())).lower()
    for name in (keys.ORIGIN, keys.DEVICE, keys.NODE, keys.REUSED_FROM):
        if name in members and pd.notna(first[name]):
            tags[name] = str(first[name])
    if keys.STOPPED_STEP in members:
        tags[keys.STOPPED] = str(bool(is_stopped(members).any())).lower()
    return {f"{TAG}{name}": value for name, value in tags.items()}
