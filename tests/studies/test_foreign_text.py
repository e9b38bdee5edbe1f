"""Paths, names and descriptions are text, whatever they look like: nothing that a user can type is
taken for markup, an address, a word of the shell or a command of the terminal."""

from __future__ import annotations

import io
import os
import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from rich.table import Table

from dynloss_core.config import ConfigError, printable
from studies.definition.sqlite import sqlite_path, sqlite_url
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.messages import (
    PlainConsole,
    question_in,
    repeat_command,
    replace_what_cannot_be_shown,
    say,
)
from studies.runner.panel import StudyPanel
from studies.storage.status_file import PhaseStatus, StudyStatus
from studies.storage.tracking.mlflow_tracker import MLflowTracker
from tests.studies.commands import dynloss, dynloss_here
from tests.studies.sessions import begun_folder
from tests.studies.tiny import tiny_study

NASTY = {
    "markup": "x[/y] [bold]z[/bold]",
    "emoji": "a :smile: b",
    "address": "a?b=c#d;e&token=f",
    "percent": "a%20b%3F%zz%",
    "shell": "a $(id) `id` 'b' \"c\" \\d",
    "template": "{a} {SCHEMA_VERSION} {{",
    "unicode": "é 日本 µ",
    "escape": "a\x1b[31mb\x07",
    "dash": "-a",
    "hidden": "a\u202eb",
}
every_nasty = pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)


@st.composite
def paths(draw: st.DrawFn) -> Path:
    letter = st.characters(exclude_categories=["Cs"], exclude_characters="/\0")
    names = st.text(letter, min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))
    return Path("/", *draw(st.lists(names, min_size=1, max_size=3)))


@given(paths())
def test_an_address_of_sqlite_leads_to_its_file(path: Path) -> None:
    assert sqlite_path(sqlite_url(path)) == path


def test_an_address_in_letters_and_digits_is_the_usual_one() -> None:
    assert sqlite_url(Path("/a b/mlflow.db")) == "sqlite:////a b/mlflow.db"
    assert sqlite_path("http://127.0.0.1:5000") is None


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="cannot be part of a database address; choose another --out"
    ):
        sqlite_url(Path(os.fsdecode(b"/tmp/\xff")))


@every_nasty
def test_a_study_keeps_everything_in_its_folder(text: str, tmp_path: Path) -> None:
    """Optuna's and MLflow's files, and an artifact."""
    home = tmp_path / "home"
    out = home / text
    out.mkdir(parents=True)
    study = tiny_study()
    folder = begun_folder(study, out)
    optuna.create_study(storage=folder.optuna_url, study_name="tiny/static")
    with closing(sqlite3.connect(folder.path / "optuna.db")) as database:
        assert database.execute("SELECT study_name FROM studies").fetchall() == [("tiny/static",)]
    # making a store takes a second: one suffices to know that its address is right
    url = folder.default_tracking_uri
    assert sqlite_path(url) == out / "mlflow.db"
    if text in (NASTY["address"], NASTY["percent"]):
        tracker = MLflowTracker(study, "id", url, out / "artifacts")
        tracker.close(finished=True, metrics={}, tags={}, artifacts=[(folder.definition, "")])
        (artifact,) = out.glob("artifacts/*/artifacts/study.yaml")
        assert artifact.read_bytes() == folder.definition.read_bytes()
        (listed,) = MlflowClient(url).list_artifacts(tracker.parent)
        assert listed.path == "study.yaml"
    first, *_ = Path(text).parts
    assert [path.name for path in home.iterdir()] == [first], "and nothing beside it"


@every_nasty
def test_status_and_analyse_print_a_path_as_it_is(text: str, tmp_path: Path) -> None:
    out = tmp_path / text
    folder = begun_folder(tiny_study(), out)
    folder.summary.write_text("{}")
    for arguments in (["status", "tiny"], ["status", folder.path], ["stop", "tiny"]):
        done = dynloss_here(*arguments, "--out", out)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
    shown = dynloss_here("status", "tiny", "--out", out).stdout
    assert printable(str(folder.summary)) in shown
    lost = dynloss_here("status", "nobody.yaml", "--out", out)
    assert (lost.returncode, lost.stderr.count("\n")) == (2, 1)


