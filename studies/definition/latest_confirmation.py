"""What a members table says was confirmed last: the networks of the latest round on fresh seeds."""

from __future__ import annotations

import pandas as pd

from dynloss_core import keys
from studies.definition.phases import Phase

__all__ = ["confirmed_last"]


def confirmed_last(members: pd.DataFrame) -> dict[tuple[int, str], pd.DataFrame]:
    """The networks of each arm's latest confirmation, by the number of the search and the arm.

    Args:
        members: the members table of a study.

    Returns:
        In the order of searches and arms; empty if nothing was confirmed.
    """
    latest: dict[tuple[int, str], tuple[int, pd.DataFrame]] = {}
    for (name, arm), rows in members.groupby([keys.PHASE, keys.ARM]) if len(members) else []:
        phase = Phase.parse(str(name))
        place = phase.search, str(arm)
        if phase.is_fresh and phase.round > latest.get(place, (0, rows))[0]:
            latest[place] = phase.round, rows
    return {place: latest[place][1] for place in sorted(latest)}
