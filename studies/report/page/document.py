"""What a report holds, and how it becomes one HTML file.

`Report` and its parts are plain data, filled elsewhere; `render` only writes them down. The file is
complete in itself: style, script, figures and the table of all trials are inside, and its
Content-Security-Policy forbids the browser to load anything, or to run any script but ours. Without
JavaScript everything is there too, but for the trials beyond the first page.

Every text is escaped; in running text, `backquotes` set code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup

from studies.analysis.statistics.equivalence import Outcome

__all__ = [
    "Command",
    "Estimate",
    "Finding",
    "Picture",
    "Report",
    "Section",
    "TrialTable",
    "render",
]

ROWS_WITHOUT_SCRIPT = 25
MISSING = "–"

_HERE = Path(__file__).parent
_GIF = (b"GIF87a", b"GIF89a")
_PNG = b"\x89PNG\r\n\x1a\n"
_SVG_SIZE = re.compile(rb'<svg[^>]*?\swidth="([\d.]+)(pt|px|)"[^>]*?\sheight="([\d.]+)')
_NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal"}
_IDENTIFIERS = {"trial", "block", "seed"}  # they count nothing, so their digits are not grouped


@dataclass(frozen=True)
class Estimate:
    """An effect and its interval, drawn on a line around zero.

    Args:
        value: the effect.
        low: lower end of its interval.
        high: upper end.
        margin: largest effect that would not matter, drawn as a band; None: no band.
        negative: what an effect below zero means, in two or three words.
        positive: what one above zero means.
    """

    value: float
    low: float
    high: float
    margin: float | None = None
    negative: str = ""
    positive: str = ""


@dataclass(frozen=True)
class Finding:
    """One answer of the study.

    Args:
        sentence: the answer in words, with its uncertainty.
        outcome: of the dynamical arm; None for a statement that is not a verdict.
        estimate: the effect behind it.
        numbers: label and value of what supports it, in order.
        warnings: what speaks against it; shown before the numbers.
    """

    sentence: str
    outcome: Outcome | None = None
    estimate: Estimate | None = None
    numbers: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        image: a PNG or SVG file.
        alt: what it shows, for those who cannot see it.
        caption: what to read off it.
        moving: a GIF file of the same size, of which the image is a still. It is shown instead when
            the reader asks for it, and no sooner: nothing moves by itself.

    Raises:
        ValueError: if the image is neither PNG nor SVG, or what moves is no GIF.
    """

    image: bytes
    alt: str
    caption: str = ""
    moving: bytes | None = None

    def __post_init__(self) -> None:
        if not self.image.startswith(_PNG) and b"<svg" not in self.image[:4096]:
            raise ValueError(f"the figure {self.alt!r} is neither a PNG nor an SVG file")
        if self.moving is not None and not self.moving.startswith(_GIF):
            raise ValueError(f"what moves in the figure {self.alt!r} is no GIF file")

    @property
    def source(self) -> str:
        """The image as a data URI."""
        kind = "png" if self.image.startswith(_PNG) else "svg+xml"
        return f"data:image/{kind};base64,{base64.b64encode(self.image).decode()}"

    @property
    def moving_source(self) -> str | None:
        """What moves as a data URI; None if nothing does."""
        if self.moving is None:
            return None
        return f"data:image/gif;base64,{base64.b64encode(self.moving).decode()}"

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in CSS pixels (96 an inch); None for an SVG without."""
        if not self.image.startswith(_PNG):
            found = _SVG_SIZE.search(self.image[:4096])
            scale = 96 / 72 if found and found[2] == b"pt" else 1.0
            return (
                (round(float(found[1]) * scale), round(float(found[3]) * scale)) if found else None
            )
        width, height = struct.unpack(">II", self.image[16:24])
        density = re.search(rb"pHYs(.{4}).{4}\x01", self.image[:4096], re.DOTALL)
        per_inch = struct.unpack(">I", density[1])[0] * 0.0254 if density else 96.0
        return round(width * 96 / per_inch), round(height * 96 / per_inch)


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the report.

    Args:
        title: its heading.
        paragraphs: running text.
        pictures: figures, below the text.
        table: a small table, below the figures; its index is not shown.
        table_caption: what the table shows.
    """

    title: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    table: pd.DataFrame | None = None
    table_caption: str = ""


