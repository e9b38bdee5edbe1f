"""What a study needs of a tracking backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from studies.blocks.block import Block

__all__ = ["Unreachable", "Tracker"]


class Unreachable(Exception):  # noqa: N818  what it says, not an error of ours
    """The tracker's store cannot be reached or written at the moment."""


class Tracker(Protocol):
    """Keeps one run for a study and one for each of its trials, however often it is connected.

    A new tracker finds what earlier ones created: a trial never gets a second run, and a metric
    never the same step twice. Any method may raise `Unreachable`; whether it took effect is then
    unknown, and a new tracker is connected.
    """

    @property
    def uri(self) -> str:
        """Where the store is."""

    def kept(self) -> dict[str, Any]:
        """Entries for `state.json` by which the study's run is found again, without passwords."""

    def start(self, block: Block) -> None:
        """Create a run for each trial of a block that has none."""

    def log_means(self, block: Block, means: pd.DataFrame) -> None:
        """Take mean curves of a block that was started (see `tables.mean_curves`); they may be held
        back until it is finished."""

    def finish(self, block: Block, members: pd.DataFrame) -> int:
        """Close the runs of a block, started or not, and return how many were open.

        Args:
            block: the block that ended.
            members: its members table; empty if it failed.
        """

    def is_finished(self, block: Block) -> bool:
        """Whether every run of a block is closed."""

    def runs(self) -> pd.DataFrame:
        """One row per trial that has a run: phase, arm, trial and `mlflow_run`, its identifier."""

    def close(
        self,
        *,
        finished: bool,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Iterable[tuple[Path, str]],
        findings: Sequence[str] = (),
        warnings: Sequence[str] = (),
        trained: str = "",
    ) -> None:
        """Close the study's run.

        Args:
            finished: whether the study is finished.
            metrics: its results; those that are not finite are left out.
            tags: texts to keep with them.
            artifacts: its files, each with the folder it goes to.
            findings: what it found, in sentences, the verdict first.
            warnings: what stands against that.
            trained: how many trials and networks it has, in words.
        """

    def discard(self) -> None:
        """Delete the run of a study that came to nothing."""
