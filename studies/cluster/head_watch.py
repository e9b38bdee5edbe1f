"""A head that is gone, told while there is time to bring it back.

Ray waits for it for a minute, then ends the driver's process in the middle of whatever it does,
with a line of its own. So a thread tries the head's port meanwhile.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["watched_head"]

_SECONDS_BETWEEN_TRIES = 2.0
_SECONDS_OF_SILENCE = 8.0  # before the user is told


@contextmanager
def watched_head(address: str, say: Callable[[str], None]) -> Iterator[None]:
    """Tell the user when nothing listens at the head's address any more, and when it is back.

    Args:
        address: HOST:PORT of the head.
        say: shows a line to the user.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(address, say, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(address: str, say: Callable[[str], None], ended: threading.Event) -> None:
    heard, told = time.monotonic(), False
    while not ended.wait(_SECONDS_BETWEEN_TRIES):
        if _listens(address):
            if told:
                say(f"the head at {address} is back")
            heard, told = time.monotonic(), False
        elif not told and time.monotonic() - heard > _SECONDS_OF_SILENCE:
            told = True
            say(
                f"the head at {address} is gone: unless it is back within a minute, Ray ends this "
                "run; everything trained is kept: start the head, then continue with --resume"
            )


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_BETWEEN_TRIES).close()
    except OSError:
        return False
    return True
