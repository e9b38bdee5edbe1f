"""How far a study has got, from its folder alone: a running driver is not disturbed, and any
machine that sees the folder may ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from dynloss_core import keys
from studies.definition.early_stopping import is_stopped
from studies.definition.phases import Phase
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
        arm: the name of the arm.
        done: number of trials searched, or of networks confirmed.
        wanted: their number in the end.
        unit: the unit of both.
        diverged: number of trials with a network that diverged.
        stopped: number of trials stopped early.
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
    """How far a study has got.

    Args:
        name: the name of the study.
        mode: `map`, `optimize` or `confirm`.
        objective: the metric that `best` measures.
        networks: number of networks to train in all.
        trained: number trained so far, those in training counted by their fraction.
        is_driven: whether a driver is running.
        machine: the driver's machine; empty if none is running.
        networks_per_minute: rate over the last minutes; None if it is not known.
        seconds_left: estimate by the rate so far; None if it is not known.
        blocks: the blocks in training: how many networks each has trained, and on which node.
        failures: blocks that failed, and why.
        phases: one entry per phase and arm.
        summary: the path of the results; None before there are any.
    """

    name: str
    mode: str
    objective: str
    networks: int
    trained: float
    is_driven: bool
    machine: str
    networks_per_minute: float | None
    seconds_left: float | None
    blocks: dict[str, dict[str, Any]]
    failures: dict[str, str]
    phases: tuple[PhaseStatus, ...]
    summary: str | None

    def json(self) -> str:
        """The status as JSON."""
        return json.dumps(asdict(self), indent=2)

    def __str__(self) -> str:
        """The status in a few readable lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        on = f" on {self.machine}" if self.machine else ""
        driver = f"a driver is running{on}" if self.is_driven else "no driver is running"
        share = self.trained / self.networks
        yield f"{self.name} ({self.mode}): {share:.0%} of its networks trained, {driver}"
        for phase in self.phases:
            line = f"  {phase.phase:<8} {phase.arm:<10} {phase.done} of {phase.wanted} {phase.unit}"
            line += f", {phase.diverged} diverged" if phase.diverged else ""
            line += f", {phase.stopped} stopped early" if phase.stopped else ""
            if phase.best is not None:
                line += f", best {self.objective.replace('_', ' ')} {phase.best:.3f}"
            yield line
        if self.networks_per_minute is not None:
            left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
            yield f"  rate     {self.networks_per_minute:.3g} networks per minute{left}"
        nodes: dict[str, list[str]] = {}
        for name, block in self.blocks.items():
            nodes.setdefault(block["node"] or "starting", []).append(name)
        for node, block_names in nodes.items():
            yield f"  node     {node}: {', '.join(block_names)}"
        for name, reason in self.failures.items():
            yield f"  failed   {name}: {reason}"
        if self.summary is not None:
            yield f"  summary  {self.summary}"


def study_status(folder: StudyFolder) -> StudyStatus:
    """How far the study in a folder has got."""
    stored, members = StoredStudy.read(folder), folder.parts.gather("members")
    study = stored.study
    is_driven = folder.is_locked()
    progress = _progress(folder) if is_driven else {}
    return StudyStatus(
        name=study.name,
        mode=study.mode,
        objective=study.objective,
        networks=stored.networks,
        trained=max(progress.get("trained", 0.0), float(len(members))),
        is_driven=is_driven,
        machine=progress.get("machine", ""),
        networks_per_minute=progress.get("networks_per_minute"),
        seconds_left=progress.get("seconds_left"),
        blocks=progress.get("blocks", {}),
        failures=folder.parts.failures(),
        phases=tuple(_phases(stored, members)),
        summary=str(folder.summary) if folder.summary.exists() else None,
    )


def _progress(folder: StudyFolder) -> dict[str, Any]:
    """The progress that the driver wrote last; empty before it wrote any."""
    try:
        content = json.loads(folder.progress.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _phases(stored: StoredStudy, members: pd.DataFrame) -> Iterator[PhaseStatus]:
    study = stored.study
    for number in range(1, study.searches + 1):
        if study.mode != "confirm":
            phase = str(Phase(keys.SEARCH, search=number))
            for arm in study.arms:
                yield _search(study, arm, phase, _rows(members, arm, phase))
        if study.finalists > 1:
            phase = str(Phase(keys.FINALS, study.finals, number))
            wanted = study.finalists * len(study.seeds.finals)
            for arm in study.arms:
                done, most = (
                    len(_rows(members, arm, phase)),
                    wanted * len(study.trials_of(arm).settings),
                )
                yield PhaseStatus(phase, arm, done, most, "networks")
        if study.has_own_round():
            phase = str(Phase(keys.CONFIRM, search=number))
            for arm in study.confirmed_arms:
                done = len(_rows(members, arm, phase))
                yield PhaseStatus(phase, arm, done, study.confirm_seeds, "fresh seeds")
    for confirmation in stored.rounds:
        for arm in dict.fromkeys(winner.arm for winner in confirmation.winners):
            wanted = sum(len(block.seeds) for block in confirmation.blocks() if block.arm == arm)
            done = len(_rows(members, arm, confirmation.phase))
            yield PhaseStatus(confirmation.phase, arm, done, wanted, "networks")


def _rows(members: pd.DataFrame, arm: str, phase: str) -> pd.DataFrame:
    if members.empty:
        return members
    return members[(members[keys.ARM] == arm) & (members[keys.PHASE] == phase)]


def _search(study: Study, arm: str, phase: str, rows: pd.DataFrame) -> PhaseStatus:
    wanted = study.trials_of(arm).count
    if rows.empty:
        return PhaseStatus(phase, arm, 0, wanted, "trials")
    by_trial = rows.groupby(keys.TRIAL)
    diverged = by_trial[keys.DIVERGED].any()
    stopped = is_stopped(rows).groupby(rows[keys.TRIAL]).any()
    means = by_trial[study.objective].mean()[~diverged & ~stopped]
    best = None
    if len(means):
        best = float(means.max() if keys.higher_is_better(study.objective) else means.min())
    counts = int(diverged.sum()), int(stopped.sum())
    return PhaseStatus(phase, arm, len(diverged), wanted, "trials", *counts, best)
