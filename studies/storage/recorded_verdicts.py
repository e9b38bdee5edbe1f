"""The verdicts that a study's summary records, in words, read without the rest of the suite."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from studies.storage.study_paths import StudyPaths

__all__ = ["in_words", "outcomes_at", "outcomes_in", "recorded_verdicts", "seeds_to_settle"]

_SENTENCES = 4  # most verdicts in full
_FINDINGS = 2  # most of a study without verdicts
_MAP = re.compile(r"wins in (\d+) of (\d+) cells and loses in (\d+)")


def recorded_verdicts(paths: StudyPaths) -> tuple[str, ...]:
    """The sentence of each verdict of a study; of many, how many have each outcome; of a study that
    compares no winners, what its map shows. Empty where the summary cannot be read.

    Args:
        paths: of the study's folder.
    """
    try:
        summary = json.loads(paths.summary.read_text(encoding="utf-8"))
        count = len(summary["verdicts"])
        if count > _SENTENCES:
            return (f"{outcomes_in(summary)}; see {paths.report}",)
        return tuple(map(str, summary["findings"][: count or _FINDINGS]))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def outcomes_at(paths: StudyPaths, look: Sequence[Sequence[int]]) -> Counter[str]:
    """How many verdicts of a study have each outcome; none where the summary cannot be read, or is
    not about the present look.

    Args:
        paths: of the study's folder.
        look: the present look, alone in a list, as the summary records it; empty before a first.
    """
    return Counter(str(test["outcome"]) for test in _tests_at(paths, look))


def seeds_to_settle(paths: StudyPaths, look: Sequence[Sequence[int]]) -> int:
    """About how many more seeds would settle the undecided verdicts of a study of which that is
    known; 0 if it is of none.

    Args:
        paths: of the study's folder.
        look: as for `outcomes_at`.
    """
    undecided = [test for test in _tests_at(paths, look) if test["outcome"] == "undecided"]
    known = [test for test in undecided if test.get("seeds_needed") is not None]
    return max((int(test["seeds_needed"]) - int(test["n"]) for test in known), default=0)


def _tests_at(paths: StudyPaths, look: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    try:
        summary = json.loads(paths.summary.read_text(encoding="utf-8"))
        is_present = [summary["look"]] == [list(rounds) for rounds in look]
        return [dict(verdict["test"]) for verdict in summary["verdicts"]] if is_present else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def outcomes_in(summary: dict[str, Any]) -> str:
    """`better` of a single verdict, `24 undecided, 6 equivalent` of several; without one, `wins in
    3 of 36 cells, loses in 0` of a map, else empty.

    Args:
        summary: the content of the file.

    Raises:
        KeyError: if it is not a summary; likewise TypeError.
    """
    outcomes = Counter(str(verdict["test"]["outcome"]) for verdict in summary["verdicts"])
    findings = map(str, summary.get("findings", ()))
    found = next(filter(None, map(_MAP.search, findings)), None)
    if outcomes or found is None:
        return in_words(outcomes)
    wins, cells, losses = found.groups()
    return f"wins in {wins} of {cells} cells, loses in {losses}"


def in_words(outcomes: Counter[str]) -> str:
    """The same of counted outcomes."""
    named = [(outcome.replace("_", " "), count) for outcome, count in outcomes.most_common()]
    if outcomes.total() == 1:
        return named[0][0]
    return ", ".join(f"{count} {outcome}" for outcome, count in named)
