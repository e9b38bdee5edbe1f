"""How far a study is while it runs: shown in a panel, or in plain lines where there is no terminal,
and kept in a file of the study's folder for whoever asks from another terminal or machine (see
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

from dynloss_core import keys
from dynloss_core.atomic import write_atomically
from studies.blocks.block import Block
from studies.definition.study import Study
from studies.messages import duration, notes
from studies.runner.panel import StudyPanel, phase_in_words
from studies.search.confirmation import Winner
from studies.storage.status_file import StudyStatus

__all__ = ["StudyProgress"]

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FILES = 2.0
_SECONDS_AFTER_A_BLOCK = 0.5
_SECONDS_BETWEEN_VIEWS = 0.25
_RATE_WINDOW_SECONDS = 300.0  # over which the rate is averaged


class StudyProgress:
    """The progress of a study, measured in networks.

    Args:
        study: the study.
        console: where to show it without a panel; standard error by default.
        file: a file to keep it in for others; None keeps it nowhere.
        panel: the panel that shows it, in a terminal.
    """

    def __init__(
        self,
        study: Study,
        console: Console | None = None,
        file: Path | None = None,
        panel: StudyPanel | None = None,
    ) -> None:
        self._file, self._file_written = file, -_SECONDS_BETWEEN_FILES
        self.status: Callable[[], StudyStatus] | None = None  # for the file, beside its progress
        self.times: dict[str, int | None] = {}  # of the files that the status rests on
        self._nodes: dict[str, str] = {}  # of the blocks at work
        self._recent: deque[tuple[float, float]] = deque()  # times, and networks trained by then
        self._panel = panel
        self._console = console or (notes if panel is None else panel.console)
        self._total = study.members()
        self._objective = study.objective.replace("_", " ")
        self._done = 0.0
        self._failed = 0
        self._at_start = 0.0
        self._running: dict[str, float] = {}
        self._best: dict[str, Winner] = {}
        self._started = time.monotonic()
        self._training_since: float | None = None
        self._begun_untimed: set[str] = set()  # blocks at work before time was taken
        self._reported: set[str] = set()
        self._last_line = -_SECONDS_BETWEEN_LINES
        self._phase = keys.SEARCH
        self._last_view = -_SECONDS_BETWEEN_VIEWS

    def __enter__(self) -> StudyProgress:
        if self._panel is not None:
            self._panel.begin_lines()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write(after=0.0)
        if error is None:
            self._view(after=0.0)

    def expect(self, members: int) -> None:
        """Count networks beyond the study's own."""
        self._total += members

    def recorded(self, block: Block, *, trained: bool) -> None:
        """Count a block that an earlier session trained, or saw fail."""
        self._count(block, trained=trained)
        if trained:
            self._at_start += block.members

    def started(self, block: Block) -> None:
        """Take note that a block has started."""
        self._running.setdefault(block.id, 0.0)
        self._phase = block.phase
        self._write()
        self._view()

    def advance(self, block: Block, fraction: float, node: str = "") -> None:
        """Show that a running block has done `fraction` of its training, on some machine."""
        self._nodes[block.id] = node
        self._phase = block.phase
        is_first = block.id not in self._reported
        self._reported.add(block.id)
        self._running[block.id] = fraction * block.members
        if self._training_since is None:
            self._training_since, self._begun_untimed = time.monotonic(), set(self._running)
        if is_first and block.id in self._begun_untimed:  # how long that took is not known
            self._at_start += fraction * block.members
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
        """Show the user a line, above the panel if there is one."""
        self._console.print(line, markup=False, soft_wrap=True)

    def best(self, winners: dict[str, Winner]) -> None:
        """Show the best points so far."""
        self._best = winners

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
        content: dict[str, Any] = {
            "updated": time.time(),
            "machine": socket.gethostname(),
            "process": os.getpid(),
            "phase": self._phase,
        }
        if self.status is not None:
            content["status"] = asdict(self._known(self.status(), now))
            content["times"] = self.times
        with suppress(OSError):  # no result depends on it
            write_atomically(self._file, json.dumps(content, indent=1) + "\n")

    def _known(self, status: StudyStatus, now: float) -> StudyStatus:
        """A status, with what only the driver knows."""
        trained = self._trained()
        then, before = self._recent[0] if self._recent else (now, trained)
        return replace(
            status,
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

    def _view(self, *, after: float = _SECONDS_BETWEEN_VIEWS) -> None:
        """Show how far the study is in the panel, if the last time was so many seconds ago."""
        now = time.monotonic()
        if self._panel is None or not self._panel.is_shown or self.status is None:
            return
        if now - self._last_view >= after:
            self._last_view = now
            self._panel.show(self._known(self.status(), now), self._phase, self._best)

    def _show(self) -> None:
        self._write()
        if self._panel is not None and self._panel.is_shown:
            self._view()
            return
        now = time.monotonic()
        is_quiet = self._panel is not None and not self._panel.has_lines
        if is_quiet or now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        seconds_left = self._seconds_left()
        left = "" if seconds_left is None else f"{duration(seconds_left)} left"
        values = [(arm, winner.objective) for arm, winner in self._best.items()]
        shown = [f"{arm} {value:.3f}" for arm, value in values if value is not None]
        best = f"best {self._objective}: {', '.join(shown)}" if shown else ""
        name = self._phase if self.status is None else phase_in_words(self._phase, self.status())
        share = f"{name} {self._trained() / self._total:4.0%}"
        parts = [share, duration(now - self._started), left, best]
        self.say("  ".join(part for part in parts if part))
