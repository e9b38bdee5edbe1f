"""A report as one HTML file.

The file is self-contained: style, script, figures and the table of all trials are inside, and its
Content-Security-Policy forbids the browser to load anything, or to run any script but ours. Without
JavaScript, only the trials beyond the first page are missing.

Every text is escaped; in running text, `backquotes` mark code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from studies.report.page.columns import MISSING, Column, columns_of, shared_of
from studies.report.page.document import Estimate, Finding, Report, TrialTable

__all__ = ["FONT", "render"]

ROWS_WITHOUT_SCRIPT = 25

_MOST_ROWS = 15  # of a table that stands open
_MOST_VERDICTS, _MOST_FINDINGS = 6, 8  # that stand open

_HERE = Path(__file__).parent
_SCRIPTS = ("report.js", "explore.js")
_STYLE = (_HERE / "report.css").read_text(encoding="utf-8")
FONT = " ".join(_STYLE.partition("--sans:")[2].partition(";")[0].replace('"', "'").split())
"""The typeface of the page, for figures."""


def render(report: Report) -> str:
    """The report as one HTML file, to be written as UTF-8."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    html = environment.get_template("report.html.j2").render(
        report=report,
        style=_STYLE,
        script="".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        digest=_digest,
        trials=None if report.trials is None else _trials(report.trials),
        provenance=_by_prefix(report.provenance),
        position=_position,
        groups=_groups,
        most_rows=_MOST_ROWS,
        columns_of=columns_of,
        missing=MISSING,
    )
    return html.encode("utf-8", "replace").decode()  # a lone surrogate could not be written


def _trials(table: TrialTable) -> dict[str, Any]:
    """What the template needs to know about the trials."""
    columns = columns_of(table.frame, table.labels, table.run_column)
    shared = shared_of(columns)
    varying = [column for column in columns if column not in shared]
    measured = [c for c in varying if c.kind == "number" and np.isfinite(c.values).any()]
    measured = [c for c in measured if not c.whole] or measured
    return {
        "rows": len(table.frame),
        "shown": min(len(table.frame), ROWS_WITHOUT_SCRIPT),
        "columns": varying,
        "shared": shared,
        "data": _embedded(table, varying),
        "example": measured[0].example() if measured else "",
        "note": table.note,
        "curves_of": table.curves["metric"] if table.curves else "",
        "curves_count": len(table.curves["values"]) if table.curves else 0,
        "run_url": table.run_url,
        "any_port": table.any_port,
    }


def _groups(findings: Sequence[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """Findings in order, in groups that stand open, or are folded behind a line that says what is
    in them: the table of verdicts has the verdicts already, and the first findings matter most."""
    for is_verdict, members in groupby(findings, key=lambda finding: finding.glance is not None):
        group = list(members)
        most = _MOST_VERDICTS if is_verdict else _MOST_FINDINGS
        if len(group) <= most:
            yield "", group
        elif is_verdict:
            yield f"{len(group)} verdicts in full, with their intervals and warnings", group
        else:
            yield "", group[:most]
            yield f"{len(group) - most} more findings", group[most:]


def _prose(text: str) -> Markup:
    """Escaped text with `backquotes` as code."""
    parts = re.split(r"`([^`\n]+)`", text)
    marked = [Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts)]
    return Markup("").join(marked)


def _digest(text: str) -> str:
    """The hash by which a Content-Security-Policy allows inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _position(estimate: Estimate) -> dict[str, float] | None:
    """The positions of an estimate and its ends on a line from 0 to 100, with zero at 50."""
    ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    if estimate.margin is not None:
        ends |= {"margin_low": -estimate.margin, "margin_high": estimate.margin}
    if not all(map(math.isfinite, ends.values())) or not any(ends.values()):
        return None
    reach = 1.15 * max(map(abs, ends.values()))
    return {name: round(50 + 50 * end / reach, 2) for name, end in ends.items()}


def _by_prefix(provenance: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Dotted keys grouped by the part before the first dot; keys without a dot first."""
    groups: dict[str, dict[str, str]] = {"": {}}
    for key, value in provenance.items():
        group, _, name = key.rpartition(".") if key.count(".") == 1 else ("", "", key)
        groups.setdefault(group, {})[name] = value
    return {group: rows for group, rows in groups.items() if rows}


def _embedded(table: TrialTable, columns: list[Column]) -> str:
    """The table as JSON that is safe inside a script element."""
    about = {"rows": len(table.frame), "reruns": table.reruns, "run_url": table.run_url}
    head = json.dumps({**about, "axes": [*table.axes], "curves": table.curves})[:-1]
    text = f'{head},"columns":[{",".join(column.encoded() for column in columns)}]}}'
    for character in "<>&":  # JSON has escaped non-ASCII characters
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
