"""One driver at a time on a study in an object store, wherever the drivers are.

A driver creates a numbered object, its term, and extends the term as long as it works. Of several
that create the same number, the store lets one succeed. A term ends when its driver releases it, or
when it was not extended for a minute: then the driver is dead or cut off, and whoever comes next
creates the next number. A driver that was only cut off finds that number, and stops.

Times are compared between machines. A driver trusts its term for less long than others do, so that
clocks may differ by `_MARGIN`. An object that was on its way when a term ended may still arrive: it
is one file of a study as it was, and tables of a block are the same whoever wrote them.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType

from dynloss_core.config import ConfigError
from studies.object_store import ObjectStore

__all__ = ["LEASE", "Lease", "Term", "latest_term"]

LEASE = ".lease/"
"""Prefix of the names of terms."""

_SECONDS = 60.0  # that a term lasts after it was extended
_SECONDS_BETWEEN = 10.0  # two extensions
_MARGIN = 20.0  # seconds before its end, from which on its driver no longer trusts it


@dataclass(frozen=True)
class Term:
    """The right of one driver to write a study.

    Args:
        number: counts the terms of the study.
        owner: the working copy whose driver has it.
        host: that driver's machine.
        until: when it ends, in seconds since 1970; 0 once it was released.
    """

    number: int
    owner: str
    host: str
    until: float

    @property
    def name(self) -> str:
        """The name of its object."""
        return f"{LEASE}{self.number:08d}"

    @property
    def has_ended(self) -> bool:
        """Whether another driver may begin."""
        return time.time() >= self.until

    def content(self) -> bytes:
        """What its object holds."""
        return json.dumps(asdict(self)).encode()


def latest_term(store: ObjectStore) -> Term | None:
    """The latest term of the study in a store; None if no driver ever had one.

    Raises:
        ConfigError: if it is not as a driver wrote it.
        OSError: if the store cannot be reached.
    """
    while names := store.list(LEASE):
        name = max(names)
        try:
            return Term(**json.loads(store.read(name)))
        except FileNotFoundError:
            continue  # a later one was created meanwhile
        except (ValueError, TypeError):
            remedy = "delete it if no driver is running the study"
            raise ConfigError("", "is damaged", remedy, name) from None
    return None


class Lease:
    """The term of this driver, extended by a thread until it is released.

    Args:
        store: the study's.
        owner: the working copy of this driver, which no other driver uses at the same time.
        on_loss: called once if another driver has begun a later term.

    Attributes:
        before: the term before; None if there was none.
    """

    def __init__(
        self, store: ObjectStore, owner: str, on_loss: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._owner, self._on_loss = store, owner, on_loss
        self._term: Term | None = None
        self._lost_to: Term | None = None
        self._trusted_until = 0.0
        self._extending = threading.Lock()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._extend_often, name="lease", daemon=True)
        self.before: Term | None = None

    def __enter__(self) -> Lease:
        """Begin a term.

        Raises:
            ConfigError: if another driver has one.
            OSError: if the store cannot be reached.
        """
        before = self.before = latest_term(self._store)
        if before is not None and before.owner != self._owner and not before.has_ended:
            raise _is_held(before)
        self._begin(1 if before is None else before.number + 1)
        for name in self._store.list(LEASE):
            if self._term is not None and name < self._term.name:
                self._store.delete(name)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the term; if the store cannot be reached, it ends by itself."""
        self._released.set()
        self._thread.join()
        if self._term is not None and self._lost_to is None:
            ended = Term(self._term.number, self._owner, self._term.host, 0.0)
            try:
                self._store.write(ended.name, ended.content())
            except OSError:
                return

    @property
    def number(self) -> int:
        """The number of its term."""
        assert self._term is not None, "it has begun"
        return self._term.number

    def check(self) -> None:
        """Refuse to write once another driver may have begun.

        Raises:
            ConfigError: if another driver has begun a later term.
            OSError: if the term may have ended, as the store could not be reached for long.
        """
        if self._lost_to is None and time.time() >= self._trusted_until:
            self.extend()
        if self._lost_to is not None:
            problem = f"a driver on {self._lost_to.host} has taken over this study"
            remedy = "wait for it, or stop it; what was trained here since then is not kept"
            raise ConfigError("", problem, remedy)

    def extend(self) -> None:
        """Extend the term, or note that another driver has begun a later one.

        Raises:
            OSError: if the store cannot be reached.
        """
        with self._extending:
            self._extend()

    def _extend(self) -> None:
        latest = latest_term(self._store)
        if latest is not None and latest.number > self.number:
            self._lost_to = latest
            self._on_loss()
        elif time.time() < self._trusted_until:
            self._write(self.number, self._store.write)
        else:  # another driver may be about to begin: who creates the next number has it
            try:
                self._begin(self.number + 1)
            except ConfigError:
                self._lost_to = latest_term(self._store)
                self._on_loss()

    def _begin(self, number: int) -> None:
        try:
            self._write(number, self._store.create)
        except FileExistsError:
            latest = latest_term(self._store)
            if latest is None or latest.number != number or latest.owner != self._owner:
                raise _is_held(latest) from None
            self._write(number, self._store.write)  # it was created, and the answer was lost

    def _write(self, number: int, write: Callable[[str, bytes], None]) -> None:
        now = time.time()
        term = Term(number, self._owner, socket.gethostname(), now + _SECONDS)
        write(term.name, term.content())
        self._term, self._trusted_until = term, now + _SECONDS - _MARGIN

    def _extend_often(self) -> None:
        while not self._released.wait(_SECONDS_BETWEEN) and self._lost_to is None:
            try:
                self.extend()
            except (OSError, ConfigError):
                continue  # whoever writes meanwhile is told by `check`


def _is_held(term: Term | None) -> ConfigError:
    problem, remedy = "another process is running this study", "wait, or stop it"
    if term is not None:
        problem += f" on {term.host}"
        seconds = max(term.until - time.time(), 0.0)
        remedy += f"; if it was killed, it is free in {seconds:.0f} s"
    return ConfigError("", problem, remedy)
