"""Rounds of confirmation beyond a study's definition: those that somebody asks for, and those that
an extended search still needs."""

from __future__ import annotations

from dataclasses import replace

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.blocks.block import Block
from studies.messages import say
from studies.search.confirmation import Confirmation, plan_confirmation
from studies.storage.stored_study import StoredStudy

__all__ = ["due_round", "next_round"]


def next_round(stored: StoredStudy, seeds: int | None) -> Confirmation | None:
    """Plan a round that confirms the winners of a finished search; None if the last round is
    unfinished, and to be resumed.

    Args:
        stored: the study.
        seeds: number of seeds; None leaves it to the power analysis.

    Raises:
        ConfigError: if the search is not finished or has no winner, or the unfinished round has
            another number of seeds.
    """
    study, parts, rounds = stored.study, stored.folder.parts, stored.rounds
    if rounds and any(parts.recorded(block) is None for block in rounds[-1].blocks()):
        if seeds not in (None, len(rounds[-1].seeds)):
            problem = f"{seeds}, but a round of {len(rounds[-1].seeds)} is not finished"
            raise ConfigError("--seeds", problem, "leave it out to go on with that")
        return None
    if not _is_searched(stored):
        path = str(stored.folder.path)
        raise ConfigError("", "its search is not finished", "finish it first", path)
    members = parts.gather("members")
    search = members[members[keys.PHASE] == keys.SEARCH] if len(members) else members
    if search.empty:
        raise ConfigError("", "has no search to confirm", "raise confirm_seeds", study.name)
    return plan_confirmation(
        study,
        search,
        number=len(rounds) + (2 if study.has_own_round() else 1),
        used=(study.confirm_seeds if study.has_own_round() else 0) + _seeds_of(rounds),
        seeds=seeds,
    )


def due_round(stored: StoredStudy) -> Confirmation | None:
    """Plan the round that an extended study still needs: its search is finished, and no round had
    the same winners. If none can be planned, as when an arm has no winner, tell the user why and
    return None."""
    study, rounds = stored.study, stored.rounds
    if not (study.extensions and study.confirms()):
        return None
    members = stored.folder.parts.gather("members")
    if members.empty:  # every block failed
        return None
    search = members[members[keys.PHASE] == keys.SEARCH]
    proposed = study.trials(next(iter(study.arms)))
    if proposed == max((confirmation.trials or 0 for confirmation in rounds), default=0):
        return None
    number = max((confirmation.round for confirmation in rounds), default=0) + 1
    try:
        planned = plan_confirmation(study, search, number, _seeds_of(rounds), study.confirm_seeds)
    except ConfigError as error:
        say(f"the extended search is not confirmed: {error}")
        return None
    chosen = _winners(planned)
    if any(chosen == _winners(confirmation) for confirmation in rounds):
        return None
    return replace(planned, reason="the search was extended", trials=proposed)


def _seeds_of(rounds: tuple[Confirmation, ...]) -> int:
    return sum(len(confirmation.seeds) for confirmation in rounds)


def _winners(confirmation: Confirmation) -> set[tuple[str, int]]:
    return {(winner.arm, winner.trial) for winner in confirmation.winners}


def _is_searched(stored: StoredStudy) -> bool:
    """Whether every block of the search is finished."""
    return all(
        stored.folder.parts.recorded(Block(keys.SEARCH, arm, index, (), ())) is not None
        for arm in stored.study.arms
        for index in range(len(stored.study.search_blocks(arm)))
    )
