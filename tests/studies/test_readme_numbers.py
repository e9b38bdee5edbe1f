"""Every difference and interval in README and documentation is one that the committed tables give."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from tests.pages import PAGES, ROOT

RESULTS = ROOT / "studies" / "results"
ESTIMATE = re.compile(r"([+-]?\d+\.\d+)\s+\[([+-]?\d+\.\d+),\s+([+-]?\d+\.\d+)\]")
VALUES = ("difference", "mean", "value", "gain", "k")  # what `low` and `high` stand beside
Estimate = tuple[float, float, float]


def estimates_in(content: Any) -> Iterator[Estimate]:
    """Every value with an interval in a table or a summary, those in its sentences too."""
    if isinstance(content, str):
        yield from (tuple(map(float, found)) for found in ESTIMATE.findall(content))  # type: ignore[misc]
    elif isinstance(content, list):
        for each in content:
            yield from estimates_in(each)
    elif isinstance(content, dict):
        for name, value in content.items():
            prefix = "" if name in VALUES else f"{name}_"
            ends = content.get(f"{prefix}low"), content.get(f"{prefix}high")
            if all(isinstance(each, float) for each in (value, *ends)):
                yield (value, *ends)
            yield from estimates_in(value)


def known() -> list[Estimate]:
    summaries = [json.loads(path.read_text()) for path in sorted(RESULTS.rglob("*.json"))]
    for path in sorted(RESULTS.rglob("*.csv")):
        table = pd.read_csv(path).astype(object)
        summaries.append(table.where(table.notna(), None).to_dict("records"))
    return [estimate for each in summaries for estimate in estimates_in(each)]


def is_said(estimate: Estimate, printed: tuple[str, ...]) -> bool:
    """Whether an estimate is what was printed, at the decimals that were."""
    return all(
        abs(value - float(text)) <= 0.51 * 10.0 ** -len(text.partition(".")[2])
        for value, text in zip(estimate, printed, strict=True)
    )


def test_every_estimate_is_in_a_committed_table() -> None:
    tables = known()
    printed = {each: page for page, text in PAGES.items() for each in estimates_of(text)}
    assert len(printed) > 80
    lost = [
        (page, each)
        for each, page in printed.items()
        if not any(is_said(estimate, each) for estimate in tables)
    ]
    assert not lost


def estimates_of(text: str) -> list[tuple[str, ...]]:
    """The estimates that a page prints, quotations too."""
    return ESTIMATE.findall(re.sub(r"^> ?", "", text, flags=re.MULTILINE))


def test_a_number_that_no_table_gives_is_seen() -> None:
    tables = known()
    for change in (0.01, -0.02):
        moved = [tuple(f"{value + change:+.4f}" for value in estimate) for estimate in tables[:50]]
        found = [any(is_said(estimate, each) for estimate in tables) for each in moved]
        assert sum(found) < 5


def test_every_count_of_cells_is_in_a_finding() -> None:
    """Of the maps: `wins in 222 of 400 cells`."""
    findings = " ".join(path.read_text() for path in sorted(RESULTS.rglob("summary.json")))
    counts = re.findall(r"in (\d+) of (\d+)\s+cells", "".join(PAGES.values()))
    assert counts
    for some, of_all in counts:
        assert re.search(rf"in {some} of {of_all} cells", findings), (some, of_all)
