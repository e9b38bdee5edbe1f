"""The health of several searches of one study, each with its own proposals and seeds.

Where the order of trials does not matter, all are shown together; progress with the budget is shown
search by search.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dynloss_core import keys
from studies.analysis.search_health.search_health import SearchHealth

__all__ = ["convergence_caption", "convergence_headline", "trials_together"]


def trials_together(searches: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all searches as if of one, with trials renumbered so that each number is unique.

    Args:
        searches: rows of the members table, search by search.
    """
    renumbered, first = [], 0
    for rows in searches:
        renumbered.append(rows.assign(**{keys.TRIAL: rows[keys.TRIAL] + first}))
        first += int(rows[keys.TRIAL].max()) + 1
    return pd.concat(renumbered, ignore_index=True)


def convergence_headline(searches: Sequence[SearchHealth]) -> str:
    """What the figure of the objective against the budget shows."""
    if len(searches) == 1 or not searches[0].adaptive:
        return searches[0].convergence_headline()
    every = {arm for search in searches for arm in search.convergence}
    counts = {
        arm: sum(
            arm in search.convergence and search.convergence[arm].convergence_status == "converged"
            for search in searches
        )
        for arm in searches[0].arms
        if arm in every
    }
    fewest, total = min(counts.values()), len(searches)
    if fewest == total:
        return f"Converged in each of {total} searches: no gain in the last third of the trials"
    arms = [arm for arm, count in counts.items() if count == fewest]
    others = "" if len(arms) == len(counts) else ", the rest in more"
    if len(counts) > 1 and len(arms) == len(counts):
        return f"Every arm converged in {fewest} of {total} searches"
    return f"{', '.join(arms[:3])} converged in {fewest} of {total} searches{others}"


def convergence_caption(together: SearchHealth, searches: Sequence[SearchHealth]) -> str:
    """How to read that figure: all trials as one search, and each search by itself."""
    text = together.convergence_caption()
    if len(searches) == 1:
        return text
    return text + f" A line for each of {len(searches)} searches; importances are of all trials."
