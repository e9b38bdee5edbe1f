"""Searches that start from what finished studies found, on seeds that those have not seen."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dynloss_core import keys
from dynloss_core.config import ConfigError
from search_spaces.documents import dump_document
from studies.definition.study_files import load_study
from studies.report.study_results import write_results
from studies.storage.stored_study import StoredStudy
from tests.studies.sessions import begun, finish, next_block, session_of
from tests.studies.tiny import tiny_document

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of two searches."""
    out = tmp_path_factory.mktemp("past")
    document = tiny_document(sampler="random", searches=2)
    (out / "first.yaml").write_text(dump_document(document))
    session = session_of(load_study(out / "first.yaml"), out)
    finish(session)
    session.delivery.close()
    write_results(StoredStudy.read(session.stored.folder))
    return session.stored.folder.path


def written(folder: Path, past: object, **changes: object) -> Path:
    changes = {"name": "second", "seed": 5, "points_from": [str(past)], **changes}
    (folder / "second.yaml").write_text(dump_document(tiny_document(**changes)))
    return folder / "second.yaml"


def winners(past: Path, arm: str) -> set[float]:
    members = pd.read_parquet(past / "tables" / "members.parquet")
    fresh = members[members[keys.PHASE].str.startswith("confirm")]
    return set(fresh[fresh[keys.ARM] == arm][keys.LEARNING_RATE])


def test_each_arm_starts_from_its_own_winners(past: Path, tmp_path: Path) -> None:
    study = load_study(written(tmp_path, past))
    assert set(study.start_points) == {keys.DYNAMICAL, keys.STATIC}
    session = session_of(study, tmp_path / "out")
    first: dict[str, set[float]] = {keys.DYNAMICAL: set(), keys.STATIC: set()}
    for _ in range(4):
        block = next_block(session)
        for trial in block.trials:
            if trial.number < 2:
                first[block.arm].add(trial.point[keys.LEARNING_RATE])
    for arm, rates in first.items():
        known = winners(past, arm)
        assert known & rates
        assert rates <= known or len(known) < 2
    session.delivery.close()


def test_the_points_are_part_of_the_definition(past: Path, tmp_path: Path) -> None:
    """A study that was begun does not read the other folder again."""
    study = load_study(written(tmp_path, past))
    assert load_study(written(tmp_path, past, points_from=[])).hash != study.hash
    stored = begun(study, tmp_path / "out")
    again = StoredStudy.read(stored.folder).study
    assert again.start_points == study.start_points
    assert again.hash == study.hash


def test_seeds_that_were_seen_are_refused(past: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_study(written(tmp_path, past, seed=1))
    assert refused.value.key == "seed"
    assert "write seed: 2" in str(refused.value), "the past study had two searches, 0 and 1"
    load_study(written(tmp_path, past, seed=2))


def test_a_period_in_epochs_is_refused(past: Path, tmp_path: Path) -> None:
    """Points have it in steps: 20 of these would be taken for 20 epochs."""
    period = {"type": "int", "low": 2, "high": 100, "unit": "epochs"}
    space = {"extends": tiny_document()["space"], "name": "s", "parameters": {"period": period}}
    with pytest.raises(ConfigError, match="gives the period in epochs"):
        load_study(written(tmp_path, past, space=space))


def test_points_outside_the_space_are_dropped(past: Path, tmp_path: Path) -> None:
    space = {"extends": tiny_document()["space"], "name": "s"}
    narrow = {**space, "parameters": {"learning_rate": {"low": 9.0, "high": 10.0}}}
    study = load_study(written(tmp_path, past, space=narrow))
    assert study.arm_space(keys.STATIC).points == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"points_from": "results"}, "points_from: 'results' is no list"),
        ({"points_from": ["nowhere"]}, "points_from[0]: 'nowhere' holds no study that has ended"),
        ({"arms": {"a": {"baseline": True}, "b": {}}}, "has no winner of a or b"),
        ({"start_points": {"static": [{"learning_rate": 1.0}]}}, "given beside start_points"),
        (
            {"mode": "map", "sampler": "sobol"},
            "start_points: given in mode map: no search begins there",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    past: Path, changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_study(written(tmp_path, past, **changes))
    assert words in str(refused.value)
