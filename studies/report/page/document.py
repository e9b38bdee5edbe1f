"""The contents of a report: plain data, filled in elsewhere and written by `render`."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd

from studies.analysis.figures.files import Spot
from studies.analysis.statistics.equivalence import Outcome

__all__ = [
    "Command",
    "Estimate",
    "Finding",
    "Glance",
    "Picture",
    "Report",
    "Section",
    "TrialTable",
]

_GIF = (b"GIF87a", b"GIF89a")
_PNG = b"\x89PNG\r\n\x1a\n"
_SVG_SIZE = re.compile(rb'<svg[^>]*?\swidth="([\d.]+)(pt|px|)"[^>]*?\sheight="([\d.]+)')


@dataclass(frozen=True)
class Estimate:
    """An effect and its interval, drawn on a line around zero.

    Args:
        value: the effect.
        low: lower end of its interval.
        high: upper end.
        margin: largest effect that would not matter, drawn as a band; None: no band.
        negative: what an effect below zero means, in two or three words.
        positive: what an effect above zero means.
    """

    value: float
    low: float
    high: float
    margin: float | None = None
    negative: str = ""
    positive: str = ""


@dataclass(frozen=True)
class Glance:
    """A verdict as a row of the table on the first screen.

    Args:
        compared: what is compared, and where: a setting and two arms.
        difference: the effect and its interval.
        level: the level of the interval: `95%`.
        sample: number of pairs: `20 seeds`.
        look: number of the look at fresh seeds.
        p: p value that counts all comparisons.
        qualifier: what restricts the outcome; empty if nothing does.
    """

    compared: str
    difference: str
    level: str
    sample: str
    look: int
    p: str
    qualifier: str = ""


@dataclass(frozen=True)
class Finding:
    """One answer of the study.

    Args:
        sentence: the answer in words, with its uncertainty.
        outcome: the outcome of the dynamical arm; None for a statement that is not a verdict.
        estimate: the effect behind it.
        numbers: labels and values of the numbers that support it, in order.
        warnings: reasons to doubt it; shown before the numbers.
        glance: its row on the first screen.
    """

    sentence: str
    outcome: Outcome | None = None
    estimate: Estimate | None = None
    numbers: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    glance: Glance | None = None


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        image: a PNG or SVG file.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
        title: its heading, if the image has none.
        narrow: the same figure as SVG for narrow windows; None: there is none.
        notes: small print.
        spots: what to say of a part of the image (see `studies.analysis.figures.files`).
        narrow_spots: the same for the narrow image.
        moving: a GIF animation of the same size, of which the image is a still. It is shown only
            when the reader asks for it: nothing moves by itself.

    Raises:
        ValueError: if the image is neither PNG nor SVG, or the animation is not a GIF.
    """

    image: bytes
    alt: str
    caption: str = ""
    title: str = ""
    narrow: bytes | None = None
    notes: Sequence[str] = ()
    spots: Sequence[Spot] = ()
    narrow_spots: Sequence[Spot] = ()
    moving: bytes | None = None

    def __post_init__(self) -> None:
        if not self.image.startswith(_PNG) and b"<svg" not in self.image[:4096]:
            raise ValueError(f"the figure {self.alt!r} is neither a PNG nor an SVG file")
        if self.moving is not None and not self.moving.startswith(_GIF):
            raise ValueError(f"the animation of the figure {self.alt!r} is not a GIF file")

    @property
    def source(self) -> str:
        """The image as a data URI."""
        return _data_uri(self.image)

    @property
    def narrow_source(self) -> str | None:
        """The narrow image as a data URI; None without one."""
        return None if self.narrow is None else _data_uri(self.narrow)

    @property
    def moving_source(self) -> str | None:
        """The animation as a data URI; None without one."""
        if self.moving is None:
            return None
        return f"data:image/gif;base64,{base64.b64encode(self.moving).decode()}"

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in CSS pixels (96 per inch); None for an SVG without a size."""
        return _size(self.image)

    @property
    def narrow_size(self) -> tuple[int, int] | None:
        """The same of the narrow image."""
        return None if self.narrow is None else _size(self.narrow)


def _data_uri(image: bytes) -> str:
    kind = "png" if image.startswith(_PNG) else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _size(image: bytes) -> tuple[int, int] | None:
    if not image.startswith(_PNG):
        match = _SVG_SIZE.search(image[:4096])
        scale = 96 / 72 if match and match[2] == b"pt" else 1.0
        return (round(float(match[1]) * scale), round(float(match[3]) * scale)) if match else None
    width, height = struct.unpack(">II", image[16:24])
    density = re.search(rb"pHYs(.{4}).{4}\x01", image[:4096], re.DOTALL)
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
        frame: one row per trial, in the order shown; up to about 100,000. Columns that are the same
            in all rows are given in a line above the table.
        labels: headers other than the column's name with spaces for underscores.
        run_column: the column of MLflow run ids.
        tracking_uri: the tracking URI of MLflow. Run ids are links if it is an http(s) address;
            user names and passwords in it are dropped.
        experiment_id: MLflow's experiment of the runs.
        moves: whether the server of the tracking URI may have another port when it is read.
        note: a sentence above the table.
        reruns: how many of the first rows are points that were trained again on other seeds; the
            others are the trials.
        axes: columns of parallel coordinates.
        curves: the curve of each of the first trials: `metric`, `steps`, and `values`, one list per
            trial; None: there are none.
    """

    frame: pd.DataFrame
    labels: Mapping[str, str] = field(default_factory=dict)
    run_column: str | None = None
    tracking_uri: str | None = None
    experiment_id: str | None = None
    moves: bool = False
    note: str = ""
    reruns: int = 0
    axes: Sequence[str] = ()
    curves: Mapping[str, Any] | None = None

    @property
    def any_port(self) -> int | None:
        """The port that runs are linked to, if a reader may give another; None if not."""
        linked = self.moves and self.run_column is not None and self.run_url
        return urlsplit(linked).port if linked else None

    @property
    def run_url(self) -> str | None:
        """The address of a run without its id; None if runs cannot be linked."""
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
        text: what to type in a shell; may have several lines.
        purpose: what it does.
    """

    text: str
    purpose: str = ""


@dataclass(frozen=True, eq=False)
class Report:
    """A study's report.

    Args:
        title: the study's name.
        question: the study's description.
        facts: labels and values of what to know first (mode, trials, networks, date).
        findings: the verdicts and other findings.
        warnings: warnings that concern no single verdict.
        sections: everything else.
        trials: all trials; None: no table.
        study_file: the exact study file.
        commands: commands to run the study again.
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
