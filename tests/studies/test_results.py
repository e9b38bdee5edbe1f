"""The committed results are what their members tables give."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from search_spaces.documents import read_document
from studies.analysis.analyses import ANALYSES
from studies.analysis.study_tables import Tables
from studies.definition.study_files import study_from_mapping
from studies.report.study_results import question_of

RESULTS = Path(__file__).parents[2] / "studies" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/members.parquet"))
OF_MEMBERS = ("verdicts", "searches", "ladder", "regimes", "gain maps")
"""Analyses that rest on the members table alone."""


def files_of(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    document = read_document(folder / "study.yaml")
    study = study_from_mapping(document, source=folder.name, folder=folder, recorded=True)
    members = pd.read_parquet(folder / "members.parquet")
    tables = Tables.of(members, pd.DataFrame(), question_of(study, members), {})
    for name in OF_MEMBERS:
        for card in ANALYSES[name](tables):
            yield from card.files.items()


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_tables_are_those_of_its_members(folder: Path) -> None:
    made = dict(files_of(folder))
    for path in sorted(folder.glob("*.csv")):
        if path.name in made:
            written = io.StringIO(made[path.name].to_csv(index=False))
            pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(written), rtol=1e-9)
