"""What a study asks of whatever tracks it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from studies.blocks.block import Block

__all__ = ["Unreachable", "Tracker"]


class Unreachable(Exception):  # noqa: N818  what it says, not an error of ours
    """The tracker's store cannot be reached, or not be written; it may be later."""


class Tracker(Protocol):
    """Keeps one run of a study and one of each of its trials, whoever connects, and however often.

    A tracker that connects finds what earlier ones have made: a trial never gets a second run, and
    a metric never the same step twice. Everything may raise `Unreachable`, after which it is not
    known whether it took effect: then another tracker is connected.
    """

    @property
    def uri(self) -> str:
        """Where the store is."""

    def kept(self) -> dict[str, Any]:
        """What the study's folder keeps, so that its run is found again, by name in `state.json`.

        Without passwords.
        """

    def start(self, block: Block) -> None:
        """Make a run for each trial of a block that has none."""

    def log_means(self, block: Block, means: pd.DataFrame) -> None:
        """Take mean curves of a block that was started (see `tables.mean_curves`). They may wait
        until it is finished."""

    def finish(self, block: Block, members: pd.DataFrame) -> int:
        """Close the runs of a block, started or not; how many were open.

        Args:
            block: that ended.
            members: its table; empty for a block that could not be trained.
        """

    def is_finished(self, block: Block) -> bool:
        """Whether every run of a block is closed."""

    def runs(self) -> pd.DataFrame:
        """A row per trial that has a run: phase, arm, trial and `mlflow_run`, its identifier."""

    def close(
        self,
        *,
        finished: bool,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Iterable[tuple[Path, str]],
    ) -> None:
        """Close the study's run.

        Args:
            finished: whether the study is.
            metrics: its result; what is not finite is left out.
            tags: text beside it.
            artifacts: its files, each with the folder it goes to.
        """

    def discard(self) -> None:
        """Take back the run of a study that came to nothing."""
