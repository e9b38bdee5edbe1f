"""Figures drawn by several processes at once, since matplotlib draws on one core."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from studies.cluster.capacity import available_cpus
from studies.interrupts import INTERRUPTS

__all__ = ["draw_together"]

T = TypeVar("T")
_EACH = 2  # drawings at least: a process for fewer costs what it saves
_MOST = 4  # processes
_PR_SET_PDEATHSIG = 1  # of `linux/prctl.h`
_PATIENCE = 60.0  # seconds for a copy, once this process has drawn its own share


def draw_together(drawings: Sequence[Callable[[], T]]) -> list[T]:
    """Call each of the functions, on as many cores as it pays, and return what they return.

    The processes are copies of this one, since a drawing is a function that holds the tables it
    draws. A copy that fails, dies or stands still costs time alone: its share is drawn here, and an
    error is the one that the function raises.

    Args:
        drawings: functions that only draw and write, and whose results can be pickled.
    """
    gc.freeze()  # what is imported is not searched for garbage while thousands of artists are made
    try:
        return _draw_together(drawings)
    finally:
        gc.unfreeze()


def _draw_together(drawings: Sequence[Callable[[], T]]) -> list[T]:
    count = min(available_cpus(), _MOST, len(drawings) // _EACH)
    if count < 2 or sys.platform != "linux" or multiprocessing.current_process().daemon:
        return [draw() for draw in drawings]
    shares = [range(first, len(drawings), count) for first in range(count)]
    with ExitStack() as stack:
        copies = [stack.enter_context(_copy(drawings, share)) for share in shares[1:]]
        drawn = {number: drawings[number]() for number in shares[0]}
        for received in copies:
            drawn |= received()
    return [drawn[n] if n in drawn else draw() for n, draw in enumerate(drawings)]


@contextmanager
def _copy(
    drawings: Sequence[Callable[[], T]], share: range
) -> Iterator[Callable[[], dict[int, T]]]:
    """A copy of this process that draws a share; what is yielded waits for the results, by number.
    They are none if it has failed."""
    fork = multiprocessing.get_context("fork")
    receives, sends = fork.Pipe(duplex=False)
    given = (drawings, share, receives, sends, os.getpid())
    process = fork.Process(target=_draw_and_send, args=given, daemon=True)
    with warnings.catch_warnings():
        # of threads whose locks a copy would find taken: no drawing asks for one
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sends.close()

    def received() -> dict[int, T]:
        with suppress(EOFError, OSError):
            if receives.poll(_PATIENCE):
                return dict(receives.recv())
        return {}

    try:
        yield received
    finally:
        process.kill()
        process.join()
        receives.close()


def _draw_and_send(
    drawings: Sequence[Callable[[], Any]],
    share: range,
    receives: Connection,
    sends: Connection,
    parent: int,
) -> None:
    _end_with(parent)
    receives.close()  # else what is sent to a process that has gone would wait for this one to read
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)  # whoever waits ends this process
    with suppress(Exception):
        sends.send({number: drawings[number]() for number in share})


def _end_with(parent: int) -> None:
    """Have Linux end this process with the one that it is a copy of, whose locks it holds too."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
