"""A study of a folder of images of one's own: found, trained on, and refused once it has changed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from dynloss_core import keys
from dynloss_core.config import ConfigError
from dynloss_core.data import FolderConfig, user_images
from studies.definition.study_files import load_study
from studies.runner.run_study import run_study
from studies.storage.stored_study import stored_definition
from tests.core.data.photos import write_photos
from tests.studies.tiny import MAP, tiny_document


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.report.study_results.draw_figures", lambda *_: ([], {}))


def test_a_study_trains_on_a_folder_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos", each=30)
    document = tiny_document(
        name="photos",
        data={"name": "folder", "path": "photos", "size": 4},
        **MAP,
        grid={"period": 1, "amplitude": 1, "learning_rate": 2},
        backend="inline",
        storage={"tracker": "none"},
    )
    (tmp_path / "photos.yaml").write_text(json.dumps(document))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    study = load_study(tmp_path / "photos.yaml")
    assert isinstance(study.data, FolderConfig)
    assert study.data.path == str(tmp_path / "photos"), "beside the study's file"
    outcome = run_study(study, tmp_path / "out")
    assert outcome.finished
    assert not outcome.failures
    members = pd.read_parquet(outcome.folder.tables / "members.parquet")
    assert members[keys.TRAIN_ACCURACY].max() > 0.9
    assert stored_definition(outcome.folder).hash == study.hash

    (tmp_path / "photos" / "ant" / "00.png").unlink()
    changed = load_study(tmp_path / "photos.yaml")
    with pytest.raises(
        ConfigError, match=r"the data have other contents than when the study was begun"
    ):
        run_study(changed, tmp_path / "out", resume=True)
    user_images._load.cache_clear()  # as in another process
    recorded = tmp_path / "out" / "photos" / "study.yaml"
    with pytest.raises(ConfigError, match="photos has changed since the study was made"):
        run_study(load_study(recorded).with_(name="again"), tmp_path / "out")


def test_the_line_of_a_mistake_is_named(tmp_path: Path) -> None:
    document = tiny_document(data={"name": "folder", "path": "photos"})
    (tmp_path / "own.yaml").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"own\.yaml:1: data\.path: there is no folder"):
        load_study(tmp_path / "own.yaml")
