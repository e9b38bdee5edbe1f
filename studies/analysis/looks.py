"""Looks: the moments at which a study showed its verdicts before something was added to it.

A further round of fresh seeds, winners of a longer search, and further searches all let somebody
who has seen a verdict wait for another. Each is a look, and what it may claim depends on how many
came before (see `studies.analysis.statistics.alpha_spending`).

A round of a search counts once all winners of that search have networks in it: until then, or if
some are never trained, the search stands with its earlier rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from dynloss_core import keys
from studies.definition.phases import Phase

__all__ = ["Look", "looks_of", "name_of_look", "seen", "with_present"]

Look = tuple[int, ...]
"""How many rounds of confirmation each search had by then; no zeros at its end."""
_Winners = set[tuple[str, int]]


def looks_of(members: pd.DataFrame, recorded: Sequence[Look] = ()) -> tuple[Look, ...]:
    """The looks of a study in order, with the present one last; none before a first round.

    Args:
        members: the members table.
        recorded: as for `with_present`.
    """
    rounds = _rounds_of(members)
    searches = range(1, max(rounds, default=0) + 1)
    whole = [max(rounds.get(number, {0: set()})) for number in searches]
    looks = with_present(tuple(whole), recorded)
    return _distinct([_trained(look, rounds) for look in looks])


def with_present(now: Look, recorded: Sequence[Look] = ()) -> tuple[Look, ...]:
    """Looks in order, with the present one last.

    Args:
        now: how many rounds each search has.
        recorded: the looks before something was added, as the study's folder has them. Without any,
            there was one after each round.
    """
    numbers = range(1, max(now, default=0))
    earlier = tuple(recorded) or tuple(tuple(min(k, own) for own in now) for k in numbers)
    return _distinct([*earlier, now])


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
        return f"{name}, {len(look)} search{'es' * (len(look) != 1)}"
    return f"{name}, look {number}"


def seen(look: Look, networks: pd.DataFrame) -> pd.DataFrame:
    """The networks on fresh seeds that a look compares, one row each: of each search, those of its
    latest round by then, and of its earlier rounds of the same winners, which are further fresh
    seeds of the same comparison.

    Args:
        look: the look.
        networks: rows of the members table.
    """
    phases = set()
    for search, rounds in _rounds_of(networks).items():
        last = look[search - 1] if search <= len(look) else 0
        until = {number: winners for number, winners in rounds.items() if number <= last}
        latest = until[max(until)] if until else set()
        phases |= {
            str(Phase(keys.CONFIRM, number, search))
            for number, winners in until.items()
            if winners == latest
        }
    return networks[networks[keys.PHASE].isin(phases)]


def _rounds_of(members: pd.DataFrame) -> dict[int, dict[int, _Winners]]:
    """The winners in each round of each search, without rounds that lack some."""
    rounds: dict[int, dict[int, _Winners]] = {}
    for name, rows in members.groupby(keys.PHASE, sort=False):
        phase = Phase.parse(str(name))
        if phase.is_fresh:
            winners = set(zip(rows[keys.ARM], rows[keys.TRIAL], strict=True))
            rounds.setdefault(phase.search, {})[phase.round] = winners
    return {
        search: {number: each for number, each in own.items() if len(each) == _most(own)}
        for search, own in rounds.items()
    }


def _most(rounds: Mapping[int, _Winners]) -> int:
    return max(map(len, rounds.values()))


def _trained(look: Look, rounds: Mapping[int, Mapping[int, _Winners]]) -> Look:
    """A look without the rounds that are not there."""
    return tuple(
        max((number for number in rounds.get(search, ()) if number <= last), default=0)
        for search, last in enumerate(look, start=1)
    )


def _distinct(looks: Sequence[Look]) -> tuple[Look, ...]:
    """Looks that differ from each other by more than zeros at their ends, in order; none without a
    round."""
    lengths = [max((k for k, own in enumerate(look, 1) if own), default=0) for look in looks]
    cut = (look[:length] for look, length in zip(looks, lengths, strict=True))
    return tuple(look for look in dict.fromkeys(cut) if look)
