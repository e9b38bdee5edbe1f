"""Analyses of one's own: cards beside the suite's, and refusals with the line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import studies
from dynloss_core import plugins
from dynloss_core.config import ConfigError
from studies.analysis.user_analyses import read_analyses
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.report.study_results import write_results
from studies.storage.stored_study import StoredStudy
from tests.studies.commands import dynloss_here
from tests.studies.definition.signal_nets import NETS
from tests.studies.installed import installed
from tests.studies.sessions import finish, session_of
from tests.studies.tiny import CONFIRM, tiny_file, tiny_study

SMALL: dict[str, Any] = {
    **CONFIRM,
    "winners": {
        "dynamical": {"period": 500, "amplitude": 2.0, "learning_rate": 1.0},
        "static": {"learning_rate": 1.0},
    },
    "storage": {"tracker": "none"},
}
"""A study of six networks and few figures: they are drawn again in every test."""

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
    session = session_of(load_study(tiny_file(out, **SMALL)), out)
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
        ("ANALYSES = {'a': lambda tables: [1]}", "the analysis 'a' yields 1; yield"),
        ("ANALYSES = {'a': lambda tables: None}", "the analysis 'a' returns None; yield"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(out: Path, text: str, words: str, tmp_path: Path) -> None:
    code, error = analysed(out, tmp_path / "own.py", text)
    assert code == 2
    assert words in error
    assert "\n" not in error


def test_one_that_fails_leaves_nothing_where_it_was_to_write(out: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace('groupby("arm")', 'groupby("colour")'))
    into = tmp_path / "into"
    done = dynloss_here(
        "analyse", "tiny", "--out", out, "--analysis", tmp_path / "own.py", "--into", into
    )
    assert done.returncode == 2
    assert not [path for path in into.rglob("*") if path.is_file()]


def ended(file: Path, out: Path) -> StoredStudy:
    """A study of a file, trained to its end; without results."""
    session = session_of(load_study(file), out)
    finish(session)
    session.delivery.close()
    return session.stored


def naming(folder: Path, text: str) -> Path:
    """The file of a tiny study that names a plug-in of this text."""
    (folder / "own.py").write_text(text)
    return tiny_file(folder, plugins=["./own.py"], **SMALL)


def test_a_study_that_names_its_file_has_it_in_its_results(tmp_path: Path) -> None:
    file = naming(tmp_path, OWN)
    study = load_study(file)
    assert study.hash == tiny_study(**SMALL).hash, "an analysis changes no network"
    stored = ended(file, tmp_path / "out")
    assert "2 arms scatter." in write_results(stored).analysis.findings()
    assert (stored.folder.path / "plugins" / "own.py").read_text() == OWN
    again = StoredStudy.read(stored.folder)
    assert "2 arms scatter." in write_results(again).analysis.findings(), "read from the folder"


def test_an_edited_analysis_takes_its_place(tmp_path: Path) -> None:
    stored = ended(naming(tmp_path, OWN), tmp_path / "out")
    edited = load_study(naming(tmp_path, OWN.replace("arms scatter", "arms disperse")))
    begun = StoredStudy.begin(stored.folder, edited, resume=True).updated_from(edited)
    assert "2 arms disperse." in write_results(begun).analysis.findings()
    again = StoredStudy.read(stored.folder)
    assert "2 arms disperse." in write_results(again).analysis.findings()
    stored.folder.definition.unlink()
    assert StoredStudy.read(stored.folder).study.hash == stored.study.hash


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('tables.members.groupby("x")', "the analysis 'spread' fails: KeyError: 'x'"),
        ("import sys; sys.exit(3)", "the analysis 'spread' fails: SystemExit: 3"),
    ],
)
def test_one_that_fails_costs_no_result(
    line: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = OWN.replace("    found = tables", f"    {line}\n    found = tables")
    stored = ended(naming(tmp_path, text), tmp_path / "out")
    results = write_results(stored)
    assert results.figures
    (warning,) = (each for each in results.analysis.warnings() if "left out" in each)
    assert warning.endswith(why)
    assert "left out" in stored.folder.report.read_text()
    said = capsys.readouterr().err
    assert f"{why}; correct your own file, then run the study's with --resume" in said


@pytest.mark.slow
def test_what_it_wrote_goes_with_it(out: Path, tmp_path: Path) -> None:
    folder = out / "tiny"
    (folder / "figures").mkdir(exist_ok=True)  # no test before this one may have drawn any
    (folder / "figures" / "mine.png").write_bytes(b"of the user")
    assert analysed(out, tmp_path / "own.py", OWN)[0] == 0
    written = [folder / "figures" / "scatter.png", folder / "tables" / "scatter.csv"]
    assert all(path.exists() for path in written)
    (folder / "figures" / ".written").write_text(
        (folder / "figures" / ".written").read_text() + "../study.yaml\nfigures/../study.yaml\n"
    )
    studies.analyse("tiny", out)
    assert not any(path.exists() for path in written)
    assert (folder / "figures" / "mine.png").exists()
    assert (folder / "study.yaml").exists()
    (folder / "figures" / "mine.png").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["lost", "edited"])
def test_a_copy_that_was_lost_or_edited_is_put_back(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = naming(tmp_path, OWN + f"# {damage}\n")
    stored = ended(file, tmp_path / "out")
    copy = stored.folder.path / "plugins" / "own.py"
    if damage == "lost":
        copy.unlink()
    else:
        copy.write_text(OWN + "1 / 0\n")
    forget(stored.study)
    again = StoredStudy.read(stored.folder)
    assert "its own analysis is left out" in capsys.readouterr().err
    assert "2 arms scatter." not in write_results(again).analysis.findings()
    for text in (f"# {damage}\n", f"# {damage} and changed\n"):
        study = load_study(naming(tmp_path, OWN + text))
        put_back = StoredStudy.begin(stored.folder, study, resume=True).updated_from(study)
        assert "2 arms scatter." in write_results(put_back).analysis.findings()
        assert copy.read_text() == OWN + text


def forget(study: Study) -> None:
    """As in a new process: no plug-in was read."""
    for plugin in study.plugins:
        plugins._sources.pop(plugin)
        del sys.modules[plugins._module_name(plugin)]


def test_its_warnings_name_it(out: Path, tmp_path: Path) -> None:
    text = "from studies.analysis.card import Card\n"
    text += "ANALYSES = {'w': lambda tables: [Card('Pairs', warnings=['few'])]}\n"
    (tmp_path / "w.py").write_text(text)
    (cards,) = read_analyses(str(tmp_path / "w.py")).values()
    result = studies.analyse("tiny", out, analyses={"w": cards})
    assert "Pairs: few" in result.warnings


def test_two_of_one_name_are_refused(out: Path, tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(OWN)
    files = [word for name in ("a.py", "b.py") for word in ("--analysis", tmp_path / name)]
    done = dynloss_here("analyse", "tiny", "--out", out, *files)
    assert done.returncode == 2
    assert "'spread' is in two files" in done.stderr


def test_beside_a_network_its_text_counts(tmp_path: Path) -> None:
    model = {"name": "signal_net"}
    hashes = []
    for text in (NETS + OWN, NETS + OWN.replace("arms scatter", "arms disperse")):
        (tmp_path / "own.py").write_text(text)
        data = {"name": "signals"}
        hashes.append(
            load_study(tiny_file(tmp_path, plugins=["./own.py"], model=model, data=data)).hash
        )
    assert hashes[0] != hashes[1]


def test_an_installed_one_by_its_name(out: Path, tmp_path: Path, own_imports: None) -> None:
    installed(tmp_path, OWN, "[dynloss.analyses]\nspread = {package}.nets:spread\n")
    assert list(read_analyses("spread")) == ["spread"]
    with pytest.raises(ConfigError, match="no installed package offers it"):
        read_analyses("scatter")
    done = dynloss_here("analyse", "tiny", "--out", out, "--analysis", "spread")
    assert done.returncode == 0, done.stderr
    assert "2 arms scatter." in (out / "tiny" / "summary.json").read_text()


def test_several_studies_are_refused(out: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    done = dynloss_here("analyse", "tiny", "tiny", "--out", out, "--analysis", tmp_path / "own.py")
    assert done.returncode == 2
    assert "given with several studies" in done.stderr