@every_nasty
def test_a_description_is_shown_and_not_obeyed(text: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    quoted = "".join(f"\\U{ord(c):08x}" for c in text)
    file.write_text(
        f'name: "{quoted}"\ndescription: "{quoted}"\n'
        "parameters: {learning_rate: {type: const, value: 1.0}, "
        f'model.activation: {{type: choice, values: ["{quoted}", relu]}}}}\n'
        "points: [{learning_rate: 1.0}]\n"
    )
    done = dynloss_here("space", "show", file)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(printable(text)) == 3
    assert done.stdout.replace("\n", "").isprintable()


@every_nasty
def test_nothing_is_interpreted_on_the_way_to_the_terminal(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table("column", box=None)
    table.add_row(text)
    console = PlainConsole(stderr=True)
    console.print(text, style="bold")
    console.print(table)
    say(text)
    assert capsys.readouterr().err.count(printable(text)) == 3


@every_nasty
def test_the_panel_reads_no_markup(text: str) -> None:
    status = StudyStatus(
        name="tiny",
        mode="optimize",
        objective="test_loss",
        networks=8,
        trained=1.0,
        is_driven=True,
        machine="",
        networks_per_minute=None,
        seconds_left=None,
        blocks={text: {"networks": 0.0, "node": text}},
        failures={},
        phases=(PhaseStatus("search", text, 1, 2, "trials"),),
        summary=None,
    )
    panel = StudyPanel(tiny_study(description=text), Path(text), PlainConsole())
    panel.show(status, "search", {})
    console = PlainConsole()
    with console.capture() as shown:
        console.print(panel)
    assert all(line.isprintable() for line in shown.get().splitlines())
    question = " ".join(text.split())
    for expected in (question_in(question), text, f"{text} on {text}"):
        assert printable(expected) in shown.get()


@every_nasty
def test_a_printed_command_means_what_it_says(text: str) -> None:
    arguments = ["run", text, "--set", f"description={text}"]
    typed = shlex.split(repeat_command(arguments, Path(text), f"http://{text}"))
    assert typed == ["dynloss", *arguments, "--out", text, "--address", f"http://{text}"]


def test_a_file_that_looks_like_an_option(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.rename("-x y.yaml")
    done = dynloss_here("status", "--out", "-o", "--", "-x y.yaml")
    assert "run it first (dynloss run './-x y.yaml' --out -o)" in done.stderr


@pytest.mark.parametrize("name", ["artifacts", "Across", "mlflow.db", "MLFLOW.db-wal", "mlflow"])
def test_a_name_that_the_output_folder_needs_is_refused(name: str, tiny: Path) -> None:
    with pytest.raises(ConfigError, match=f"name: '{name}' is a name that the output folder uses"):
        load_study(tiny, [f"name={name}"])


@pytest.mark.parametrize("name", ["artifacts2", "mlflow-study", "across.", "my-artifacts"])
def test_other_names_are_not(name: str, tiny: Path) -> None:
    assert isinstance(load_study(tiny, [f"name={name}"]), Study)


def test_text_that_no_file_can_hold_is_refused_at_the_door(tiny: Path) -> None:
    with tiny.open("a") as file:
        file.write('description: "\\ud83d"\n')
    done = dynloss_here("run", tiny, "--dry-run")
    assert done.returncode == 2
    assert "holds half of a surrogate pair" in done.stderr


def test_a_terminal_without_a_character_gets_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    replace_what_cannot_be_shown()
    PlainConsole().print("5 µs · Γ")
    sys.stdout.flush()
    assert raw.getvalue() == b"5 \\xb5s \\xb7 \\u0393\n"


def test_a_dry_run_on_a_terminal_that_is_not_utf_8(tiny: Path) -> None:
    settings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = dynloss("run", tiny, "--dry-run", PYTHONIOENCODING="", **settings)
    assert done.returncode == 0, done.stderr
    assert "\\xb5s per network and step" in done.stdout