@dataclass(frozen=True, eq=False)
class TrialTable:
    """All trials, to sort and filter.

    Args:
        frame: a row a trial, in the order to show; up to about 100,000. Columns that are the same
            in all rows are told in a line above the table.
        labels: headers, where they are not the column's name with spaces for underscores.
        run_column: the column of MLflow run ids.
        tracking_uri: of MLflow. Run ids are links if it is an http(s) address; user names and
            passwords in it are dropped.
        experiment_id: MLflow's experiment of the runs.
        note: a sentence above the table.
    """

    frame: pd.DataFrame
    labels: Mapping[str, str] = field(default_factory=dict)
    run_column: str | None = None
    tracking_uri: str | None = None
    experiment_id: str | None = None
    note: str = ""

    @property
    def run_url(self) -> str | None:
        """What comes before a run id in its address; None if runs cannot be linked."""
        try:
            parts = urlsplit(self.tracking_uri or "")
        except ValueError:
            return None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            return None
        base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        if self.experiment_id is None:
            return f"{base}/#/runs/"
        return f"{base}/#/experiments/{quote(self.experiment_id, safe='')}/runs/"


@dataclass(frozen=True)
class Command:
    """A command to copy.

    Args:
        text: for a shell; may have several lines.
        purpose: what it does.
    """

    text: str
    purpose: str = ""


@dataclass(frozen=True, eq=False)
class Report:
    """A study's report.

    Args:
        title: the study's name.
        question: its description.
        facts: label and value of what to know first (mode, trials, networks, date).
        findings: the verdicts.
        warnings: what a reader must know that touches no single verdict.
        sections: the rest of the story.
        trials: all trials; None: no table.
        study_file: the exact study file.
        commands: how to run it again.
        provenance: versions, hardware, commit, seeds, dates; `version.torch` is shown as `torch`
            in the group `version`.
    """

    title: str
    question: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    warnings: Sequence[str] = ()
    sections: Sequence[Section] = ()
    trials: TrialTable | None = None
    study_file: str = ""
    commands: Sequence[Command] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


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
        style=(_HERE / "report.css").read_text(encoding="utf-8"),
        script=(_HERE / "report.js").read_text(encoding="utf-8"),
        digest=_digest,
        trials=None if report.trials is None else _trials(report.trials),
        provenance=_groups(report.provenance),
        position=_position,
        columns_of=_columns,
        missing=MISSING,
    )
    return html.encode("utf-8", "replace").decode()  # a lone surrogate could not be written


def _trials(table: TrialTable) -> dict[str, Any]:
    """What the template needs to know about the trials."""
    columns = _columns(table.frame, table.labels, table.run_column)
    shared = _shared(columns)
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
        "run_url": table.run_url,
    }


def _prose(text: str) -> Markup:
    """Escaped text with `backquotes` as code."""
    parts = re.split(r"`([^`\n]+)`", text)
    marked = [Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts)]
    return Markup("").join(marked)


def _digest(text: str) -> str:
    """The hash by which a Content-Security-Policy lets inline text in."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _position(estimate: Estimate) -> dict[str, float] | None:
    """Where the ends of an estimate lie on a line from 0 to 100 with zero at 50."""
    ends = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    if estimate.margin is not None:
        ends |= {"margin_low": -estimate.margin, "margin_high": estimate.margin}
    if not all(map(math.isfinite, ends.values())) or not any(ends.values()):
        return None
    reach = 1.15 * max(map(abs, ends.values()))
    return {name: round(50 + 50 * end / reach, 2) for name, end in ends.items()}


def _groups(provenance: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Dotted keys by what comes before the first dot; the others first."""
    groups: dict[str, dict[str, str]] = {"": {}}
    for key, value in provenance.items():
        group, _, name = key.rpartition(".") if key.count(".") == 1 else ("", "", key)
        groups.setdefault(group, {})[name] = value
    return {group: rows for group, rows in groups.items() if rows}


