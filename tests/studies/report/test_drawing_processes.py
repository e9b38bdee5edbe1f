from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import psutil
import pytest

from studies.report import drawing_processes
from studies.report.drawing_processes import draw_together
from tests.services import wait_until

LINUX = sys.platform == "linux"


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing_processes, "available_cpus", lambda: 2)


def numbered(number: int) -> tuple[int, int]:
    return number, os.getpid()


def in_copies(action: Callable[[], object]) -> Callable[[], int]:
    """A drawing that does something in a copy of this process, and nothing in this process."""
    here = os.getpid()

    def draw() -> int:
        if os.getpid() != here:
            action()
        return here

    return draw


def test_results_are_in_the_order_of_the_drawings() -> None:
    drawn = draw_together([partial(numbered, n) for n in range(7)])
    assert [number for number, _ in drawn] == list(range(7))


@pytest.mark.skipif(not LINUX, reason="copies are made on Linux alone")
def test_two_processes_share_them() -> None:
    processes = [process for _, process in draw_together([partial(numbered, n) for n in range(7)])]
    assert processes.count(os.getpid()) == 4
    assert len(set(processes)) == 2


@pytest.mark.parametrize(("cpus", "drawings"), [(1, 7), (8, 3)])
def test_one_core_or_few_drawings_need_no_copy(
    monkeypatch: pytest.MonkeyPatch, cpus: int, drawings: int
) -> None:
    monkeypatch.setattr(drawing_processes, "available_cpus", lambda: cpus)
    drawn = draw_together([partial(numbered, n) for n in range(drawings)])
    assert {process for _, process in drawn} == {os.getpid()}


def test_nothing_to_draw() -> None:
    assert draw_together([]) == []


@pytest.mark.parametrize("action", [lambda: os._exit(1), lambda: os.kill(os.getpid(), 9)])
def test_the_share_of_a_copy_that_dies_is_drawn_here(action: Callable[[], object]) -> None:
    assert draw_together([in_copies(action)] * 6) == [os.getpid()] * 6


def test_the_share_of_a_copy_that_stands_still_is_drawn_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drawing_processes, "_PATIENCE", 0.1)
    assert draw_together([in_copies(lambda: time.sleep(600))] * 6) == [os.getpid()] * 6


def test_what_cannot_be_sent_is_drawn_here() -> None:
    drawn = draw_together([lambda: lambda: os.getpid()] * 4)
    assert [own() for own in drawn] == [os.getpid()] * 4


@pytest.mark.parametrize("failing", range(4))
def test_an_error_is_the_one_of_the_drawing(failing: int) -> None:
    def draw(number: int) -> int:
        if number == failing:
            raise LookupError(f"no table for {number}")
        return number

    with pytest.raises(LookupError, match=f"no table for {failing}"):
        draw_together([partial(draw, number) for number in range(4)])


def test_no_copy_is_left() -> None:
    draw_together([partial(numbered, n) for n in range(4)])
    assert multiprocessing.active_children() == []


_DIES_WHILE_IT_DRAWS = """
import os, signal, time
from studies.report import drawing_processes

def draw():
    if os.getpid() == first:
        time.sleep(1)
        os.kill(first, signal.SIGKILL)
    print(os.getpid(), flush=True)
    time.sleep(600)

first = os.getpid()
drawing_processes.available_cpus = lambda: 2
drawing_processes.draw_together([draw] * 4)
"""


@pytest.mark.skipif(not LINUX, reason="copies are made on Linux alone")
def test_a_copy_ends_with_the_process_that_it_is_a_copy_of() -> None:
    """Else it would go on holding the lock of the study's folder."""
    done = subprocess.run(
        [sys.executable, "-c", _DIES_WHILE_IT_DRAWS], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    copy = int(done.stdout)
    wait_until(lambda: not psutil.pid_exists(copy))
