"""A tracker in a process of its own: what it writes takes none of the driver's one interpreter.

The driver sends what is to be called and reads what comes of it, pickled, through the pipes of the
process, which ends with the driver. What libraries log there is logged in the driver.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from studies.interrupts import INTERRUPTS
from studies.storage.tracking.base import Tracker, Unreachable

__all__ = ["TrackerProcess"]

_BEGIN = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    f"from {__name__} import serve; serve()"
)
_PARENT_DEATH_SIGNAL = 1  # of prctl, on Linux


@dataclass(frozen=True)
class _Reply:
    """What came of a call.

    Args:
        value: what it returned.
        error: what it raised.
        records: what libraries logged meanwhile.
    """

    value: Any = None
    error: Exception | None = None
    records: tuple[logging.LogRecord, ...] = ()


class TrackerProcess:
    """The process, as the driver sees it; it starts with the first connection, and again should it
    be gone.

    Args:
        connector: function that returns a function that connects to a tracker, and can be pickled;
            it is called in the process.
        arguments: what it is called with.
    """

    def __init__(self, connector: Callable[..., Callable[[], Tracker]], *arguments: Any) -> None:
        self._connector, self._arguments = connector, arguments
        self._process: subprocess.Popen[bytes] | None = None

    def connect(self) -> Tracker:
        """Connect to the tracker, once or again.

        Raises:
            Unreachable: if its store is, or the process is gone.
            ConfigError: what the function refuses.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BEGIN],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the driver's
            )
            self._send(sys.path)
            self.call(self._connector, *self._arguments)
        return _Forwarding(self, self.call("connect"))

    def call(self, what: str | Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a method of the tracker, and return what it returns.

        Args:
            what: its name; or the function that makes the connection.
            arguments: its arguments.
            named: its arguments by name.

        Raises:
            Unreachable: what it raises, or if the process is gone.
            Exception: anything else that it raises.
        """
        try:
            self._send((what, arguments, named))
            assert self._process is not None
            assert self._process.stdout is not None
            reply: _Reply = pickle.load(self._process.stdout)  # noqa: S301  of our own process
        except (EOFError, OSError, pickle.UnpicklingError):
            self.end()
            raise Unreachable("the process that writes to the tracker is gone") from None
        for record in reply.records:
            logging.getLogger(record.name).handle(record)
        if reply.error is not None:
            raise reply.error
        return reply.value

    def end(self) -> None:
        """End the process at once. What it was called for before is written; a call that it is busy
        with may not be, for the study may have another driver by then."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was not sent
                pipe.close()

    def _send(self, message: Any) -> None:
        if self._process is None:
            raise EOFError
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()


class _Forwarding:
    """A tracker whose methods are called in the process."""

    def __init__(self, process: TrackerProcess, uri: str) -> None:
        self.uri = uri
        self._process = process

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments, **named: self._process.call(name, *arguments, **named)


def serve() -> None:
    """What the process does: call what it is sent, until the driver is gone."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that is printed goes between the replies
    log = _Kept()
    os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"  # it would log to the terminal
    logging.captureWarnings(True)
    logging.getLogger().handlers = [log]
    with suppress(EOFError, OSError):
        _serve(requests, replies, log)


def _serve(requests: BinaryIO, replies: BinaryIO, log: _Kept) -> None:
    connect: Callable[[], Tracker] | None = None
    tracker: Tracker | None = None
    while True:
        what, arguments, named = pickle.load(requests)  # noqa: S301  of our own driver
        value, error = None, None
        try:
            if callable(what):
                connect = what(*arguments, **named)
            elif what == "connect":
                assert connect is not None
                tracker = connect()
                value = tracker.uri
            else:
                value = getattr(tracker, what)(*arguments, **named)
        except Exception as raised:
            error = _that_travels(raised)
        pickle.dump(_Reply(value, error, log.taken()), replies, pickle.HIGHEST_PROTOCOL)
        replies.flush()


def _that_travels(error: Exception) -> Exception:
    """An error itself, or in words if it cannot be pickled and read again."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Kept(logging.Handler):
    """Keeps what is logged until it is taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, as text: what it was made of may not travel."""
        record.msg, record.args = self.format(record), None
        record.exc_info, record.exc_text, record.stack_info = None, None, None
        self._records.append(record)

    def taken(self) -> tuple[logging.LogRecord, ...]:
        """What was logged since the last time."""
        records, self._records = tuple(self._records), []
        return records
