"""Analyses of one's own: cards beside the suite's, and refusals with the line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import studies
from studies.definition.study_files import load_study
from tests.studies.commands import dynloss_here
from tests.studies.sessions import finish, session_of
from tests.studies.tiny import tiny_file

OWN = """\
from matplotlib.figure import Figure
from studies.analysis.card import Card, Drawing


def spread(tables):
    found = tables.members.groupby("arm")["train_accuracy"].std().rename("sd").reset_index()
    yield Card(
        "How networks scatter",
        [Drawing("scatter", "The spread of each arm", "A bar for each arm.", lambda: draw(found))],
        table=found,
        files={"scatter.csv": found},
        sentences=[f"{len(found)} arms scatter."],
    )


def draw(found):
    figure = Figure()
    figure.subplots().bar(found["arm"], found["sd"])
    return figure


ANALYSES = {"spread": spread}
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished study."""
    out = tmp_path_factory.mktemp("out")
    session = session_of(load_study(tiny_file(out)), out)
    finish(session)
    session.delivery.close()
    return out


def analysed(out: Path, file: Path, text: str) -> tuple[int, str]:
    file.write_text(text)
    done = dynloss_here("analyse", "tiny", "--out", out, "--analysis", file)
    return done.returncode, done.stderr.strip()


def test_its_card_is_one_of_the_report(out: Path, tmp_path: Path) -> None:
    assert analysed(out, tmp_path / "own.py", OWN)[0] == 0
    folder = out / "tiny"
    page = (folder / "report.html").read_text()
    assert "How networks scatter" in page
    assert "The spread of each arm" in page
    assert (folder / "figures" / "scatter.png").exists()
    table = pd.read_csv(folder / "tables" / "scatter.csv")
    assert set(table["arm"]) == {"dynamical", "static"}
    assert "2 arms scatter." in (folder / "summary.json").read_text()


def test_from_python(out: Path) -> None:
    scope: dict[str, object] = {}
    exec(OWN, scope)
    own = scope["ANALYSES"]
    result = studies.analyse("tiny", out, analyses=own)  # type: ignore[arg-type]
    assert "2 arms scatter." in result.findings
    assert "2 arms scatter." not in studies.analyse("tiny", out).findings, "it was only looked at"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ANALYSES = {}", "defines no analysis; write ANALYSES"),
        ("x = 1", "defines no analysis; write ANALYSES"),
        ("ANALYSES = {'a': 3}", "ANALYSES['a'] is not a function"),
        ("1 / 0", "own.py:1: does not run: ZeroDivisionError: division by zero"),
        (
            OWN.replace('groupby("arm")', 'groupby("colour")'),
            "own.py:6: the analysis 'spread' fails: KeyError: 'colour'",
        ),
        (
            OWN.replace('found["sd"])', 'found["sd"], oops=1)'),
            "own.py:18: the analysis 'spread' fails: AttributeError",
        ),
        ("ANALYSES = {'a': lambda tables: [1]}", "the analysis 'a' gives a int"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(out: Path, text: str, words: str, tmp_path: Path) -> None:
    code, error = analysed(out, tmp_path / "own.py", text)
    assert code == 2
    assert words in error
    assert "\n" not in error


def test_several_studies_are_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    done = dynloss_here("analyse", "tiny", "tiny", "--out", out, "--analysis", tmp_path / "own.py")
    assert done.returncode == 2
    assert "given with several studies" in done.stderr
