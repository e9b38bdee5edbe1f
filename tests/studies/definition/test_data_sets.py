"""Studies of image data through the command line: what is refused, and what reaches the workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynloss_core.config import ConfigError
from dynloss_core.data import SpiralsConfig, image_folders, images
from studies.definition import data_sets
from studies.definition.study_files import load_study
from tests.core.data.image_files import needs_fashion_mnist
from tests.studies.commands import dynloss_here
from tests.studies.definition.image_study import run_where_only_the_data_dir_is_sound, written


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without data; CIFAR-10 is in no package of Debian."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(image_folders.DATA_FOLDER, "")


@pytest.mark.parametrize(
    "arguments",
    [("run", "FILE"), ("train", "--data", "cifar10")],
    ids=" ".join,
)
def test_missing_data_are_refused_before_anything_starts(
    arguments: tuple[str, ...], nowhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "cifar10")
    monkeypatch.chdir(tmp_path)
    done = dynloss_here(*(str(file) if each == "FILE" else each for each in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("dynloss: data.name: cifar10 is in none of ")
    assert "--download" in line
    assert not (tmp_path / "results").exists(), "nothing was started"
    assert not (tmp_path / "cache" / "dynloss").exists()


def test_a_data_folder_that_is_none_is_refused(nowhere: None, tmp_path: Path) -> None:
    data = SpiralsConfig()
    with pytest.raises(ConfigError, match=r"--data-dir: .*gone is not a folder"):
        data_sets.ensure_data(data, tmp_path / "gone")
    data_sets.ensure_data(data, tmp_path / "gone", download=True)
    assert image_folders.chosen_folder() == str(tmp_path / "gone")
    assert not (tmp_path / "gone").exists(), "spirals need no folder"


def test_a_study_is_read_without_its_data(nowhere: None, tmp_path: Path) -> None:
    study = load_study(written(tmp_path, "cifar10"))
    assert study.problem("dynamical").data == study.data
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
@needs_fashion_mnist
def test_the_data_folder_reaches_the_workers(nowhere: None, tmp_path: Path) -> None:
    run_where_only_the_data_dir_is_sound(tmp_path)


def test_a_download_is_asked_for_once_and_by_the_driver(
    nowhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(images.ImageConfig, "download", lambda config: asked.append(config))
    study = load_study(written(tmp_path, "cifar10"))
    data_sets.ensure_data(study.data)
    assert asked == []
    data_sets.ensure_data(study.data, download=True)
    assert asked == [study.data]
