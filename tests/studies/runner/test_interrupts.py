"""Ctrl-C at the worst of times: where Python drops the exception, and where nothing answers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from studies.interrupts import ends_as_interrupts, noted_interrupts
from studies.runner.run_study import run_study
from studies.runner.session import Session
from tests.studies.sessions import run_without_ray, train_next
from tests.studies.tiny import tiny_study


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)  # the handler runs at the next step of the program


class Finalised:
    """Something in whose end Ctrl-C arrives."""

    def __del__(self) -> None:
        press()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_study_stops_even_where_the_exception_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def train(session: Session) -> None:
        train_next(session)
        assert not session.asked_to_stop
        Finalised()  # and nothing is raised here
        seen.append(session.asked_to_stop)
        raise KeyboardInterrupt  # what Tune's callback makes of it

    run_without_ray(monkeypatch, train)
    outcome = run_study(tiny_study(), tmp_path)
    assert seen == [True]
    assert not outcome.finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not outcome.folder.is_asked_to_stop(), "the next driver is not meant"


def test_what_is_noted_may_raise_or_not() -> None:
    presses: list[int] = []

    def note() -> bool:
        presses.append(1)
        return len(presses) > 1

    with noted_interrupts(note):
        press()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert len(presses) == 2
    with pytest.raises(KeyboardInterrupt):
        press()


def test_whoever_has_another_handler_keeps_it() -> None:
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        with noted_interrupts(lambda: pytest.fail("not asked")):
            press()
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught == [signal.SIGINT]


def test_the_end_of_a_job_is_noted_where_ctrl_c_is_ignored() -> None:
    """As it is in what a script starts in the background, such as that of a scheduler."""
    noted: list[int] = []

    def note() -> bool:
        noted.append(1)
        return False

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with ends_as_interrupts(), noted_interrupts(note):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            press()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert noted == [1], "and Ctrl-C is ignored as before"
