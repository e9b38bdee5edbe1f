"""Ctrl-C that cannot be lost, and the end of a job or of a terminal taken for it.

Python drops the exception of Ctrl-C where it arrives in a finaliser. SIGTERM, which a scheduler
sends before it kills, and SIGHUP, of a terminal that is closed, would end the process with no word.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = [
    "INTERRUPTS",
    "ends_as_interrupts",
    "kept_handlers",
    "kept_interrupts",
    "noted_interrupts",
]

_ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
INTERRUPTS = (signal.SIGINT, *_ENDS)
"""Signals that ask a study to end in order."""

_BYTES_OF_ACTION = 1024  # more than any system's `struct sigaction` takes
# a shell lets what a script starts in the background ignore Ctrl-C, but not SIGTERM
_NOT_OWN = (signal.default_int_handler, signal.SIG_IGN)


@contextmanager
def ends_as_interrupts() -> Iterator[None]:
    """Take SIGTERM and SIGHUP for Ctrl-C, unless they are ignored or mean something already."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in _ENDS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Put back what SIGTERM and SIGHUP mean, where a library gives them a meaning of its own; but
    not over what they do where nobody says. In any thread: Python sets handlers in its main one
    alone, and does not know of those that C++ sets."""
    own: dict[int, Any] = {number: signal.getsignal(number) for number in _ENDS}
    own = {n: handler for n, handler in own.items() if handler not in (signal.SIG_DFL, None)}
    actions = {number: _action_of(number) for number in own}
    try:
        yield
    finally:
        for number, action in actions.items():
            if action is not None:
                ctypes.CDLL(None).sigaction(number, action, None)
        if threading.current_thread() is threading.main_thread():
            for number, handler in own.items():
                signal.signal(number, handler)


def _action_of(number: int) -> ctypes.Array[ctypes.c_char] | None:
    """What the system does at a signal, as it describes it; None on Windows."""
    if os.name != "posix":
        return None
    action = ctypes.create_string_buffer(_BYTES_OF_ACTION)
    ctypes.CDLL(None).sigaction(number, None, action)
    return action


@contextmanager
def noted_interrupts(
    note: Callable[[], bool], note_end: Callable[[], bool] | None = None
) -> Iterator[None]:
    """Have each Ctrl-C noted before anything else comes of it.

    Where this is not the main thread, or Ctrl-C means something else here, nothing changes.

    Args:
        note: called at once, between any two steps of the program; says whether the
            `KeyboardInterrupt` is raised as well.
        note_end: the same for a signal that is taken for Ctrl-C (see `ends_as_interrupts`); by
            default `note`.
    """
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGINT) not in _NOT_OWN:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        noted = note if number == signal.SIGINT or note_end is None else note_end
        if noted():
            signal.default_int_handler(number, frame)

    numbers = [
        number for number in INTERRUPTS if signal.getsignal(number) is signal.default_int_handler
    ]
    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)


@contextmanager
def kept_interrupts() -> Iterator[None]:
    """Let a Ctrl-C stay one where it comes out of a library as another error."""
    noted: list[bool] = []

    def note() -> bool:
        noted.append(True)
        return True

    try:
        with noted_interrupts(note):
            yield
    except Exception as error:
        if noted:
            raise KeyboardInterrupt from error
        raise
