"""The results of a study as an object for notebooks: tables as data frames, figures as images."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from studies.analysis.setting_verdicts import SettingVerdict
from studies.definition.study import Study
from studies.messages import brief
from studies.report.study_results import Results
from studies.report.trial_table import trial_table
from studies.storage.stored_study import StoredStudy

__all__ = ["Figures", "StudyResult"]


class Figures(Mapping[str, Path]):
    """The figures of a study by name; a notebook displays them.

    Args:
        paths: their PNG or GIF files.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)

    def __getitem__(self, name: str) -> Path:
        return self._paths[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"Figures({', '.join(self)})"

    def _repr_html_(self) -> str:
        return "".join(_image(name, path) for name, path in self.items())


def _image(name: str, path: Path) -> str:
    kind = path.suffix.removeprefix(".")
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/{kind};base64,{data}">'


@dataclass(frozen=True, eq=False)
class StudyResult:
    """The results of a study.

    Args:
        stored: the study.
        results: what its tables show.
        failures: blocks that failed, and why.
        undelivered: why MLflow could not be reached; empty if everything was delivered.
    """

    stored: StoredStudy
    results: Results
    failures: Mapping[str, str] = field(default_factory=dict)
    undelivered: str = ""

    @property
    def finished(self) -> bool:
        """Whether every network has been trained."""
        return len(self.members) == self.stored.networks

    @property
    def study(self) -> Study:
        """The definition."""
        return self.stored.study

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.stored.folder.path

    @property
    def report(self) -> Path:
        """The report, a file to open in a browser."""
        return self.stored.folder.report

    @property
    def verdicts(self) -> tuple[SettingVerdict, ...]:
        """The verdicts on fresh seeds, one per scientific setting and pair of arms."""
        return self.results.analysis.verdicts

    @property
    def findings(self) -> list[str]:
        """The findings, in sentences, verdicts first."""
        return self.results.analysis.findings()

    @property
    def warnings(self) -> list[str]:
        """The warnings, in sentences."""
        return self.results.analysis.warnings()

    @property
    def winners(self) -> dict[str, dict[str, object]]:
        """The confirmed point of each arm, at the first setting."""
        return self.results.analysis.winners

    @cached_property
    def members(self) -> pd.DataFrame:
        """One row per network, at the end of its training."""
        return self.stored.folder.parts.gather("members")

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per network and evaluation."""
        return self.stored.folder.parts.gather("curves")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial: its point, and means over its seeds."""
        return trial_table(self.study, self.members)

    @property
    def figures(self) -> Figures:
        """The figures by name."""
        shown = (path for path in self.results.figures if path.suffix in (".png", ".gif"))
        return Figures({path.stem: path for path in shown})

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        count = str(self.results.counts)
        count += "" if self.finished else f"; of {self.stored.networks:,} networks in all"
        yield f"{self.study.name} ({self.study.mode}): {count}"
        yield from self.findings[:1]
        for arm, point in self.winners.items():
            values = ", ".join(f"{name} {brief(value)}" for name, value in point.items())
            yield f"  {arm}: {values}"
        if self.failures:
            yield f"  {len(self.failures)} blocks failed"
        yield f"  {self.folder}"

    def _repr_html_(self) -> str:
        first, *rest = (html.escape(line) for line in self._lines())
        return "<br>".join([f"<b>{first}</b>", *rest])
