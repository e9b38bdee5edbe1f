"""A page per committed study: its question, its findings and its numbers, from `summary.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from studies.analysis.verdict_warnings import counted_warnings

__all__ = ["RESULTS", "listed_studies", "result_pages", "results_table"]

RESULTS = Path(__file__).parents[2] / "studies" / "results"
"""The folder of committed results."""

_FROM_PAGE = "../../../studies/results"  # of docs/results/studies/
_VERDICT = "% interval, n ="  # of the sentences whose numbers a table of verdicts has
_SPEED = "reach a validation accuracy of"
_METHOD = " Intervals are 95%"  # the same for every pair of arms
_MOST_ROWS, _MOST_WARNINGS = 15, 5  # that stand open
_FEW = 7  # verdicts that are read as sentences


def result_pages() -> dict[str, str]:
    """The pages, by the names of their studies."""
    return {name: "\n".join(_page(name)) for name in _names()}


def results_table() -> str:
    """The committed studies with their questions, each a link to its page."""
    rows = (f"[`{name}`](studies/{name}.md)\n: {listed_studies()[name][0]}\n" for name in _names())
    return "\n".join(rows)


def _names() -> list[str]:
    return sorted(path.parent.name for path in RESULTS.glob("*/summary.json"))


@cache
def listed_studies() -> dict[str, tuple[str, str, str, str]]:
    """Question, networks, time and commands of each study, from the list in `results/README.md`."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\([^)]*\) \| (.*) \| (.*) \| (.*) \| (.*) \|$", text, re.M)
    return {name: (question, networks, time, how) for name, question, networks, time, how in rows}


def _page(name: str) -> Iterator[str]:
    summary = json.loads((RESULTS / name / "summary.json").read_text(encoding="utf-8"))
    study = yaml.safe_load((RESULTS / name / "study.yaml").read_text(encoding="utf-8"))
    _, networks, time, how = listed_studies()[name]
    yield f"# `{name}`\n"
    yield f"{study['description']}\n"
    yield from (
        f"![{_alternative(path, name)}]({_FROM_PAGE}/{name}/{path.name})\n"
        for path in sorted((RESULTS / name).glob("*.png"))
    )
    verdicts = summary["verdicts"]
    said = summary["findings"]
    if len(verdicts) >= _FEW:  # one sentence for each: the table has them
        said = [each for each in said if _VERDICT not in each and _SPEED not in each]
        first, *others = said or [""]
        said = [first, *(each.partition(_METHOD)[0] for each in others)] if said else []
    if said:
        yield "## What it found\n"
        yield from (f"- {_escaped(each)}" for each in said)
        yield ""
    if verdicts:
        yield "## Verdicts\n"
        yield "Means of test accuracy, and the difference with its 95% interval.\n"
        words = f"All {len(verdicts)} comparisons"
        yield from _folded(words, list(_table(verdicts)), _MOST_ROWS)
    if summary["warnings"]:
        yield "## Warnings\n"
        alike = counted_warnings([[warning] for warning in summary["warnings"]])
        times = (f"{count} times, {text}" if count > 1 else text for count, text in alike)
        warnings = [f"- {_escaped(each)}" for each in times]
        yield from _folded(f"All {len(warnings)} warnings", [*warnings, ""], _MOST_WARNINGS)
    yield "## Where it comes from\n"
    yield f"{networks} networks, {time}; {_hardware(summary['provenance'])}.\n"
    yield f"Regenerate it with {how}.\n"
    files = sorted(path.name for path in (RESULTS / name).iterdir())
    linked = [file for file in files if not file.endswith((".png", ".md"))]
    links = (f"[`{file}`]({_FROM_PAGE}/{name}/{file})" for file in linked)
    yield f"Its files: {', '.join(links)}.\n"


def _folded(summary: str, lines: list[str], most: int) -> Iterator[str]:
    """Lines that open with a click where there are more than `most`."""
    if len(lines) > most:
        lines = [f"<details><summary>{summary}</summary>\n", *lines, "</details>\n"]
    yield from lines


def _table(verdicts: list[dict[str, Any]]) -> Iterator[str]:
    yield "| compared | arm | reference | difference | n | p | verdict |"
    yield "|---|---|---|---|---|---|---|"
    for each in verdicts:
        arm, reference = each.get("arm", "dynamical"), each.get("reference", "static")
        test = each["test"]
        setting = ", ".join(f"{key} {value}" for key, value in each["setting"].items())
        cells = [
            f"{arm} against {reference}" + (f", {setting}" if setting else ""),
            f"{test[arm]['mean']:.3f}",
            f"{test[reference]['mean']:.3f}",
            f"{_signed(test['difference'])} [{_signed(test['low'])}, {_signed(test['high'])}]",
            str(test["n"]),
            f"{each['p_adjusted']:.2g}",
            test["outcome"],
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _hardware(provenance: dict[str, str]) -> str:
    """The machine and versions, as far as the study recorded them."""
    names = {
        "hardware.cpu": "",
        "hardware.gpu": "GPU: ",
        "version.torch": "torch ",
        "version.dynloss": "dynloss ",
        "commit": "commit ",
    }
    return ", ".join(f"{name}{provenance[key]}" for key, name in names.items() if key in provenance)


def _alternative(path: Path, name: str) -> str:
    return f"{path.stem.replace('_', ' ')} of {name}"


def _escaped(text: str) -> str:
    return text.replace("*", r"\*").replace("<", r"\<")
