"""What a user sees while a study runs: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from dynloss_core import keys
from studies.blocks import Block
from studies.confirmation import Winner
from studies.definition import Study

__all__ = ["StudyProgress", "duration"]

_SECONDS_BETWEEN_LINES = 10.0


class StudyProgress:
    """Progress of a study, weighed by members.

    Args:
        study: whose progress.
        console: where to show it; standard error by default.
    """

    def __init__(self, study: Study, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._total = study.members()
        self._objective = study.objective.replace("_", " ")
        self._done = 0.0
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
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[best]}"),
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

    def expect(self, members: int) -> None:
        """Count networks beyond the study's own."""
        self._total += members
        if self._bar is not None:
            self._bar.update(self._task, total=self._total)

    def recorded(self, block: Block) -> None:
        """Count a block that an earlier session finished."""
        self._done += block.members
        self._at_start += block.members

    def advance(self, block: Block, fraction: float) -> None:
        """A running block has done `fraction` of its training."""
        self._phase = block.phase
        self._training_since = self._training_since or time.monotonic()
        self._running[block.id] = fraction * block.members
        self._show()

    def finish(self, block: Block) -> None:
        """A block has ended."""
        self._running.pop(block.id, None)
        self._done += block.members
        self._show()

    def best(self, winners: dict[str, Winner]) -> None:
        """The best points so far."""
        self._best = {arm: winner.objective for arm, winner in winners.items()}

    def _show(self) -> None:
        done = self._done + sum(self._running.values())
        elapsed = time.monotonic() - self._started
        fresh = done - self._at_start
        left = ""
        trained = time.monotonic() - (self._training_since or time.monotonic())
        if fresh > 0.02 * self._total and trained > 0:
            left = f"{duration((self._total - done) * trained / fresh)} left"
        found = [f"{arm} {v:.3f}" for arm, v in self._best.items() if v == v]
        best = f"best {self._objective}: {', '.join(found)}" if found else ""
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


def duration(seconds: float) -> str:
    """`75` as `1m15s`."""
    whole = round(max(seconds, 0))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
