"""Looks: the moments at which a study showed its verdicts before something was added to it.

A further round of fresh seeds, winners of a longer search, and further searches all let somebody
who has seen a verdict wait for another. Each is a look, and what it may claim depends on how many
came before (see `studies.analysis.statistics.alpha_spending`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from dynloss_core import keys
from studies.analysis.statistics.pairing import search_number
from studies.definition.phases import Phase

__all__ = ["Look", "looks_of", "name_of_look", "seen", "with_present"]

Look = tuple[int, ...]
"""How many rounds of confirmation each search had by then."""


def looks_of(members: pd.DataFrame, recorded: Sequence[Look] = ()) -> tuple[Look, ...]:
    """The looks of a study in order, with the present one last; none before a first round.

    Args:
        members: the members table.
        recorded: as for `with_present`.
    """
    phases = [Phase.parse(str(name)) for name in members[keys.PHASE].unique()]
    rounds = [0] * max((phase.search for phase in phases), default=0)
    for phase in phases:
        if phase.is_fresh:
            rounds[phase.search - 1] = max(rounds[phase.search - 1], phase.round)
    return with_present(tuple(rounds), recorded)


def with_present(now: Look, recorded: Sequence[Look] = ()) -> tuple[Look, ...]:
    """Looks in order, with the present one last.

    Args:
        now: how many rounds each search has.
        recorded: the looks before something was added, as the study's folder has them. Without any,
            there was one after each round.
    """
    numbers = range(1, max(now, default=0))
    earlier = tuple(recorded) or tuple(tuple(min(k, own) for own in now) for k in numbers)
    return tuple(look for look in dict.fromkeys((*earlier, now)) if any(look))


def name_of_look(number: int, looks: Sequence[Look]) -> str:
    """The name of a look: that of its latest round, with what tells it from a look of that name.

    Args:
        number: its number, from 1.
        looks: all looks.
    """
    look = looks[number - 1]
    name = str(Phase(keys.CONFIRM, max(look)))
    alike = [len(other) for other in looks if max(other) == max(look)]
    if len(alike) == 1:
        return name
    if alike.count(len(look)) == 1:
        return f"{name}, {len(look)} searches"
    return f"{name}, look {number}"


def seen(look: Look, networks: pd.DataFrame) -> pd.DataFrame:
    """The networks on fresh seeds that a look compares, one row each: of each search, those of its
    latest round by then, and of its earlier rounds of the same winners, which are further fresh
    seeds of the same comparison.

    Args:
        look: the look.
        networks: rows of the members table.
    """
    phases = networks[keys.PHASE].map(lambda name: Phase.parse(str(name)))
    fresh = networks[phases.map(lambda phase: phase.is_fresh).astype(bool)]
    rounds = phases[fresh.index].map(lambda phase: phase.round)
    searches = search_number(fresh)
    chosen = [
        _of_the_latest_winners(fresh[searches == number], rounds[searches == number], last)
        for number, last in enumerate(look, start=1)
    ]
    return pd.concat(chosen) if chosen else fresh


def _of_the_latest_winners(networks: pd.DataFrame, rounds: pd.Series, last: int) -> pd.DataFrame:
    """The rows of a search up to a round that train the winners of the latest of them."""
    until = networks[rounds <= last]
    if until.empty:
        return until
    by_round = dict(_winners_by_round(until, rounds[until.index]))
    latest = by_round[max(by_round)]
    same = [number for number, winners in by_round.items() if winners == latest]
    return until[rounds[until.index].isin(same)]


def _winners_by_round(
    networks: pd.DataFrame, rounds: pd.Series
) -> Iterator[tuple[int, set[tuple[str, int]]]]:
    for number, rows in networks.groupby(rounds):
        yield int(str(number)), set(zip(rows[keys.ARM], rows[keys.TRIAL], strict=True))
