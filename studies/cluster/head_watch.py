"""A head that is gone, told while there is time to bring it back.

Ray waits for it for a minute, then ends the driver's process in the middle of whatever it does,
with a line of its own. So a thread tries the head's port meanwhile, and puts the study in order
before that.
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
_SECONDS_TO_RETURN = 40.0  # before the study is put in order; Ray waits for 60


@contextmanager
def watched_head(
    address: str, say: Callable[[str], None], cut_off: Callable[[], None]
) -> Iterator[None]:
    """Tell the user when nothing listens at the head's address any more, and when it is back.

    Args:
        address: HOST:PORT of the head.
        say: shows a line to the user.
        cut_off: what to do, in a thread of its own, before Ray ends this process.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(address, say, cut_off, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(
    address: str, say: Callable[[str], None], cut_off: Callable[[], None], ended: threading.Event
) -> None:
    heard, told, in_order = time.monotonic(), False, False
    while not ended.wait(_SECONDS_BETWEEN_TRIES):
        silence = time.monotonic() - heard
        if _listens(address):
            if told:
                say(f"the head at {address} is back")
            heard, told, in_order = time.monotonic(), False, False
        elif not told and silence > _SECONDS_OF_SILENCE:
            told = True
            say(
                f"the head at {address} is gone: unless it is back within a minute, Ray ends this "
                "run; everything trained is kept: start the head, then continue with --resume"
            )
        elif not in_order and silence > _SECONDS_TO_RETURN:
            in_order = True
            cut_off()


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_BETWEEN_TRIES).close()
    except OSError:
        return False
    return True
