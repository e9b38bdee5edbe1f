from __future__ import annotations

from collections import Counter
from dataclasses import asdict, fields

import pytest

from tests.faults.study import Tally

COUNTS: dict[str, Counter[str]] = {}


def count_up(kind: str, strikes: int, tally: Tally) -> None:
    """Add a study to the count that the run ends with."""
    count = COUNTS.setdefault(kind, Counter())
    count.update({"strikes": strikes, **asdict(tally)})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if COUNTS:
        columns = ("strikes", *(each.name for each in fields(Tally)))
        terminalreporter.section("faults")
        terminalreporter.write_line("".join(f"{name:>12}" for name in ("kind", *columns)))
        for kind, count in COUNTS.items():
            line = "".join(f"{count[name]:>12}" for name in columns)
            terminalreporter.write_line(f"{kind:>12}{line}")
