"""One driver at a time, whatever becomes of drivers and clocks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from dynloss_core.config import ConfigError
from studies.object_store import LocalDisk
from studies.storage.lease import LEASE, Lease, latest_term


class Clock:
    """The time, as all drivers see it."""

    now = 1e9

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("studies.storage.lease.time", clock)
    return clock


@pytest.fixture
def store(tmp_path: Path) -> LocalDisk:
    return LocalDisk(tmp_path / "store")


@pytest.fixture
def drivers() -> Iterator[ExitStack]:
    """That end with the test."""
    with ExitStack() as stack:
        yield stack


def test_a_second_driver_is_refused_until_the_first_has_ended(
    store: LocalDisk, clock: Clock
) -> None:
    with (
        Lease(store, "first"),
        pytest.raises(ConfigError, match=r"another process is running .* free in 60 s"),
    ):
        Lease(store, "second").__enter__()
    with Lease(store, "second") as lease:
        assert lease.before is not None
        assert lease.before.owner == "first"
        lease.check()


def test_a_dead_driver_is_followed_after_a_minute(
    store: LocalDisk, clock: Clock, drivers: ExitStack
) -> None:
    drivers.enter_context(Lease(store, "dead"))
    clock.now += 59.9
    with pytest.raises(ConfigError):
        Lease(store, "next").__enter__()
    clock.now += 0.1
    drivers.enter_context(Lease(store, "next"))
    term = latest_term(store)
    assert term is not None
    assert (term.number, term.owner) == (2, "next")


def test_in_its_own_copy_a_dead_driver_is_followed_at_once(
    store: LocalDisk, clock: Clock, drivers: ExitStack
) -> None:
    drivers.enter_context(Lease(store, "copy"))
    assert drivers.enter_context(Lease(store, "copy")).number == 2


def test_an_extended_lease_lasts(store: LocalDisk, clock: Clock, drivers: ExitStack) -> None:
    lease = drivers.enter_context(Lease(store, "first"))
    for _ in range(20):
        clock.now += 10
        lease.extend()
        lease.check()
    with pytest.raises(ConfigError):
        Lease(store, "second").__enter__()


def test_a_driver_that_was_cut_off_finds_its_successor_and_stops(
    store: LocalDisk, clock: Clock, drivers: ExitStack
) -> None:
    told: list[bool] = []
    cut_off = drivers.enter_context(Lease(store, "cut-off", on_loss=lambda: told.append(True)))
    clock.now += 60
    drivers.enter_context(Lease(store, "next"))
    with pytest.raises(ConfigError, match="has taken over this study"):
        cut_off.check()
    with pytest.raises(ConfigError, match="has taken over this study"):
        cut_off.check()
    assert told == [True]
    cut_off.__exit__(None, None, None)
    term = latest_term(store)
    assert term is not None
    assert (term.owner, term.has_ended) == ("next", False)


def test_it_finds_it_even_if_the_successor_has_ended(
    store: LocalDisk, clock: Clock, drivers: ExitStack
) -> None:
    cut_off = drivers.enter_context(Lease(store, "cut-off"))
    clock.now += 60
    with Lease(store, "next"):
        pass
    with pytest.raises(ConfigError, match="has taken over"):
        cut_off.check()


def test_a_driver_that_was_cut_off_goes_on_if_nobody_came(
    store: LocalDisk, clock: Clock, drivers: ExitStack
) -> None:
    cut_off = drivers.enter_context(Lease(store, "cut-off"))
    clock.now += 3600
    cut_off.check()
    with pytest.raises(ConfigError):
        Lease(store, "next").__enter__()


def test_it_does_not_write_in_the_margin_without_asking(
    store: LocalDisk, clock: Clock, drivers: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = drivers.enter_context(Lease(store, "cut-off"))
    clock.now += 39

    def unreachable(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(LocalDisk, "list", unreachable)
    lease.check()
    clock.now += 1
    with pytest.raises(OSError, match="no network"):
        lease.check()


def test_of_drivers_that_start_at_once_one_begins(store: LocalDisk, drivers: ExitStack) -> None:
    def begins(owner: int) -> Lease | None:
        lease = Lease(store, str(owner))
        try:
            return lease.__enter__()
        except ConfigError:
            return None

    with ThreadPoolExecutor(8) as pool:
        begun = [lease for lease in pool.map(begins, range(8)) if lease is not None]
    assert len(begun) == 1
    drivers.push(begun[0])


def test_a_term_whose_answer_was_lost_is_its_own(
    store: LocalDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = LocalDisk.create

    def twice(self: LocalDisk, name: str, content: bytes) -> None:
        create(self, name, content)
        create(self, name, content)  # as a client does that had no answer to the first request

    monkeypatch.setattr(LocalDisk, "create", twice)
    with Lease(store, "first") as lease:
        lease.check()


def test_what_is_no_term_is_refused(store: LocalDisk) -> None:
    store.write(f"{LEASE}00000001", b"{")
    with pytest.raises(ConfigError, match=r"00000001: is damaged; delete it"):
        Lease(store, "first").__enter__()
