"""The looks at a study, kept beside its rounds: what its verdicts were about before it grew."""

from __future__ import annotations

from studies.analysis.looks import Look, with_present
from studies.storage.stored_study import StoredStudy

__all__ = ["looked_at", "looks_at"]


def looks_at(stored: StoredStudy) -> tuple[Look, ...]:
    """All looks at a study, with the present one last, whether its networks are trained or not."""
    rounds = [1 if stored.study.has_own_round() else 0] * stored.study.searches
    for known in stored.rounds:
        rounds[known.search - 1] = max(rounds[known.search - 1], known.round)
    return with_present(tuple(rounds), stored.looks)


def looked_at(stored: StoredStudy) -> StoredStudy:
    """The study, finished, with the present look recorded: something is about to be added to it."""
    looks = looks_at(stored)
    return stored.with_looks(looks) if looks else stored
