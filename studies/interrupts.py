"""Ctrl-C that cannot be lost: Python drops the exception where it arrives in a finaliser."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["noted_interrupts"]


@contextmanager
def noted_interrupts(note: Callable[[], bool]) -> Iterator[None]:
    """Have each Ctrl-C noted before anything else comes of it.

    Where this is not the main thread, or Ctrl-C means something else here, nothing changes.

    Args:
        note: called at once, between any two steps of the program; says whether the
            `KeyboardInterrupt` is raised as well.
    """
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if note():
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
