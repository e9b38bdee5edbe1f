"""What each finished block adds to how far a study is, kept in a file that grows by a line a block.

A driver that is killed leaves it behind, however it ends: the status is then the sum of its lines.
A line holds the size and the time of the part that it counts, and counts nothing once that part is
another. What lies there without a line, such as the part that was written last, is read.

Nothing here imports more than it takes to add numbers, unless there is a part to read.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dynloss_core import keys
from studies.storage.study_paths import StudyPaths

__all__ = ["ArmCounts", "BlockCounts", "counts_of_rows", "counts_of_study", "failures_in"]

Row = tuple[int, float | None, bool, bool]
"""Of a members table: trial, objective, whether it diverged, whether it was stopped."""

_MEMBERS = ".members.parquet"
_FAILURE = ".error.txt"
_MANY = 64 * 2**10  # bytes of lines to be written at once


@dataclass(frozen=True)
class ArmCounts:
    """Networks and trials of one arm in one phase.

    Args:
        networks: number of networks.
        trials: number of trials.
        diverged: number of trials with a network that diverged.
        stopped: number of trials stopped early.
        best: the best mean objective of a trial that neither diverged nor was stopped; None
            without one.
    """

    networks: int = 0
    trials: int = 0
    diverged: int = 0
    stopped: int = 0
    best: float | None = None

    def plus(self, other: ArmCounts, objective: str) -> ArmCounts:
        """These and those of other trials."""
        choose = max if keys.higher_is_better(objective) else min
        return ArmCounts(
            self.networks + other.networks,
            self.trials + other.trials,
            self.diverged + other.diverged,
            self.stopped + other.stopped,
            choose((b for b in (self.best, other.best) if b is not None), default=None),
        )


_COUNTS = tuple(field.name for field in fields(ArmCounts))
_KEYS = {"block", "mark", *_COUNTS}


def counts_of_rows(rows: Iterable[Row], objective: str) -> ArmCounts:
    """The counts of a block.

    Args:
        rows: of its members table.
        objective: the metric.
    """
    totals: dict[int, float] = {}  # added one by one, as `PhaseCounts` does
    finite: Counter[int] = Counter()
    diverged, stopped, networks = set(), set(), 0
    for trial, value, is_diverged, is_stopped in rows:
        networks += 1
        total = totals.setdefault(trial, 0.0)
        if value is not None and value == value:  # a mean leaves out what is not a number
            totals[trial] = total + value
            finite[trial] += 1
        if is_diverged:
            diverged.add(trial)
        if is_stopped:
            stopped.add(trial)
    counted = finite.keys() - diverged - stopped
    choose = max if keys.higher_is_better(objective) else min
    best = choose((totals[trial] / finite[trial] for trial in counted), default=None)
    return ArmCounts(networks, len(totals), len(diverged), len(stopped), best)


class BlockCounts:
    """The file, as a driver writes it. What cannot be written is left out, and counted later.

    Args:
        paths: of the study's folder.
    """

    def __init__(self, paths: StudyPaths) -> None:
        self._paths = paths
        self._known = _lines(paths.counts)
        self._waiting: list[str] = []
        self._size = 0

    def add(self, block: str, counts: ArmCounts, *, at_once: bool = True) -> None:
        """Add a block that is in the folder, unless it is there.

        Args:
            block: the id of the block.
            counts: its counts.
            at_once: whether to write the line now, rather than with many others.
        """
        with suppress(OSError):
            mark = _mark((self._paths.parts_folder / f"{block}{_MEMBERS}").stat())
            line = {"block": block, "mark": mark, **asdict(counts)}
            if self._known.get(block) != line:
                self._known[block] = line
                text = json.dumps(line) + "\n"
                self._waiting.append(text)
                self._size += len(text)
        if at_once or self._size > _MANY:
            self.write()

    def write(self) -> None:
        """Write the lines that wait."""
        if not self._waiting:
            return
        lines, self._waiting, self._size = "".join(self._waiting), [], 0
        with suppress(OSError), self._paths.counts.open("a", encoding="utf-8") as file:
            file.write("\n" * _is_torn(self._paths.counts) + lines)


def counts_of_study(paths: StudyPaths, objective: str) -> dict[tuple[str, str], ArmCounts]:
    """The counts of all finished blocks, by phase and arm.

    Args:
        paths: of the study's folder.
        objective: the metric of the study.

    Raises:
        ConfigError: if a part without a line is damaged.
        OSError: if the folder cannot be read.
        ValueError: if a part has a name that no block has, or lacks what is counted.
    """
    lines = _lines(paths.counts)
    counts: defaultdict[tuple[str, str], ArmCounts] = defaultdict(ArmCounts)
    for name, mark in _parts(paths.parts_folder):
        block = name.removesuffix(_MEMBERS)
        phase, arm, _ = block.rsplit("-", 2)
        line = lines.get(block)
        if line is not None and line.pop("mark") == mark:
            added = ArmCounts(**{key: line[key] for key in _COUNTS})
        else:
            added = _counts_in(paths.parts_folder / name, objective)
        counts[phase, arm] = counts[phase, arm].plus(added, objective)
    return dict(counts)


def failures_in(folder: Path) -> dict[str, str]:
    """Blocks that could not be trained, and why, by their files in a folder."""
    reasons = {}
    for path in sorted(folder.glob(f"*{_FAILURE}")):
        with suppress(OSError):  # the empty members table says that it failed
            text = path.read_text(encoding="utf-8", errors="replace")
            reasons[path.name.removesuffix(_FAILURE)] = text.strip()
    return reasons


def _counts_in(part: Path, objective: str) -> ArmCounts:
    """The counts of a part."""
    from studies.storage.sealed_files import read_arrow

    table = read_arrow(part, "delete it")
    if not table.num_columns:  # the block failed
        return ArmCounts()
    names = set(table.column_names)
    if not {keys.TRIAL, objective, keys.DIVERGED} <= names:
        raise ValueError(part.name)
    stopped = [False] * len(table)
    if keys.STOPPED_STEP in names:
        steps = table[keys.STOPPED_STEP].to_pylist()
        stopped = [step is not None and step >= 0 for step in steps]
    columns = [table[name].to_pylist() for name in (keys.TRIAL, objective, keys.DIVERGED)]
    return counts_of_rows(zip(*columns, stopped, strict=True), objective)


def _parts(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """The members tables of a folder, each with its mark."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(_MEMBERS):
                    yield entry.name, _mark(entry.stat())
    except FileNotFoundError:
        if folder.exists():
            raise


def _mark(stat: os.stat_result) -> list[int]:
    """What changes when a file is replaced or edited."""
    return [stat.st_size, stat.st_mtime_ns]


def _is_torn(file: Path) -> bool:
    """Whether the last line was not written to its end."""
    with suppress(OSError), file.open("rb") as lines:
        if lines.seek(0, os.SEEK_END):
            lines.seek(-1, os.SEEK_END)
            return lines.read() != b"\n"
    return False


def _lines(file: Path) -> dict[str, dict[str, Any]]:
    """The last line of each block; those that are damaged are left out."""
    known: dict[str, dict[str, Any]] = {}
    with suppress(OSError):
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and line.keys() == _KEYS:
                    known[str(line["block"])] = line
    return known
