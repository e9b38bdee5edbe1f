"""Delivery to the tracker, by a thread of its own: while the tracker is unreachable, everything
waits, and the study goes on.

What waits is on disk already, as tables in the study's folder. So a study neither waits for its
tracking server nor ends with it, and whoever opens the folder later delivers the rest
(`dynloss sync`). Blocks are delivered in the order in which they finished. A request whose answer
was lost may have taken effect; so after every loss the runs are found again by their tags, with
what they hold, and only what is missing is sent.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd

from dynloss_core.config import ConfigError, reason_of
from studies.blocks.block import Block
from studies.blocks.tables import mean_curves
from studies.definition.redaction import hide_password
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.base import Tracker, Unreachable

__all__ = ["Delivery"]

T = TypeVar("T")

_FIRST_PAUSE, _MAX_PAUSE = 1.0, 30.0  # seconds between two attempts
_SECONDS_TO_END = 5.0


@dataclass
class _Request:
    """Work for the thread to do once everything before it is delivered."""

    work: Callable[[Tracker], Any]
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: Exception | None = None


class Delivery:
    """Delivers a study to its tracker.

    Args:
        folder: the folder of the study, from which finished blocks are read.
        connect: function that returns a new tracker, which knows what its store holds; raises
            `Unreachable` or `ConfigError` while the store cannot be reached.
        tracker: a tracker that is connected already; None connects once something is to be
            delivered.
    """

    def __init__(
        self, folder: StudyFolder, connect: Callable[[], Tracker], tracker: Tracker | None = None
    ) -> None:
        self._folder, self._connect, self._tracker = folder, connect, tracker
        self._events: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._running: dict[str, Block] = {}
        self._finished: dict[str, Block] = {}  # not delivered yet, in order
        self._pause, self._next_attempt = _FIRST_PAUSE, 0.0
        self.delivered = 0  # trials whose runs were closed
        self.problem = ""  # why the last attempt did not reach the tracker
        self._error: Exception | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="delivery", daemon=True)
        self._thread.start()

    def start(self, block: Block) -> None:
        """Give the trials of a block that has started their runs."""
        self._events.put(("start", block))

    def log_means(self, block: Block, means: pd.DataFrame) -> None:
        """Deliver the mean curves of a running block (see `tables.mean_curves`)."""
        self._events.put(("means", (block, means)))

    def finish(self, block: Block) -> None:
        """Deliver a block that is in the folder, trained or failed."""
        self._events.put(("finish", block))

    def ask(self, work: Callable[[Tracker], T]) -> T | None:
        """Have work done once everything before it is delivered, and wait for its result; None if
        one more attempt does not reach the tracker. Other errors of `work` are raised here."""
        request = _Request(work)
        self._events.put(("ask", request))
        while not request.done.wait(0.2):  # wakes for Ctrl-C
            if not self._thread.is_alive():
                raise self._error or RuntimeError("the delivery has ended")
        if request.error is not None:
            raise request.error
        result: T | None = request.result
        return result

    def close(self) -> None:
        """End the thread; what is not delivered stays on disk. A request under way that does not
        end in time is the last one: the study may have another session by then."""
        self._events.put(None)
        self._thread.join(_SECONDS_TO_END)
        self._given_up.set()

    def _work(self) -> None:
        while True:
            try:
                event = self._events.get(timeout=self._pause if self.problem else None)
            except queue.Empty:
                self._deliver()
                continue
            if event is None or self._given_up.is_set():
                return
            try:
                getattr(self, f"_on_{event[0]}")(event[1])
            except Exception as error:
                self._error = error
                return

    def _on_start(self, block: Block) -> None:
        self._running[block.id] = block
        self._deliver(lambda tracker: tracker.start(block))

    def _on_means(self, block_and_means: tuple[Block, pd.DataFrame]) -> None:
        if not self.problem:  # otherwise they come with the block's tables
            self._deliver(lambda tracker: tracker.log_means(*block_and_means))

    def _on_finish(self, block: Block) -> None:
        self._running.pop(block.id, None)
        self._finished[block.id] = block
        self._deliver()

    def _on_ask(self, request: _Request) -> None:
        self._next_attempt = 0.0

        def work(tracker: Tracker) -> None:
            request.result = request.work(tracker)

        try:
            self._deliver(work)
        except Exception as error:
            request.error = error
        request.done.set()

    def _deliver(self, work: Callable[[Tracker], None] | None = None) -> None:
        """Deliver everything that waits, then do some work. If the tracker is unreachable, keep the
        reason, and try again after a pause at the earliest."""
        if time.monotonic() < self._next_attempt:
            return
        try:
            tracker = self._connected()
            for block in list(self._finished.values()):
                if self._given_up.is_set():
                    return
                self._deliver_block(tracker, block)
            if work is not None:
                work(tracker)
        except (Unreachable, ConfigError) as error:
            self._tracker = None
            self.problem = hide_password(reason_of(error))[:1000]
            self._next_attempt = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _MAX_PAUSE)
        else:
            self.problem, self._pause = "", _FIRST_PAUSE

    def _connected(self) -> Tracker:
        if self._tracker is None:
            tracker = self._connect()
            for block in self._running.values():
                tracker.start(block)
            self._tracker = tracker
        return self._tracker

    def _deliver_block(self, tracker: Tracker, block: Block) -> None:
        if not tracker.is_finished(block):
            members = self._folder.parts.recorded(block)
            if members is None:
                raise RuntimeError(f"block {block.id} is not in the folder")
            tracker.start(block)
            if not members.empty:
                tracker.log_means(block, mean_curves(self._folder.parts.table(block, "curves")))
            self.delivered += tracker.finish(block, members)
        del self._finished[block.id]
