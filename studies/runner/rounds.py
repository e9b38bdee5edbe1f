"""Rounds of confirmation beyond a study's definition: those that somebody asks for, and those that
an extended search still needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.definition.confirm_seeds import MAX_CONFIRM_SEEDS, MIN_CONFIRM_SEEDS
from studies.definition.network_counts import counted
from studies.definition.phases import Phase
from studies.definition.study import Study
from studies.messages import say
from studies.search.confirmation import Confirmation, plan_confirmation
from studies.storage.recorded_looks import looked_at, looks_at
from studies.storage.recorded_verdicts import in_words, outcomes_at, seeds_to_settle
from studies.storage.stored_plan import plan_of
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder

__all__ = ["due_round", "looks_so_far", "next_rounds", "refuse_more_looks", "with_rounds"]


def next_rounds(stored: StoredStudy, seeds: int | None) -> list[Confirmation]:
    """Plan a round for each finished search that confirms its winners, or for those that had fewer
    than the others; none if one is unfinished, and to be resumed.

    Args:
        stored: the study.
        seeds: number of seeds; None leaves it to the power analysis: of the fresh seeds so far, or
            of the search if there are none, or several searches.

    Raises:
        ConfigError: if a search is not finished or has no winner, the unfinished round has another
            number of seeds, or `seeds` is below 2.
    """
    if seeds is not None and seeds < 2:
        raise ConfigError("--seeds", f"{seeds} give no pairs to compare", "use 2 or more")
    study, parts = stored.study, stored.folder.parts
    if (known := _unfinished(stored)) is not None:
        if seeds not in (None, len(known.seeds)):
            problem = f"{seeds}, but a round of {len(known.seeds)} is unfinished"
            raise ConfigError("--seeds", problem, "leave it out to finish that round")
        return []
    if not plan_of(stored).is_complete():
        path = str(stored.folder.path)
        raise ConfigError("", "its search is not finished", "finish it first", path)
    members = parts.gather("members")
    planned = []
    of_each = {n: _rounds_of(stored, n) for n in range(1, study.searches + 1)}
    fewest = min(map(len, of_each.values()))
    for number, rounds in of_each.items():
        if len(rounds) > fewest:
            continue
        search = _chosen_from(study, members, number)
        if search.empty:
            raise ConfigError("", "has no search to confirm", "raise confirm_seeds", study.name)
        still = None if seeds is not None or study.searches > 1 else _still_needed(stored)
        confirmation = plan_confirmation(
            study.search(number),
            search,
            number=len(rounds) + (2 if study.has_own_round() else 1),
            used=(study.confirm_seeds if study.has_own_round() else 0) + _seeds_of(rounds),
            seeds=still or seeds,
            of_search=number,
        )
        if still is not None:
            reason = "about what would settle it by the fresh seeds so far, in rounds of 30 to 100"
            confirmation = replace(confirmation, reason=reason)
        planned.append(confirmation)
    return planned


def _still_needed(stored: StoredStudy) -> int | None:
    """How many more seeds would settle what the study has undecided, within the bounds of a round;
    None if its verdicts do not tell."""
    wanted = seeds_to_settle(stored.folder, looks_at(stored)[-1:])
    return min(max(wanted, MIN_CONFIRM_SEEDS), MAX_CONFIRM_SEEDS) if wanted else None


def looks_so_far(folder: StudyFolder) -> int:
    """How often a study was looked at, the present look included."""
    return len(looks_at(StoredStudy.read(folder)))


def refuse_more_looks(folder: StudyFolder, at_most: int) -> None:
    """Refuse a further look at a study that was looked at often enough, or has nothing undecided.

    Args:
        folder: the folder of the study.
        at_most: the most looks in all.

    Raises:
        ConfigError: saying which of the two it is.
    """
    stored = StoredStudy.read(folder)
    if _unfinished(stored) is not None or not plan_of(stored).is_complete():
        return  # what has begun may end, and what has not is refused for that
    looks = looks_at(stored)
    if len(looks) >= at_most:
        problem = f"{at_most}, and the study was looked at {counted(len(looks), 'time')}"
        raise ConfigError("--at-most", problem, "allow more, which may claim less each")
    outcomes = outcomes_at(folder, looks[-1:])
    if outcomes and not outcomes["undecided"]:
        problem = f"nothing is undecided: {in_words(outcomes)}"
        raise ConfigError("--until-decided", problem, "leave it out for another round")


def with_rounds(stored: StoredStudy, planned: Sequence[Confirmation]) -> StoredStudy:
    """The study with rounds that somebody asked for, who has seen what it showed without them."""
    stored = looked_at(stored) if planned else stored
    for confirmation in planned:
        stored = stored.with_round(confirmation)
    return stored


def due_round(stored: StoredStudy) -> Confirmation | None:
    """Plan a round that an extended study still needs: a search is finished, and its latest round
    had other winners. If none can be planned, as when an arm has no winner, tell the user why and
    return None."""
    if not (stored.study.extensions and stored.study.confirms()):
        return None
    members = stored.folder.parts.gather("members")
    numbers = range(1, stored.study.searches + 1)
    choosing = {number: _chosen_from(stored.study, members, number) for number in numbers}
    due = (_due_round(stored, number, rows) for number, rows in choosing.items())
    return next((confirmation for confirmation in due if confirmation is not None), None)


def _due_round(stored: StoredStudy, of_search: int, search: pd.DataFrame) -> Confirmation | None:
    if search.empty:  # every block failed
        return None
    study, rounds = stored.study.search(of_search), _rounds_of(stored, of_search)
    proposed = study.trials_of(next(iter(study.arms))).count
    if proposed == max((confirmation.trials or 0 for confirmation in rounds), default=0):
        return None
    number = max((confirmation.round for confirmation in rounds), default=0) + 1
    try:
        planned = plan_confirmation(
            study, search, number, _seeds_of(rounds), study.confirm_seeds, of_search
        )
    except ConfigError as error:
        say(f"the extended search is not confirmed: {error}")
        return None
    latest = max(rounds, key=lambda confirmation: confirmation.round, default=None)
    if latest is not None and _winners(planned) == _winners(latest):
        return None
    return replace(planned, reason="the search was extended", trials=proposed)


def _unfinished(stored: StoredStudy) -> Confirmation | None:
    """The first round whose networks are not all trained."""
    recorded = stored.folder.parts.recorded
    for known in stored.rounds:
        if any(recorded(block) is None for block in known.blocks()):
            return known
    return None


def _rounds_of(stored: StoredStudy, search: int) -> tuple[Confirmation, ...]:
    return tuple(known for known in stored.rounds if known.search == search)


def _chosen_from(study: Study, members: pd.DataFrame, search: int) -> pd.DataFrame:
    """The rows that choose the winners of one search: its own, or those of its finals."""
    if members.empty:
        return members
    phase = Phase(keys.SEARCH, search=search)
    if study.finalists > 1:
        phase = Phase(keys.FINALS, study.finals, search)
    return members[members[keys.PHASE] == str(phase)]


def _seeds_of(rounds: tuple[Confirmation, ...]) -> int:
    return sum(len(confirmation.seeds) for confirmation in rounds)


def _winners(confirmation: Confirmation) -> set[tuple[str, int]]:
    return {(winner.arm, winner.trial) for winner in confirmation.winners}
