"""The verdicts that a study's summary records, in words, read without the rest of the suite."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from studies.storage.study_paths import StudyPaths

__all__ = ["outcomes_in", "recorded_verdicts"]

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
