"""`dynloss analyse A B C`: several studies in one table and one figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError
from dynloss_core.own_command import own_command
from studies.analysis.across_studies import AcrossRow, ComparedStudy, across, across_table
from studies.analysis.analyses import analyse
from studies.analysis.figures.across import draw_across
from studies.analysis.figures.files import save_figure
from studies.report.study_question import question_of
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.write_errors import not_written

__all__ = ["SideBySide", "compare_studies"]


@dataclass(frozen=True)
class SideBySide:
    """The result of putting studies side by side.

    Args:
        rows: one comparison per study and setting.
        table: the CSV file.
        figures: the files drawn.
    """

    rows: tuple[AcrossRow, ...]
    table: Path
    figures: tuple[Path, ...]


def compare_studies(folders: Sequence[StudyFolder], out: Path) -> SideBySide:
    """Put studies side by side and write the table and the figure to `out`.

    Raises:
        ConfigError: if no study has both arms on two seeds, or `out` cannot be written.
    """
    rows = across([_tables(folder) for folder in folders])
    if not rows:
        raise ConfigError("", "no study has both arms", "run them first", str(out))
    table = out / "across.csv"
    try:
        write_atomically(table, across_table(rows).to_csv(index=False))
        figures = save_figure(draw_across(rows), out, "across")
    except OSError as error:
        remedy = f"write elsewhere, with `{own_command('analyse', '--into')}`"
        raise not_written(error, out, remedy) from None
    return SideBySide(tuple(rows), table, tuple(figures))


def _tables(folder: StudyFolder) -> ComparedStudy:
    stored, members = StoredStudy.read(folder), folder.parts.gather("members")
    study, question = stored.study, question_of(stored.study, members, stored.looks)
    return ComparedStudy(
        name=study.name,
        data=study.data.name,
        model=study.model.name,
        members=members,
        question=question,
        analysis=analyse(members, pd.DataFrame(), question),
    )
