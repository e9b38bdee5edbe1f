"""Sections of a study's file: for how long members are trained, on what resources, and where the
study is recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dynloss_core.config import ADDED_LATER, ConfigError, refuse_other_choices
from studies.definition.redaction import hide_password

__all__ = [
    "BackendName",
    "Budget",
    "Resources",
    "Spread",
    "Storage",
    "Curves",
    "TrackerName",
    "absolute_store",
]

BackendName = Literal["ray", "inline", "processes"]
TrackerName = Literal["mlflow", "none"]
Curves = Literal["all", "winners", "none"]


@dataclass(frozen=True)
class Budget:
    """Length of a run, in optimiser steps or in epochs.

    Args:
        total: length of the run.
        static_tail: length of its end that trains on the static loss.
        evaluate_every: interval between evaluations.
        unit: the unit of all three.
    """

    total: int
    static_tail: int
    evaluate_every: int
    unit: Literal["steps", "epochs"] = "steps"

    def __post_init__(self) -> None:
        for key in ("total", "evaluate_every"):
            if getattr(self, key) < 1:
                raise ConfigError(key, f"{getattr(self, key)} is below 1", "use >= 1")
        if not 0 <= self.static_tail <= self.total:
            problem = f"{self.static_tail} is not within the run of {self.total} {self.unit}"
            raise ConfigError("static_tail", problem, f"use a number from 0 to {self.total}")


@dataclass(frozen=True)
class Spread:
    """How pairs are expected to scatter, from a pilot or an earlier study: what `--dry-run` says a
    study can show rests on it, and nothing else.

    Args:
        seeds: standard deviation of the paired difference over the fresh seeds of one search.
        searches: what the luck of the search adds (see
            `studies.analysis.statistics.search_variance`).
    """

    seeds: float
    searches: float = 0.0

    def __post_init__(self) -> None:
        if not self.seeds > 0:
            raise ConfigError("seeds", f"{self.seeds} is not above 0", "use 0.02, say")
        if self.searches < 0:
            raise ConfigError("searches", f"{self.searches} is negative", "use >= 0")


@dataclass(frozen=True)
class Resources:
    """What one block needs of the cluster; fractions are allowed.

    Args:
        cpu: CPUs; also the number of threads.
        gpu: GPUs; above 0 the block trains on CUDA. 0.25 has four blocks share a GPU, and `auto` as
            many as its memory holds, measured before the first block.
    """

    cpu: float = 1.0
    gpu: float | Literal["auto"] = 0.0

    def __post_init__(self) -> None:
        for key, amount in (("cpu", self.cpu), ("gpu", self.gpus)):
            if amount < 0:
                raise ConfigError(key, f"{amount} is negative", "use >= 0")
        if self.cpu == 0 and self.gpus == 0:
            raise ConfigError("cpu", "a block needs something to run on", "use cpu: 1")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ConfigError(
                "gpu", f"{self.gpu} is not a fraction of one GPU", "use <= 1, or a whole number"
            )

    @property
    def gpus(self) -> float:
        """GPUs of one block; a whole one until `auto` has measured how many share it."""
        return 1.0 if self.gpu == "auto" else float(self.gpu)


@dataclass(frozen=True)
class Storage:
    """Where a study is recorded.

    Args:
        tracker: `mlflow`, or `none` if the study's own tables are enough.
        tracking_uri: MLflow's tracking URI; by default an SQLite file in the output folder. The
            path of another SQLite file is made absolute, so that it still holds when the study is
            resumed from another folder.
        experiment: name of the MLflow experiment.
        curves: which runs of the tracker hold their curves, not only how they ended: `all`,
            `winners` (the runs on fresh seeds) or `none`. The study's own tables hold all.
    """

    tracker: TrackerName = field(default="mlflow", metadata=ADDED_LATER)
    tracking_uri: str | None = None
    experiment: str = "dynloss"
    curves: Curves = field(default="all", metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        refuse_other_choices(self)
        if self.tracking_uri is not None and hide_password(self.tracking_uri) != self.tracking_uri:
            raise ConfigError(
                "tracking_uri",
                f"{hide_password(self.tracking_uri)} holds a password, and study files are shared",
                "leave it out and set MLFLOW_TRACKING_URI",
            )
        if self.tracking_uri is not None:
            object.__setattr__(self, "tracking_uri", absolute_store(self.tracking_uri))


def absolute_store(uri: str) -> str:
    """The address of a store, with the path of an SQLite file made absolute."""
    from studies.definition.sqlite import sqlite_path, sqlite_url  # and with it SQLAlchemy

    path = sqlite_path(uri)
    if path is None or path.is_absolute() or str(path) in (".", ":memory:"):
        return uri
    _, mark, query = uri.partition("?")
    return f"{sqlite_url(path)}{mark}{query}"
