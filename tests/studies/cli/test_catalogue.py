"""`dynloss list` and `dynloss show`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from studies.definition.study_files import LIBRARY, load_study
from studies.messages import console
from studies.report.study_results import write_results
from studies.storage.stored_study import StoredStudy
from tests.studies.commands import dynloss_here
from tests.studies.sessions import begun_folder, finish, session_of
from tests.studies.tiny import tiny_study

pytestmark = pytest.mark.usefixtures("undrawn")


def listed(out: Path) -> dict[str, list[dict[str, str]]]:
    done = dynloss_here("list", "--json", "--out", str(out))
    assert done.returncode == 0
    found: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
    return found


def test_the_library_and_its_questions(tmp_path: Path) -> None:
    found = listed(tmp_path)
    assert [each["name"] for each in found["library"]] == sorted(
        p.stem for p in LIBRARY.glob("*.yaml")
    )
    assert all(len(each["question"]) > 20 for each in found["library"])
    assert found["recorded"] == []
    text = dynloss_here("list", "--out", str(tmp_path)).stdout
    assert "start with  dynloss run quickstart" in text


def test_what_was_run_here(tmp_path: Path) -> None:
    study = tiny_study()
    folder = begun_folder(study, tmp_path)
    (begun,) = listed(tmp_path)["recorded"]
    assert (begun["name"], begun["state"], begun["verdict"]) == ("tiny", "begun", "")
    finish(session_of(study, tmp_path))
    write_results(StoredStudy.read(folder))
    (found,) = listed(tmp_path)["recorded"]
    summary = json.loads(folder.summary.read_text())
    assert found["state"] == f"finished, 12 trials, {summary['networks']['in_all']} networks"
    assert found["verdict"] == summary["verdicts"][0]["test"]["outcome"].replace("_", " ")
    with folder.locked():
        assert listed(tmp_path)["recorded"][0]["state"] == "running"
    folder.summary.write_text("{")
    assert listed(tmp_path)["recorded"][0]["state"] == "unknown"


@pytest.mark.parametrize(
    "arguments",
    [
        ["quickstart"],
        ["digits", "--set", "budget.total=70"],
        ["fashion_myrtle5_channels", "--profile", "reduced"],
    ],
    ids=" ".join,
)
def test_what_is_shown_can_be_run(arguments: list[str], tmp_path: Path) -> None:
    done = dynloss_here("show", *arguments)
    assert done.stdout.startswith("# ")
    (tmp_path / "mine.yaml").write_text(done.stdout)
    study = load_study(tmp_path / "mine.yaml")
    assert f"hash {study.hash}" in done.stdout.splitlines()[0]
    assert f"# {study.members():,} networks" in done.stdout


@pytest.mark.parametrize("width", [60, 80])
def test_names_can_be_typed_from_a_narrow_list(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_force_terminal", True)
    monkeypatch.setattr(console, "no_color", True)
    monkeypatch.setattr(console, "_width", width)
    said = dynloss_here("list", "--out", str(tmp_path)).stdout
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()
    assert {path.stem for path in LIBRARY.glob("*.yaml")} <= {
        line[1:].split(" ")[0] for line in lines
    }
    assert all(len(line) <= width for line in lines if "start with" not in line)


def test_a_pipe_gets_a_narrow_line_for_each_study(tmp_path: Path) -> None:
    begun_folder(tiny_study(), tmp_path)
    text, _, _ = dynloss_here("list", "--out", str(tmp_path)).stdout.partition(f"\n{tmp_path}")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    for study in listed(tmp_path)["library"]:
        (line,) = (line for line in lines if line.split()[0] == study["name"])
        name, mode, question = line.split(maxsplit=2)
        assert (name, mode) == (study["name"], study["mode"])
        assert " ".join(study["question"].split()).startswith(question.removesuffix(" ..."))
