"""Files to begin with: whatever is asked for is written, loads and trains."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

import search_spaces
from dynloss_core.data import DATA_SETS
from dynloss_core.models import MODELS
from studies.definition.study_files import load_study
from studies.runner.run_study import run_study
from tests.studies.commands import dynloss_here

PARTS = ("model", "data", "space", "study")
FILES = {
    "model": "my_network.py",
    "data": "my_data.py",
    "space": "my_space.yaml",
    "study": "my_study.yaml",
}


@pytest.fixture(autouse=True)
def tables_as_they_were() -> Iterator[None]:
    yield
    for table in (MODELS, DATA_SETS):
        for name in ("my_network", "my_data"):
            table.pop(name, None)


@pytest.mark.parametrize(
    "chosen",
    [chosen for count in range(len(PARTS) + 1) for chosen in combinations(PARTS, count)],
    ids="-".join,
)
def test_what_is_asked_for_is_written_and_fits(chosen: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    done = dynloss_here("init", folder, *(f"--{part}" for part in chosen))
    assert done.returncode == 0, done.stderr
    written = chosen or PARTS
    assert {path.name for path in folder.iterdir()} == {FILES[part] for part in written}
    if "space" in written:
        assert search_spaces.load(folder / FILES["space"]).name == "my-space"
    if "study" in written:
        study = load_study(folder / FILES["study"])
        assert (study.model.name == "my_network") == ("model" in written)
        assert (study.data.name == "my_data") == ("data" in written)
        assert (study.space.name == "my-space") == ("space" in written)


def test_the_study_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.report.study_results.draw_figures", lambda *_: ([], {}))
    assert dynloss_here("init", tmp_path).returncode == 0
    study = load_study(tmp_path / FILES["study"]).with_(
        budget={"total": 40, "static_tail": 10, "evaluate_every": 20},
        trials_per_arm=2,
        seeds_per_point=1,
        confirm_seeds=2,
        backend="inline",
        storage={"tracker": "none"},
    )
    outcome = run_study(study, tmp_path / "out")
    assert outcome.finished
    assert not outcome.failures
    assert outcome.results.analysis.verdicts[0].test.n == 2


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / FILES["space"]).write_text("mine")
    done = dynloss_here("init", tmp_path)
    assert done.returncode == 2
    assert f"{FILES['space']}: is there already; choose another folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [FILES["space"]]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = dynloss_here("init", tmp_path / "file" / "mine")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
