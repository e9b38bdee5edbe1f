"""No tracker: a study whose tables are enough."""

from __future__ import annotations

from typing import Any

import pandas as pd

from studies.blocks.block import Block
from studies.storage.tracking.base import Tracker

__all__ = ["NoTracker"]


class NoTracker(Tracker):
    """Keeps nothing, and has nothing left to deliver: what is not here does nothing."""

    uri = "no tracker"

    def kept(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def finish(self, block: Block, members: pd.DataFrame) -> int:
        """Zero: no run was open."""
        return 0

    def is_finished(self, block: Block) -> bool:
        """Always true."""
        return True

    def runs(self) -> pd.DataFrame:
        """No runs."""
        return pd.DataFrame()
