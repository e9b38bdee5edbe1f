"""The looks at a study, kept in its folder: what its verdicts were about before it grew."""

from __future__ import annotations

from studies.analysis.looks import Look, with_present
from studies.storage.stored_study import StoredStudy

__all__ = ["looked_at", "looks_at", "recorded_looks"]

_LOOKS = "looks"


def recorded_looks(stored: StoredStudy) -> tuple[Look, ...]:
    """The looks before something was added to the study; none of one that is as its file has it, or
    to which nothing was added since looks are recorded."""
    return tuple(tuple(map(int, look)) for look in stored.state.get(_LOOKS, ()))


def looks_at(stored: StoredStudy) -> tuple[Look, ...]:
    """All looks at a study, with the present one last, whether its networks are trained or not."""
    rounds = [1 if stored.study.has_own_round() else 0] * stored.study.searches
    for known in stored.rounds:
        rounds[known.search - 1] = max(rounds[known.search - 1], known.round)
    return with_present(tuple(rounds), recorded_looks(stored))


def looked_at(stored: StoredStudy) -> StoredStudy:
    """The study, finished, with the present look recorded: something is about to be added to it."""
    looks = looks_at(stored)
    return stored.with_state(**{_LOOKS: [list(look) for look in looks]}) if looks else stored
