"""How far a study has got, in words, and kept in its folder so that to ask costs a file.

A driver writes it beside its progress while it runs (`progress.json`), and once more when it ends
(`status.json`), with the times of what it depends on. Nothing here imports more than it takes to
read that: an answer comes in a fraction of a second however large the study is. What a driver that
was killed leaves is completed by what its blocks counted (see `block_counts`). Where there is no
such file, or something changed since, `status.study_status` counts again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dynloss_core import keys
from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError
from studies.definition.network_counts import NetworkCounts
from studies.definition.phases import Phase
from studies.messages import duration
from studies.storage.block_counts import ArmCounts, counts_of_study, failures_in
from studies.storage.recorded_verdicts import recorded_verdicts
from studies.storage.study_paths import StudyPaths

__all__ = [
    "PhaseStatus",
    "StudyStatus",
    "keep_status",
    "kept_status",
    "times_of_plan",
    "with_results",
]

_OF_RESULTS = ("parts", "tables/members.parquet")
_CLOCK = 20_000_000  # nanoseconds within which two times of files may be the same


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
        verdicts: what the results say (see `recorded_verdicts`); empty while a driver is running.
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
    verdicts: tuple[str, ...] = ()

    def json(self) -> str:
        """The status as JSON."""
        return json.dumps(asdict(self), indent=2)

    def counts(self) -> NetworkCounts:
        """The trials and networks trained, while no driver is running."""
        done: Counter[str] = Counter()
        for phase in self.phases:
            done[Phase.parse(phase.phase).kind] += phase.done
        finals, fresh = done[keys.FINALS], done[keys.CONFIRM]
        searched = round(self.trained) - finals - fresh
        return NetworkCounts(done[keys.SEARCH], searched, finals, fresh)

    def __str__(self) -> str:
        """The status in a few readable lines."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        on = f" on {self.machine}" if self.machine else ""
        driver = f"a driver is running{on}" if self.is_driven else "no driver is running"
        share = self.trained / self.networks
        yield f"{self.name} ({self.mode}): {share:.0%} of its networks trained, {driver}"
        if not self.is_driven and self.trained:
            yield f"  trained  {self.counts()}"
        wide = max((len(phase.phase) for phase in self.phases), default=0)
        wide, wide_arm = max(wide, 8), max((len(phase.arm) for phase in self.phases), default=0)
        for phase in self.phases:
            line = f"  {phase.phase:<{wide}} {phase.arm:<{wide_arm}} {phase.done} of {phase.wanted}"
            line += f" {phase.unit}"
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
        for verdict in self.verdicts:
            yield f"  verdict  {verdict}"


def kept_status(paths: StudyPaths) -> StudyStatus | None:
    """The status that a study's folder keeps; None if it keeps none, or keeps one of the past."""
    content = _read(paths.status)
    is_current = content.get("times") == _times(paths)  # of all that lies there now
    current = _status(content.get("status")) if is_current else None
    progress = _read(paths.progress)
    if current is None and progress and not paths.is_locked():
        current = _counted(paths, progress)
    elif paths.is_locked():
        live = _status(progress.get("status"))
        if current is None or (live is not None and live.trained >= current.trained):
            current = live
        else:
            machine = str(progress.get("machine", ""))
            current = replace(current, is_driven=True, machine=machine)
    return current and with_results(current, paths)


def _counted(paths: StudyPaths, progress: dict[str, Any]) -> StudyStatus | None:
    """The status of a study whose driver was killed, from what it last wrote and what its blocks
    counted; kept for the next to ask. None if that is not all."""
    status = _status(progress.get("status"))
    before = _times(paths)
    if status is None or progress.get("times") != times_of_plan(paths):
        return None
    try:
        counts = counts_of_study(paths, status.objective)
    except (ConfigError, OSError, ValueError):
        return None  # counting it again says what is wrong
    if not counts and (paths.tables / "members.parquet").exists():
        return None  # parts that are gone were gathered there
    if not counts.keys() <= {(phase.phase, phase.arm) for phase in status.phases}:
        return None
    phases = []
    for phase in status.phases:
        own = counts.get((phase.phase, phase.arm), ArmCounts())
        if phase.unit == "trials":
            phase = replace(
                phase,
                done=own.trials,
                diverged=own.diverged,
                stopped=own.stopped,
                best=own.best,
            )
        else:
            phase = replace(phase, done=own.networks)
        phases.append(phase)
    ended = replace(
        _ended(status),
        trained=float(sum(own.networks for own in counts.values())),
        failures=failures_in(paths.parts_folder),
        phases=tuple(phases),
    )
    if paths.is_locked() or before != _times(paths):
        return None
    keep_status(paths, with_results(ended, paths))
    return ended


def with_results(status: StudyStatus, paths: StudyPaths) -> StudyStatus:
    """A status together with the results that there are now."""
    summary = str(paths.summary) if paths.summary.exists() else None
    verdicts = () if status.is_driven or summary is None else recorded_verdicts(paths)
    return replace(status, summary=summary, verdicts=verdicts)


def keep_status(paths: StudyPaths, status: StudyStatus) -> None:
    """Keep a status for whoever asks once no driver is running; without effect if it cannot be
    written.

    Args:
        paths: of the study's folder.
        status: of all that lies there now.
    """
    ended = _ended(status)
    times = _times(paths)
    last = max((moment for moment in times.values() if moment), default=0)
    if last > time.time_ns() - _CLOCK:
        time.sleep(_CLOCK / 1e9)  # so that what is written from now on has another time
    with suppress(OSError):
        if times == _times(paths) and last < time.time_ns():  # a disk's clock may be ahead
            content = {"times": times, "status": asdict(ended)}
            write_atomically(paths.status, json.dumps(content) + "\n")


def _ended(status: StudyStatus) -> StudyStatus:
    """A status without what only a driver knows."""
    return replace(
        status, is_driven=False, machine="", networks_per_minute=None, seconds_left=None, blocks={}
    )


def times_of_plan(paths: StudyPaths) -> dict[str, int | None]:
    """When what says how much there is to train was last changed, as in `_times`."""
    return {name: time for name, time in _times(paths).items() if name not in _OF_RESULTS}


def _times(paths: StudyPaths) -> dict[str, int | None]:
    """When what a status depends on was last changed, in nanoseconds; None where it is not there.
    A folder changes with each file that is added, replaced or removed."""
    files = [paths.definition, paths.begun, paths.confirm, paths.parts_folder]
    if not paths.parts_folder.exists():
        files.append(paths.tables / "members.parquet")
    files += sorted(paths.plugins.glob("*"))
    return {str(file.relative_to(paths.path)): _time(file) for file in files}


def _time(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _read(path: Path) -> dict[str, Any]:
    """The content of a file; empty if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _status(content: Any) -> StudyStatus | None:
    """A status from JSON; None if it is none, or of another version."""
    try:
        phases = tuple(PhaseStatus(**phase) for phase in content["phases"])
        return StudyStatus(**{**content, "phases": phases, "verdicts": ()})
    except (KeyError, TypeError):
        return None
