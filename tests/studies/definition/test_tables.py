"""A study of a table of one's own: found, trained on, and refused once it has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dynloss_core.config import ConfigError
from dynloss_core.data import TableConfig, tabular
from studies.definition.study_files import load_study
from studies.runner.run_study import run_study
from studies.storage.stored_study import stored_definition
from tests.studies.tiny import MAP, tiny_document


def study_file(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A study beside its table, which it names by a path of its own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(80, 2))
    table = pd.DataFrame({"x": x[:, 0], "y": x[:, 1], "kind": np.where(x.sum(1) > 0, "up", "down")})
    (folder / "data").mkdir(exist_ok=True)
    table.to_csv(folder / "data" / "points.csv", index=False)
    path = folder / "points.yaml"
    document = tiny_document(
        name="points",
        data={"name": "table", "path": "data/points.csv", "target": "kind", **changes},
        **MAP,
        grid={"period": 1, "amplitude": 1, "learning_rate": 2},
        backend="inline",
        storage={"tracker": "none"},
    )
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.report.study_results.draw_figures", lambda *_: ([], {}))


def test_a_table_is_found_from_the_studys_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study_file(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    study = load_study(path)
    assert isinstance(study.data, TableConfig)
    assert study.data.path == str(tmp_path / "data" / "points.csv")
    outcome = run_study(study, tmp_path / "out")
    assert outcome.finished
    assert not outcome.failures
    assert stored_definition(outcome.folder).hash == study.hash


def test_a_study_whose_table_changed_trains_no_more(tmp_path: Path) -> None:
    study = load_study(study_file(tmp_path))
    run_study(study, tmp_path / "out")
    changed = load_study(study_file(tmp_path, seed=1))
    with pytest.raises(
        ConfigError, match=r"the data have other contents than when the study was begun"
    ):
        run_study(changed, tmp_path / "out", resume=True)
    tabular._load.cache_clear()  # as in another process
    recorded = tmp_path / "out" / "points" / "study.yaml"
    with pytest.raises(ConfigError, match="has changed since the study was made"):
        run_study(load_study(recorded).with_(name="again"), tmp_path / "out")


def test_a_table_that_moved_is_the_same_study(tmp_path: Path) -> None:
    study = load_study(study_file(tmp_path))
    run_study(study, tmp_path / "out")
    (tmp_path / "moved").mkdir()
    moved = load_study(study_file(tmp_path / "moved"))
    outcome = run_study(moved, tmp_path / "out", resume=True)
    assert outcome.finished
    data = stored_definition(outcome.folder).data
    assert isinstance(data, TableConfig)
    assert data.path == str(tmp_path / "moved" / "data" / "points.csv")


def test_the_line_of_a_mistake_is_named(tmp_path: Path) -> None:
    path = study_file(tmp_path, target="sort")
    with pytest.raises(ConfigError, match=r"points\.yaml:1: data\.target: there is no 'sort'"):
        load_study(path)
