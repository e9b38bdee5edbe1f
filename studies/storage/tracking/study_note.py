"""The note on a study's run in MLflow: its question, what it found, and where its runs are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from dynloss_core import keys
from studies.definition.phases import Phase
from studies.definition.study import Study
from studies.storage.tracking import mlflow_store  # noqa: F401  sets the environment of mlflow
from studies.storage.tracking.runs_view import condition, run_page, runs_page, sorted_by
from studies.storage.tracking.trial_content import TAG

# isort: split
from mlflow.entities import Run

__all__ = ["NOTE", "NOTED", "digest", "is_ours", "note_of"]

NOTE = "mlflow.note.content"
"""MLflow's own tag of a run's description."""
NOTED = f"{TAG}note"
"""The tag with the digest of the note that the suite wrote."""

_MAX_LINKS = 24
_MAX_CHARACTERS = 5000  # of a tag, where servers are old


def digest(note: str) -> str:
    """What tells a note from others."""
    return hashlib.sha256(note.encode()).hexdigest()[:12]


def is_ours(run: Run, study: Study) -> bool:
    """Whether the note on a study's run is the suite's, rather than what somebody wrote there."""
    note = run.data.tags.get(NOTE, "")
    return note in ("", study.description) or run.data.tags.get(NOTED) == digest(note)


def note_of(
    study: Study,
    place: tuple[str, str],
    runs: Iterable[tuple[tuple[str, str, int], str]],
    *,
    finished: bool,
    findings: Sequence[str] = (),
    warnings: Sequence[str] = (),
    trained: str = "",
) -> str:
    """The note, in Markdown.

    Args:
        study: the study.
        place: the experiment that its runs are in, and its own run.
        runs: the runs of its trials, by phase, arm and number.
        finished: whether the study is.
        findings: what it found, in sentences, the verdict first.
        warnings: what stands against it.
        trained: how many trials and networks it has, in words.
    """
    parts = [f"**Question.** {study.description}"] if study.description else []
    if findings:
        verdict = "**Verdict.**" if study.mode != "map" else "**Found.**"
        verdict = verdict if finished else "**So far** (the study is not finished)."
        parts.append("\n".join((f"{verdict} {findings[0]}", *(f"\n{f}" for f in findings[1:]))))
    elif not finished:
        parts.append("**Verdict.** None yet: the study is not finished.")
    parts += [f"**Trained.** {trained}."] if trained else []
    links = "\n".join(f"- {line}" for line in _links(study, *place, runs))
    against = "\n".join(f"- {warning}" for warning in warnings)
    wanted = [*parts, f"**Runs**\n\n{links}", *([f"**Warnings**\n\n{against}"] if against else [])]
    kept: list[str] = []
    for part in wanted:
        room = _MAX_CHARACTERS - sum(len(p) + 2 for p in kept)
        if len(part) > room:
            part = part[: max(part.rfind("\n", 0, room), 0)]
        kept.append(part)
    return "\n\n".join(part for part in kept if part)


def _links(
    study: Study, experiment: str, parent: str, runs: Iterable[tuple[tuple[str, str, int], str]]
) -> list[str]:
    """Links to lists of trials, best first, and to the runs on fresh seeds, one line each."""
    page = runs_page("", experiment, view=parent)
    everything = f"[all trials, the best first]({page[1:]})"
    of_arms = [f"[{arm}]({_page_of(study, experiment, arm)})" for arm in study.arms]
    lines = [f"{everything}; by arm: {', '.join(of_arms)}"]
    fresh: dict[str, list[str]] = {}
    for (phase, arm, number), run in runs:
        if Phase.parse(phase).is_fresh:
            link = f"[{arm} {number}]({run_page('', experiment, run)[1:]})"
            fresh.setdefault(phase, []).append(link)
    room = _MAX_LINKS
    for phase, links in fresh.items():
        if room > 0:
            lines.append(f"fresh seeds, {phase}: {', '.join(links[:room])}")
        room -= len(links)
    return lines


def _page_of(study: Study, experiment: str, arm: str) -> str:
    """The list of an arm's trials, best first."""
    return runs_page(
        "",
        experiment,
        searchFilter=condition(study.name, arm=arm),
        orderByKey=f"metrics.`{sorted_by(study)}`",
        orderByAsc=str(not keys.higher_is_better(study.objective)).lower(),
    )[1:]
