"""What a user sees while a study runs: a bar in a terminal, plain lines elsewhere, and a file in
the study's folder for whoever asks from another terminal or machine (see
`studies.storage.status`)."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from dynloss_core import keys
from dynloss_core.atomic import write_atomically
from studies.blocks.block import Block
from studies.definition.study import Study
from studies.messages import PlainConsole, duration
from studies.search.confirmation import Winner
from studies.storage.status_file import StudyStatus

__all__ = ["StudyProgress"]

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FILES = 2.0
_SECONDS_AFTER_A_BLOCK = 0.5
_RATE_WINDOW_SECONDS = 300.0  # over which the rate is averaged


class StudyProgress:
    """The progress of a study, measured in networks.

    Args:
        study: the study.
        console: where to show it; standard error by default.
        file: a file to keep it in for others; None keeps it nowhere.
    """

    def __init__(
        self, study: Study, console: Console | None = None, file: Path | None = None
    ) -> None:
        self._file, self._file_written = file, -_SECONDS_BETWEEN_FILES
        self.status: Callable[[], StudyStatus] | None = None  # for the file, beside its progress
        self._nodes: dict[str, str] = {}  # of the blocks at work
        self._recent: deque[tuple[float, float]] = deque()  # times, and networks trained by then
        self._console = console or PlainConsole(stderr=True, soft_wrap=False)
        self._total = study.members()
        self._objective = study.objective.replace("_", " ")
        self._done = 0.0
        self._failed = 0
        self._at_start = 0.0
        self._running: dict[str, float] = {}
        self._best: dict[str, float] = {}
        self._started = time.monotonic()
        self._training_since: float | None = None
        self._last_line = -_SECONDS_BETWEEN_LINES
        self._phase = keys.SEARCH
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}", markup=False),
                TextColumn("{task.fields[best]}", markup=False),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(
                keys.SEARCH, total=self._total, left="", best="", start=True
            )

    def __enter__(self) -> StudyProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._write(after=0.0)

    def expect(self, members: int) -> None:
        """Count networks beyond the study's own."""
        self._total += members
        if self._bar is not None:
            self._bar.update(self._task, total=self._total)

    def recorded(self, block: Block, *, trained: bool) -> None:
        """Count a block that an earlier session trained, or saw fail."""
        self._count(block, trained=trained)
        if trained:
            self._at_start += block.members

    def started(self, block: Block) -> None:
        """Take note that a block has started."""
        self._running.setdefault(block.id, 0.0)
        self._write()

    def advance(self, block: Block, fraction: float, node: str = "") -> None:
        """Show that a running block has done `fraction` of its training, on some machine."""
        self._nodes[block.id] = node
        self._phase = block.phase
        self._training_since = self._training_since or time.monotonic()
        self._running[block.id] = fraction * block.members
        self._show()

    def finish(self, block: Block, *, trained: bool) -> None:
        """Count a block that has ended, trained or failed."""
        self._running.pop(block.id, None)
        self._nodes.pop(block.id, None)
        self._count(block, trained=trained)
        self._write(after=min(_SECONDS_AFTER_A_BLOCK, _SECONDS_BETWEEN_FILES))
        self._show()

    def _count(self, block: Block, *, trained: bool) -> None:
        if trained:
            self._done += block.members
        else:
            self._failed += block.members

    def say(self, line: str) -> None:
        """Show the user a line above the progress bar."""
        self._console.print(line, markup=False, soft_wrap=True)

    def best(self, winners: dict[str, Winner]) -> None:
        """Show the best points so far."""
        known = ((arm, winner.objective) for arm, winner in winners.items())
        self._best = {arm: value for arm, value in known if value is not None}

    def _trained(self) -> float:
        """Number of networks trained, those in training counted by their fraction."""
        return self._done + sum(self._running.values())

    def _seconds_left(self) -> float | None:
        """Estimate by the rate so far; None before there is one."""
        fresh = self._trained() - self._at_start
        trained = time.monotonic() - (self._training_since or time.monotonic())
        if fresh <= 0.02 * self._total or trained <= 0:
            return None
        return (self._total - self._failed - self._trained()) * trained / fresh

    def _write(self, *, after: float | None = None) -> None:
        """Write the progress file, if the last time was so many seconds ago; by default a few."""
        now, after = time.monotonic(), _SECONDS_BETWEEN_FILES if after is None else after
        if self._file is None or now - self._file_written < after:
            return
        self._file_written = now
        self._recent.append((now, self._trained()))
        while now - self._recent[0][0] > _RATE_WINDOW_SECONDS:
            self._recent.popleft()
        (then, before), (_, trained) = self._recent[0], self._recent[-1]
        content: dict[str, Any] = {
            "updated": time.time(),
            "machine": socket.gethostname(),
            "process": os.getpid(),
            "phase": self._phase,
        }
        if self.status is not None:
            known = replace(
                self.status(),
                trained=trained,
                is_driven=True,
                machine=socket.gethostname(),
                networks_per_minute=60 * (trained - before) / (now - then) if now > then else None,
                seconds_left=self._seconds_left(),
                blocks={
                    name: {"networks": done, "node": self._nodes.get(name, "")}
                    for name, done in self._running.items()
                },
            )
            content["status"] = asdict(known)
        with suppress(OSError):  # no result depends on it
            write_atomically(self._file, json.dumps(content, indent=1) + "\n")

    def _show(self) -> None:
        self._write()
        done = self._trained()
        elapsed = time.monotonic() - self._started
        seconds_left = self._seconds_left()
        left = "" if seconds_left is None else f"{duration(seconds_left)} left"
        shown = [f"{arm} {value:.3f}" for arm, value in self._best.items()]
        best = f"best {self._objective}: {', '.join(shown)}" if shown else ""
        if self._bar is not None:
            self._bar.update(
                self._task, completed=done, description=self._phase, left=left, best=best
            )
            return
        now = time.monotonic()
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            parts = [f"{self._phase} {done / self._total:4.0%}", duration(elapsed), left, best]
            self._console.print("  ".join(part for part in parts if part), soft_wrap=True)
