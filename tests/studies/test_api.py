"""What the commands do, as functions that return objects."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import studies
from dynloss_core import keys
from dynloss_core.config import ConfigError
from dynloss_core.models import MLPConfig
from search_spaces import load as load_space
from studies.definition.study import Study
from studies.definition.study_files import LIBRARY, load_study
from studies.report.returned_result import StudyResult
from tests.studies.tiny import tiny_document, tiny_file, tiny_study

UNTRACKED: dict[str, Any] = {"backend": "inline", "storage": {"tracker": "none"}}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A small study, run to its end in this process."""
    return studies.run(tiny_study(**UNTRACKED), tmp_path_factory.mktemp("out"))


def test_a_study_runs_to_a_result(result: StudyResult) -> None:
    assert result.finished
    assert not result.failures
    (verdict,) = result.verdicts
    assert result.findings[0] == verdict.sentence()
    assert set(result.winners) == {"dynamical", "static"}
    assert len(result.members) == result.study.members() == 33
    evaluations = result.study.budget.total // result.study.budget.evaluate_every
    assert len(result.curves) == len(result.members) * (evaluations + 1)
    assert result.report.is_file()


def test_a_row_of_trials_is_the_mean_of_its_networks(result: StudyResult) -> None:
    for row in result.trials.to_dict("records"):
        same = result.members
        for name in (keys.PHASE, keys.ARM, keys.TRIAL):
            same = same[same[name] == row[name]]
        assert row["seeds"] == len(same)
        assert row[keys.VALIDATION_ACCURACY] == pytest.approx(same[keys.VALIDATION_ACCURACY].mean())
        assert row[keys.LEARNING_RATE] == same[keys.LEARNING_RATE].iloc[0]
    searched = result.trials[result.trials[keys.PHASE] == keys.SEARCH]
    assert len(searched) == 12
    assert searched[keys.VALIDATION_ACCURACY].is_monotonic_decreasing


def test_it_shows_itself(result: StudyResult) -> None:
    first, second, *_ = repr(result).splitlines()
    assert first == "tiny (optimize): 12 trials, 33 networks: 24 searched, 9 on fresh seeds"
    assert second == result.findings[0]
    assert "verdict" in result.figures
    shown = result.figures._repr_html_()
    assert shown.count("<img") == len(result.figures)
    assert re.search(r'<img alt="verdict" src="data:image/png;base64,iVBOR', shown)
    assert "&lt;" in replace(result, stored=_named("<b>", result))._repr_html_()


def _named(name: str, result: StudyResult) -> Any:
    study = result.study
    known = {**study.__dict__, "name": name}
    other = object.__new__(Study)
    other.__dict__.update(known)
    return replace(result.stored, study=other)


def test_a_cell_may_be_run_again(result: StudyResult) -> None:
    again = studies.run(result.study, result.folder.parent)
    assert again.members.equals(result.members)
    other = result.study.with_(seeds_per_point=3)
    with pytest.raises(ConfigError, match="holds another study of this name: seeds_per_point"):
        studies.run(other, result.folder.parent)


def test_it_is_found_by_whatever_one_has(result: StudyResult) -> None:
    out = result.folder.parent
    for known in (result, result.study, "tiny", result.folder, str(result.folder)):
        assert studies.status(known, out).networks == 33
        assert not studies.stop(known, out)
    assert studies.analyse("tiny", out).findings == result.findings
    for unknown in ("nowhere", tiny_study(name="nowhere")):
        with pytest.raises(ConfigError):
            studies.analyse(unknown, out)


@pytest.mark.slow
def test_looked_at_again(result: StudyResult) -> None:
    confirmed = studies.confirm(result, seeds=2, backend="inline")
    (before,), (after,) = result.verdicts, confirmed.verdicts
    assert (before.test.n, after.test.n, after.look) == (3, 5, 2)


def test_studies_are_loaded_from_names_files_and_mappings(tmp_path: Path) -> None:
    assert studies.load("quickstart") == load_study("quickstart")
    assert studies.load(tiny_file(tmp_path)) == studies.load(tiny_document()) == tiny_study()
    fashion = studies.load("fashion_wideresnet", profile="reduced")
    assert fashion == load_study("fashion_wideresnet", profile="reduced")


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*.yaml")), ids=lambda path: path.stem)
def test_nothing_changed_is_the_same(path: Path) -> None:
    study = load_study(path)
    assert study.with_() == study


def test_entries_are_replaced() -> None:
    study = tiny_study()
    assert study.with_(budget={"total": 80}).budget == replace(study.budget, total=80)
    assert study.with_(**{"budget.total": 80}) == study.with_(budget={"total": 80})
    assert study.with_(model=MLPConfig("mlp", width=9)) == study.with_(model={"width": 9})
    digits = study.with_(data={"name": "digits"})
    assert digits == tiny_study(data={"name": "digits"})
    assert study.with_(space=load_space("spirals-mlp")) == study.with_(space="spirals-mlp") == study
    assert study.hash == tiny_study().hash, "the study itself is as it was"


def test_a_space_takes_the_place_of_another() -> None:
    wider = tiny_study(
        space={
            "extends": "spirals-mlp",
            "name": "wider",
            "parameters": {"momentum": {"type": "const", "value": 0.5}},
        }
    )
    assert wider.with_(space="spirals-mlp") == tiny_study().with_(space="spirals-mlp")
    assert wider.with_(space=load_space("spirals-mlp")) == tiny_study()


def test_a_table_is_read_again_where_its_columns_change(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{k},{k % 2},{k % 3}" for k in range(60)]
    path.write_text("\n".join(["x,two,three", *rows]))
    study = tiny_study(data={"name": "table", "path": str(path), "target": "two"})
    three = study.with_(data={"target": "three"})
    assert (study.data.num_classes, three.data.num_classes) == (2, 3)
    assert three.with_(data={"features": ["x"]}).data.input_shape == (1,)
    assert three.data.load(0).num_classes == 3
    assert study.with_(seed=1).data == study.data


def test_a_profile_of_a_mapping_is_refused() -> None:
    with pytest.raises(ConfigError, match="profile: given with a mapping"):
        studies.load(tiny_document(), profile="reduced")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": 1}, "with_: modle: unknown key; did you mean 'mode'"),
        ({"model": {"width": 0}}, "with_: model.width: 0 is below 1"),
        ({"model": {"nome": "mlp"}}, "with_: model.nome: unknown key"),
        ({"model": {"name": "mpl"}}, "'mpl' is not one of the choices"),
        ({"budget.total.x": 1}, "total"),
        ({"arms": ["static", "static"]}, "static"),
        ({"space": "nowhere"}, "nowhere"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        tiny_study().with_(**changes)


def test_the_names_complete() -> None:
    assert set(studies.__all__) <= set(dir(studies))
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        studies.rum  # noqa: B018
