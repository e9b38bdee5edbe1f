"""Tables of a study as a repeated run repeats them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dynloss_core import keys


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without what depends on the machine and its clock, in a fixed order."""
    frame = frame.drop(columns=list(keys.MACHINE_COLUMNS), errors="ignore")
    by = [name for name in (*keys.MEMBER_IDENTITY, keys.STEP) if name in frame]
    return frame.sort_values(by).reset_index(drop=True)


def table(out: Path, kind: str = "members") -> pd.DataFrame:
    """What the study `tiny` has written."""
    return comparable(pd.read_parquet(out / "tiny" / "tables" / f"{kind}.parquet"))
