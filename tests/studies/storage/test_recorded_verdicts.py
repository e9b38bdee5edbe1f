"""The verdicts of what is finished, as `dynloss status` and `dynloss list` say them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from studies.report.study_results import write_results
from studies.storage.recorded_verdicts import outcomes_in, recorded_verdicts
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from tests.studies.commands import dynloss_here
from tests.studies.sessions import finish, session_of
from tests.studies.tiny import MAP, tiny_study

pytestmark = pytest.mark.usefixtures("undrawn")


def folder_with(tmp_path: Path, outcomes: list[str]) -> StudyFolder:
    folder = StudyFolder(tmp_path)
    content = {
        "findings": [f"Sentence {number}." for number in range(len(outcomes) + 2)],
        "verdicts": [{"test": {"outcome": outcome}} for outcome in outcomes],
    }
    folder.summary.write_text(json.dumps(content))
    return folder


def test_few_are_sentences_and_many_are_counted(tmp_path: Path) -> None:
    few = folder_with(tmp_path, ["better", "undecided"])
    assert recorded_verdicts(few) == ("Sentence 0.", "Sentence 1.")
    many = folder_with(tmp_path, ["undecided"] * 4 + ["better_within_margin"])
    (line,) = recorded_verdicts(many)
    assert line == f"4 undecided, 1 better within margin; see {many.report}"
    without = folder_with(tmp_path, [])
    assert recorded_verdicts(without) == ("Sentence 0.", "Sentence 1.")


@pytest.mark.parametrize("text", ["", "{", "[3]", "{}", '{"verdicts": 3}', '{"verdicts": [3]}'])
def test_what_is_no_summary_says_nothing(text: str, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    folder.summary.write_text(text)
    assert recorded_verdicts(folder) == ()


def test_one_outcome_is_not_counted() -> None:
    assert outcomes_in({"verdicts": [{"test": {"outcome": "better"}}]}) == "better"


def test_status_says_what_a_finished_study_has_found(tmp_path: Path) -> None:
    session = session_of(tiny_study(), tmp_path)
    finish(session)
    session.delivery.close()
    assert "verdict" not in dynloss_here("status", "tiny", "--out", tmp_path).stdout
    results = write_results(StoredStudy.read(session.folder))
    (verdict,) = results.analysis.verdicts
    said = dynloss_here("status", "tiny", "--out", tmp_path).stdout
    assert f"  verdict  {verdict.sentence()}\n" in said
    found = json.loads(dynloss_here("status", "tiny", "--json", "--out", tmp_path).stdout)
    assert found["verdicts"] == [verdict.sentence()]
    with session.folder.locked():
        assert "verdict" not in dynloss_here("status", "tiny", "--out", tmp_path).stdout


def test_a_map_says_where_it_wins(tmp_path: Path) -> None:
    grid = {"period": 2, "amplitude": 2, "learning_rate": 2}
    session = session_of(tiny_study(**MAP, grid=grid), tmp_path)
    finish(session)
    session.delivery.close()
    write_results(StoredStudy.read(session.folder))
    summary = json.loads(session.folder.summary.read_text())
    assert summary["verdicts"] == []
    assert re.fullmatch(r"wins in \d of \d cells, loses in \d", outcomes_in(summary))
    said = dynloss_here("status", "tiny", "--out", tmp_path).stdout
    assert f"  verdict  {summary['findings'][0]}\n" in said
