"""How far a study is, from its folder alone: a running driver is not disturbed, and any machine
that sees the folder may ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from dynloss_core import keys
from studies.definition.early_stopping import is_stopped
from studies.definition.study import Study
from studies.messages import duration
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder

__all__ = ["PhaseStatus", "StudyStatus", "study_status"]


@dataclass(frozen=True)
class PhaseStatus:
    """What one arm has done in one phase.

    Args:
        phase: `search`, or a round of confirmation.
        arm: `dynamical` or `static`.
        done: trials of the search, or networks of a confirmation.
        wanted: in all.
        unit: the unit of both.
        diverged: trials with a network that diverged.
        stopped: trials that were stopped early.
        best: the best trial's mean objective; None outside the search, or before there is one.
    """

    phase: str
    arm: str
    done: int
    wanted: int
    unit: str
    diverged: int = 0
    stopped: int = 0
    best: float | None = None


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is.

    Args:
        name: the name of the study.
        mode: `map`, `optimize` or `confirm`.
        objective: what `best` measures.
        networks: to train in all.
        trained: of them; those at work count by their fraction.
        at_work: whether a driver is.
        machine: where the driver is, if one is at work.
        networks_a_minute: over the last minutes; None if it is not known.
        seconds_left: by the rate so far; None if it is not known.
        blocks: at work: how many networks each has trained, and on which node.
        failures: blocks that could not be trained, and why.
        phases: one row per arm and phase.
        summary: the file of results; None before there is one.
    """

    name: str
    mode: str
    objective: str
    networks: int
    trained: float
    at_work: bool
    machine: str
    networks_a_minute: float | None
    seconds_left: float | None
    blocks: dict[str, dict[str, Any]]
    failures: dict[str, str]
    phases: tuple[PhaseStatus, ...]
    summary: str | None

    def json(self) -> str:
        """For programs."""
        return json.dumps(asdict(self), indent=2)

    def __str__(self) -> str:
        """A few lines for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        on = f" on {self.machine}" if self.machine else ""
        driver = f"a driver is at work{on}" if self.at_work else "no driver is at work"
        share = self.trained / self.networks
        yield f"{self.name} ({self.mode}): {share:.0%} of its networks trained, {driver}"
        for each in self.phases:
            line = f"  {each.phase:<8} {each.arm:<10} {each.done} of {each.wanted} {each.unit}"
            line += f", {each.diverged} diverged" if each.diverged else ""
            line += f", {each.stopped} stopped early" if each.stopped else ""
            if each.best is not None:
                line += f", best {self.objective.replace('_', ' ')} {each.best:.3f}"
            yield line
        if self.networks_a_minute is not None:
            left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
            yield f"  rate     {self.networks_a_minute:.3g} networks per minute{left}"
        nodes: dict[str, list[str]] = {}
        for name, block in self.blocks.items():
            nodes.setdefault(block["node"] or "starting", []).append(name)
        for node, names in nodes.items():
            yield f"  node     {node}: {', '.join(names)}"
        for name, reason in self.failures.items():
            yield f"  failed   {name}: {reason}"
        if self.summary is not None:
            yield f"  summary  {self.summary}"


def study_status(folder: StudyFolder) -> StudyStatus:
    """How far a study is, and the best so far."""
    stored, members = StoredStudy.read(folder), folder.parts.gather("members")
    study = stored.study
    at_work = folder.is_locked()
    progress = _progress(folder) if at_work else {}
    rounds = sum(block.members for known in stored.rounds for block in known.blocks())
    return StudyStatus(
        name=study.name,
        mode=study.mode,
        objective=study.objective,
        networks=study.members() + rounds,
        trained=max(progress.get("trained", 0.0), float(len(members))),
        at_work=at_work,
        machine=progress.get("machine", ""),
        networks_a_minute=progress.get("networks_a_minute"),
        seconds_left=progress.get("seconds_left"),
        blocks=progress.get("blocks", {}),
        failures=folder.parts.failures(),
        phases=tuple(_phases(stored, members)),
        summary=str(folder.summary) if folder.summary.exists() else None,
    )


def _progress(folder: StudyFolder) -> dict[str, Any]:
    """What the driver wrote last; empty before it wrote anything."""
    try:
        content = json.loads(folder.progress.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _phases(stored: StoredStudy, members: pd.DataFrame) -> Iterator[PhaseStatus]:
    study = stored.study
    if study.mode != "confirm":
        for arm in study.arms:
            yield _search(study, arm, _rows(members, arm, keys.SEARCH))
    if study.has_own_round():
        for arm in study.arms:
            done = len(_rows(members, arm, keys.CONFIRM))
            yield PhaseStatus(keys.CONFIRM, arm, done, study.confirm_seeds, "fresh seeds")
    for known in stored.rounds:
        for arm in study.arms:
            wanted = sum(len(block.seeds) for block in known.blocks() if block.arm == arm)
            done = len(_rows(members, arm, known.phase))
            yield PhaseStatus(known.phase, arm, done, wanted, "networks")


def _rows(members: pd.DataFrame, arm: str, phase: str) -> pd.DataFrame:
    if members.empty:
        return members
    return members[(members[keys.ARM] == arm) & (members[keys.PHASE] == phase)]


def _search(study: Study, arm: str, mine: pd.DataFrame) -> PhaseStatus:
    wanted = study.trials(arm)
    if mine.empty:
        return PhaseStatus(keys.SEARCH, arm, 0, wanted, "trials")
    by_trial = mine.groupby(keys.TRIAL)
    diverged = by_trial[keys.DIVERGED].any()
    stopped = is_stopped(mine).groupby(mine[keys.TRIAL]).any()
    means = by_trial[study.objective].mean()[~diverged & ~stopped]
    best = None
    if len(means):
        best = float(means.max() if keys.higher_is_better(study.objective) else means.min())
    counts = int(diverged.sum()), int(stopped.sum())
    return PhaseStatus(keys.SEARCH, arm, len(diverged), wanted, "trials", *counts, best)