@dataclass(frozen=True, eq=False)
class _Column:
    """A column as it is shown and embedded; `report.js` formats numbers in the same way.

    Args:
        name: in the frame.
        label: in the header.
        kind: `number`, `text` or `run`.
        values: (n,) floats with NaN where missing; or objects, str or None.
        whole: whether all numbers are integers.
        decimals: of all numbers; None: four significant digits of each.
    """

    name: str
    label: str
    kind: str
    values: npt.NDArray[Any]
    whole: bool = False
    decimals: int | None = None

    @property
    def grouped(self) -> bool:
        """Whether `12345` is shown as `12 345`."""
        return self.whole and self.name not in _IDENTIFIERS

    def cell(self, row: int) -> str:
        """What is shown."""
        value = self.values[row]
        if value is None or value != value:
            return MISSING
        if self.kind != "number":
            return str(value)
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        if self.grouped:
            return f"{value:,.0f}".replace(",", "\u202f").replace("-", "−")
        return self._digits(value).replace("-", "−")

    def _digits(self, value: float) -> str:
        return _significant(value) if self.decimals is None else f"{value:.{self.decimals}f}"

    def example(self) -> str:
        """A comparison with about the middle of the column, as a filter."""
        middle = float(np.median(self.values[np.isfinite(self.values)]))
        return f"{self.label} > {_significant(float(f'{middle:.2g}'))}"

    def encoded(self) -> str:
        """The column as JSON: `values`, or `levels` and `codes` where values repeat."""
        codes, levels = pd.factorize(self.values)
        few = len(levels) <= len(self.values) // 4
        about = {key: getattr(self, key) for key in ("name", "label", "kind", "decimals")}
        head = json.dumps({**about, "grouped": self.grouped})[:-1]
        values = ",".join(self._tokens(levels if few else self.values))
        if few:
            return f'{head},"levels":[{values}],"codes":[{",".join(map(str, codes.tolist()))}]}}'
        return f'{head},"values":[{values}]}}'

    def _tokens(self, values: npt.NDArray[Any]) -> list[str]:
        """JSON of each value; numbers to seven significant digits, infinity as a huge number."""
        if self.kind != "number":
            return [json.dumps(value) for value in values.tolist()]
        special = {"nan": "null", "inf": "1e999", "-inf": "-1e999"}
        form = ".0f" if self.whole else ".7g"
        written = [format(value, form) for value in values.tolist()]
        return [special.get(token, token) for token in written]


def _significant(value: float) -> str:
    """Four significant digits."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    text = f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _columns(
    frame: pd.DataFrame, labels: Mapping[str, str] | None = None, run_column: str | None = None
) -> list[_Column]:
    """The columns of a table."""
    names = [str(name) for name in frame.columns]
    return [
        _column(frame.iloc[:, i], name, (labels or {}).get(name, ""), run=name == run_column)
        for i, name in enumerate(names)
    ]


def _column(series: pd.Series[Any], name: str, label: str, *, run: bool) -> _Column:
    label = label or name.replace("_", " ")
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(object)
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in _NUMBERS and not run:
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        finite = values[np.isfinite(values)]
        if kind != "integer" or np.abs(finite).max(initial=0) < 2**53:
            whole = bool((finite == np.round(finite)).all())
            return _Column(name, label, "number", values, whole, _decimals(finite))
    if kind == "boolean":
        series = series.map({True: "yes", False: "no"})
    texts = [None if gone else str(v) for v, gone in zip(series, series.isna(), strict=True)]
    return _Column(name, label, "run" if run else "text", np.array(texts, dtype=object))


def _decimals(finite: npt.NDArray[Any]) -> int | None:
    """The fewest decimals that give the largest number four significant digits and the smallest
    three, or every number all its digits; None if that makes numbers longer than six digits.
    """
    sizes = np.abs(finite[finite != 0])
    if not len(sizes):
        return 0
    top, bottom = (math.floor(math.log10(size)) for size in (sizes.max(), sizes.min()))
    enough = max(0, 3 - top, 2 - bottom)
    exact = (np.allclose(np.round(finite, d), finite, rtol=1e-9, atol=0) for d in range(enough))
    decimals = next((d for d, all_digits in enumerate(exact) if all_digits), enough)
    if decimals == 0:
        return 0 if top < 15 else None
    return decimals if max(top, 0) + 1 + decimals <= 6 else None


def _shared(columns: list[_Column]) -> list[_Column]:
    """Those columns that are the same in all of several rows and need not be repeated in each."""
    same = [c for c in columns if c.kind != "run" and len(pd.unique(c.values)) == 1]
    return same if len(same) < len(columns) and len(columns[0].values) > 1 else []


def _embedded(table: TrialTable, columns: list[_Column]) -> str:
    """The table as JSON that may stand in a script element."""
    head = json.dumps({"rows": len(table.frame), "run_url": table.run_url})[:-1]
    text = f'{head},"columns":[{",".join(column.encoded() for column in columns)}]}}'
    for character in "<>&":  # JSON has escaped what is not ASCII
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
