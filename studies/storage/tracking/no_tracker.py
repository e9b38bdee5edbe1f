"""No tracker: a study whose tables are enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from studies.blocks.block import Block

__all__ = ["NoTracker"]


class NoTracker:
    """A `Tracker` that keeps nothing, and has nothing left to deliver."""

    uri = "no tracker"

    def kept(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def start(self, block: Block) -> None:
        """Do nothing."""

    def log_means(self, block: Block, means: pd.DataFrame) -> None:
        """Do nothing."""

    def finish(self, block: Block, members: pd.DataFrame) -> int:
        """Zero: no run was open."""
        return 0

    def is_finished(self, block: Block) -> bool:
        """Always true."""
        return True

    def runs(self) -> pd.DataFrame:
        """No runs."""
        return pd.DataFrame()

    def close(
        self,
        *,
        finished: bool,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Iterable[tuple[Path, str]],
    ) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""
