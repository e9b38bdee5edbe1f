r"""A study for a paper: verdicts as a LaTeX table, numbers as commands, figures as PDF and SVG.

`verdicts.tex` is a `tabular` that uses the package booktabs. `numbers.tex` defines a command for
each number, named after study, setting, arms and quantity, with letters only, as LaTeX requires:
`\digitsDifference`, `\spiralsControlsWidthTwoZeroRandomLow`. A text that uses them cannot
contradict the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dynloss_core.atomic import write_atomically
from studies.analysis.figures.files import save_figure
from studies.analysis.setting_verdicts import SettingVerdict
from studies.analysis.statistics.equivalence import OUTCOME_IN_WORDS
from studies.analysis.study_analysis import Analysis

__all__ = ["write_paper"]

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_SPECIAL = re.compile(r"([&%$#_{}])")


def write_paper(name: str, analysis: Analysis, folder: Path) -> list[Path]:
    """Write the files, and return their paths.

    Args:
        name: the name of the study.
        analysis: the analysis of the study.
        folder: where to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, numbers = folder / "verdicts.tex", folder / "numbers.tex"
    write_atomically(table, "\n".join(_table(analysis)) + "\n")
    write_atomically(numbers, "\n".join(_numbers(name, analysis)) + "\n")
    drawings = [d for card in analysis.cards for d in card.drawings if d.draw is not None]
    figures = [
        path
        for drawing in drawings
        if drawing.draw is not None
        for path in save_figure(drawing.draw(), folder, drawing.name, ("pdf", "svg"))
    ]
    return [table, numbers, *figures]


def _table(analysis: Analysis) -> Iterator[str]:
    """A row per verdict."""
    settings = any(verdict.setting for verdict in analysis.verdicts)
    head = [*(["setting"] if settings else []), "arm", "reference", "$n$", "difference"]
    head += ["95\\% interval", "$p$", "outcome"]
    if any(verdict.look > 1 for verdict in analysis.verdicts):
        head[-3] = "interval"
    yield r"\begin{tabular}{" + ("l" if settings else "") + "llrrlrl}"
    yield r"\toprule"
    yield " & ".join(head) + r" \\"
    yield r"\midrule"
    for verdict in analysis.verdicts:
        test = verdict.test
        words = OUTCOME_IN_WORDS[test.outcome] + ("*" if test.of_trained else "")
        cells = [
            *([_escaped(verdict.label)] if settings else []),
            _escaped(test.pair.arm),
            _escaped(test.pair.reference),
            f"{test.n}",
            f"${test.difference:+.4f}$",
            f"$[{test.low:+.4f}, {test.high:+.4f}]$",
            f"{verdict.p_adjusted:.2g}",
            words,
        ]
        yield " & ".join(cells) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    if any(verdict.test.of_trained for verdict in analysis.verdicts):
        yield "% * of networks that train: failures that were not seen could undo it"


def _numbers(name: str, analysis: Analysis) -> Iterator[str]:
    """A command per number of each verdict."""
    for verdict in analysis.verdicts:
        test = verdict.test
        values = {
            "difference": f"{test.difference:+.4f}",
            "low": f"{test.low:+.4f}",
            "high": f"{test.high:+.4f}",
            "n": f"{test.n}",
            "p": f"{verdict.p_adjusted:.2g}",
            "arm mean": f"{test.arm.mean:.4f}",
            "reference mean": f"{test.reference.mean:.4f}",
            "outcome": OUTCOME_IN_WORDS[test.outcome],
        }
        for quantity, value in values.items():
            yield rf"\newcommand{{\{_command(name, verdict, quantity)}}}{{{value}}}"


def _command(name: str, verdict: SettingVerdict, quantity: str) -> str:
    """The name of a command, in letters: `digitsDifference`."""
    pair = " ".join(verdict.test.pair) if verdict.pairs > 1 else ""
    pieces = re.findall(r"[A-Za-z]+|[0-9]", f"{name} {verdict.label} {pair} {quantity}")
    words: list[str] = [_DIGITS[int(word)] if word.isdigit() else word for word in pieces]
    first, *others = words
    return first[0].lower() + first[1:] + "".join(word[0].upper() + word[1:] for word in others)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
