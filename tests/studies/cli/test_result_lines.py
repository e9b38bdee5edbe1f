"""What a study found, as a terminal shows it."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from studies.analysis.study_analysis import Analysis
from studies.analysis.verdict_warnings import counted_warnings
from studies.cli.result_lines import show_results
from studies.definition.arms import Pair
from studies.messages import console
from studies.report.study_results import Results
from studies.storage.study_folder import StudyFolder
from tests.studies.report.made_studies import analysed
from tests.studies.tiny import tiny_study
from tests.typed_commands import parsed

WIDTHS = (20, 50, 100, 200, 400, 800)


def printed(
    analysis: Analysis, monkeypatch: pytest.MonkeyPatch, width: int | None = None
) -> list[str]:
    """The lines of a terminal that is so wide; those of a pipe without a width."""
    if width is not None:
        monkeypatch.setattr(console, "_force_terminal", True)
        monkeypatch.setattr(console, "_width", width)
        monkeypatch.setattr(console, "no_color", True)
        monkeypatch.setenv("NO_COLOR", "1")
    with console.capture() as said:
        folder = StudyFolder(Path("results/tiny"))
        show_results(tiny_study(), folder, Results(analysis, (), (), {}))
    return re.sub(r"\x1b\[[0-9;]*m", "", said.get()).splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_verdict_breaks_between_words(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = analysed(one_split=True)
    lines = printed(analysis, monkeypatch, width)
    end = next(index for index, line in enumerate(lines) if line.startswith("figures"))
    assert max(map(len, lines[:end])) <= width
    words = " ".join(" ".join(lines).split())
    for verdict in analysis.verdicts:
        for expected in (*verdict.lines(), *verdict.warnings):
            assert expected in words


def test_a_pipe_gets_every_sentence_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = analysed(one_split=True)
    lines = printed(analysis, monkeypatch)
    (verdict,) = analysis.verdicts
    claim, *details = verdict.lines()
    start = lines.index(claim)
    assert lines[start + 1 : start + 1 + len(details)] == [f"  {detail}" for detail in details]
    assert all(f"warning: {warning}" in lines for warning in verdict.warnings)


@pytest.mark.parametrize("widths", [(), WIDTHS], ids=["one verdict", "many"])
def test_a_warning_about_several_arms_is_one(
    widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = analysed(widths=widths) if widths else analysed()
    told = ("dynamical: too few", "static: too few", "static: at its bound", "a: too few", "both")
    verdicts = tuple(replace(verdict, warnings=told) for verdict in analysis.verdicts)
    lines = printed(replace(analysis, verdicts=verdicts), monkeypatch)
    warned = [line.partition(": ")[2] for line in lines if line.startswith("warning")]
    expected = ["dynamical, static: too few", "static: at its bound", "a: too few", "both"]
    assert set(expected) == {w for w in warned if w.endswith(("few", "bound", "both"))}
    assert all(verdict.warnings == told for verdict in verdicts), "the report keeps each"


def of_pairs(analysis: Analysis) -> Analysis:
    """Verdicts of two pairs of arms, as of a study that compares several."""
    pairs = (Pair("random", "static"), Pair("classes", "random"))
    verdicts = tuple(
        replace(verdict, pairs=2, test=replace(verdict.test, pair=pair))
        for pair in pairs
        for verdict in analysis.verdicts
    )
    return replace(analysis, verdicts=verdicts)


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_many_verdicts_are_rows(width: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = of_pairs(analysed(widths=WIDTHS, one_split=True))
    lines = printed(analysis, monkeypatch, width)
    for verdict in analysis.verdicts:
        cells = [verdict.label, verdict.test.interval(), f"{verdict.p_adjusted:.2g}"]
        cells += [verdict.pair_in_words] if width not in (60, 80) else []
        assert any(all(cell in line for cell in cells) for line in lines)
        assert verdict.test.claim() not in " ".join(lines)
    for pair in ("random against static", "classes against random"):
        assert any(pair in line for line in lines)
    if width is not None:
        end = next(index for index, line in enumerate(lines) if line.startswith("figures"))
        assert max(map(len, lines[:end])) <= width
    words = " ".join(" ".join(lines).split())
    shared = "all seeds share one split of the data: the intervals do not cover other data"
    assert words.count(shared) == 1
    assert f"warning (every verdict): {shared}" in words
    assert "in the report." in words


def test_warnings_that_differ_in_their_numbers_are_one() -> None:
    given = [
        ["at width 5: 3 of 8 died", "shared"],
        ["shared"],
        ["at width 9: 1 of 8 died", "shared"],
    ]
    assert counted_warnings(given) == [
        (3, "shared"),
        (2, "for example, at width 5: 3 of 8 died"),
    ]
    assert counted_warnings([[], []]) == []


@pytest.mark.parametrize("kind", [{}, {"widths": WIDTHS}, {"gain": 0.0}], ids=str)
def test_what_comes_next_can_be_pasted(
    kind: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(analysed(**kind), monkeypatch, 60)
    first = next(index for index, line in enumerate(lines) if line.startswith("next "))
    said = [line[11:] for line in lines[first:]]
    assert any(line.startswith("# ") for line in said), "too long for a line with its command"
    commands = [line for line in said if not line.startswith("# ")]
    assert commands
    for command in commands:
        typed = shlex.split(command, comments=True)
        parsed(shlex.join(typed), whole=True)
    assert any("--from tiny" in command for command in commands)
