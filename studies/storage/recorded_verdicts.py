"""The verdicts that a study's summary records, in words, read without the rest of the suite."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from studies.storage.study_paths import StudyPaths

__all__ = ["outcomes_in", "recorded_outcomes", "recorded_verdicts", "seeds_to_settle"]

_SENTENCES = 4  # most verdicts in full


def recorded_verdicts(paths: StudyPaths) -> tuple[str, ...]:
    """The sentence of each verdict of a study; of many, how many have each outcome. Empty without
    one, and where the summary cannot be read.

    Args:
        paths: of the study's folder.
    """
    try:
        summary = json.loads(paths.summary.read_text(encoding="utf-8"))
        count = len(summary["verdicts"])
        if count > _SENTENCES:
            return (f"{outcomes_in(summary)}; see {paths.report}",)
        return tuple(map(str, summary["findings"][:count]))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def recorded_outcomes(paths: StudyPaths) -> str:
    """How many verdicts of a study have each outcome (see `outcomes_in`); empty without one, and
    where the summary cannot be read.

    Args:
        paths: of the study's folder.
    """
    try:
        return outcomes_in(json.loads(paths.summary.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def seeds_to_settle(paths: StudyPaths) -> int:
    """About how many more seeds would settle every undecided verdict of a study; 0 if nothing is
    undecided, or no number is known.

    Args:
        paths: of the study's folder.
    """
    try:
        tests = [v["test"] for v in json.loads(paths.summary.read_text("utf-8"))["verdicts"]]
        undecided = [test for test in tests if test["outcome"] == "undecided"]
        missing = [int(test["seeds_needed"]) - int(test["n"]) for test in undecided]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return max(missing, default=0)


def outcomes_in(summary: dict[str, Any]) -> str:
    """`better` of a single verdict, `24 undecided, 6 equivalent` of several; empty without one.

    Args:
        summary: the content of the file.

    Raises:
        KeyError: if it is not a summary; likewise TypeError.
    """
    outcomes = Counter(str(v["test"]["outcome"]).replace("_", " ") for v in summary["verdicts"])
    if outcomes.total() == 1:
        return next(iter(outcomes))
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
