"""A network that was trained before is taken from where it is recorded, and only if it is the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from dynloss_core import keys
from studies.blocks.block import Block, BlockResult
from studies.blocks.code_origin import Origin
from studies.definition.study import Study
from studies.storage.origins import origins_in
from studies.storage.reuse import KnownNetworks, _part
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from tests.studies.mlflow_runs import TRAIN_LOSS, runs_in
from tests.studies.sessions import begun, finish, session_of, tracker_of, train
from tests.studies.tables import comparable
from tests.studies.tiny import MAP, tiny_document, tiny_study

GRID = {"period": 2, "amplitude": 2, "learning_rate": 2}
FINER = {"name": "finer", "grid": {**GRID, "period": 3}}
BUDGET = tiny_document()["budget"]


def study_of(**changes: Any) -> Study:
    own = {**MAP, "name": "map", "grid": GRID, "block_size": 3, "engine": "batched"}
    return tiny_study(**{**own, **changes})


def trained(study: Study, out: Path, *, reuse: bool = True) -> tuple[StudyFolder, list[Block]]:
    """A study worked through in this process: its folder, and the blocks that were trained."""
    session = session_of(study, out, reuse=reuse)
    blocks = finish(session)
    tracker_of(session)
    session.delivery.close()
    return session.folder, blocks


def wherever_from(folder: StudyFolder, kind: str) -> pd.DataFrame:
    """A table without what says where a row is from."""
    frame = folder.parts.gather(kind)
    return comparable(frame.drop(columns=keys.REUSED_FROM, errors="ignore"))


def networks(blocks: list[Block]) -> int:
    return sum(block.members for block in blocks)


def test_a_finer_map_trains_only_what_is_new(tmp_path: Path) -> None:
    """Its tables are those of the map that was trained from nothing."""
    trained(study_of(), tmp_path / "shared")
    folder, blocks = trained(study_of(**FINER), tmp_path / "shared")
    alone, all_blocks = trained(study_of(**FINER), tmp_path / "alone")
    assert networks(all_blocks) == 2 * (12 + 2)
    assert networks(blocks) == 2 * 4, "the middle period alone"
    for kind in ("members", "curves"):
        pd.testing.assert_frame_equal(wherever_from(folder, kind), wherever_from(alone, kind))
    origins = folder.parts.gather("members")[keys.REUSED_FROM]
    assert origins.fillna("trained").value_counts().to_dict() == {"map": 20, "trained": 8}


def test_mlflow_says_where_a_trial_is_from(tmp_path: Path) -> None:
    trained(study_of(), tmp_path)
    trained(study_of(**FINER), tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = runs_in(client, "tags.`dynloss.study` = 'finer'")
    trials = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(trials) == 14
    assert all(run.info.status == "FINISHED" for run in trials)
    steps = {len(client.get_metric_history(run.info.run_id, TRAIN_LOSS)) for run in trials}
    assert steps == {4}, "the whole curve, reused or not"
    origins = [run.data.tags.get("dynloss.reused_from") for run in trials]
    assert origins.count("map") == 10


def test_what_is_reused_is_reused_again_under_its_first_name(tmp_path: Path) -> None:
    trained(study_of(), tmp_path)
    _, blocks = trained(study_of(name="a-second"), tmp_path)
    folder, more = trained(study_of(name="third"), tmp_path)
    assert not blocks
    assert not more
    assert set(folder.parts.gather("members")[keys.REUSED_FROM]) == {"map"}


OTHERS = {
    "engine": {"engine": "autograd"},
    "seed": {"seed": 1},
    "precision": {"training": {"dtype": "float64"}},
    "tail": {"budget": {**BUDGET, "static_tail": 0}},
    "evaluations": {"budget": {**BUDGET, "evaluate_every": 30}},
    "data": {"data": {"name": "spirals", "points_per_class": 11}},
    "record": {"record": {"trace": True}},
}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change, id=key, marks=[] if key == "seed" else [pytest.mark.slow])
        for key, change in OTHERS.items()
    ],
)
def test_another_network_is_trained(change: dict[str, Any], tmp_path: Path) -> None:
    trained(study_of(), tmp_path)
    _, blocks = trained(study_of(name="other", **change), tmp_path)
    assert networks(blocks) == 20


@contextmanager
def other_code() -> Iterator[None]:
    """Networks that are trained meanwhile are those of other code."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("blocks.block_run", "storage.reuse", "storage.origins"):
            patch.setattr(f"studies.{name}.current_origin", lambda: Origin({}, {"torch": "1.0"}))
        yield


def test_networks_of_other_code_are_not_taken(tmp_path: Path) -> None:
    with other_code():
        trained(study_of(), tmp_path)
    _, blocks = trained(study_of(name="other"), tmp_path)
    assert networks(blocks) == 20


def test_a_study_of_several_origins_gives_what_is_of_the_same(tmp_path: Path) -> None:
    study = study_of()
    with other_code():
        folder, blocks = trained(study, tmp_path)
    for path in folder.parts.files("members")[2:]:
        path.unlink()
    _, again = trained(study, tmp_path)
    assert len(again) == len(blocks) - 2
    assert [entry["networks"] for entry in origins_in(folder.parts.gather("members"), folder)] == [
        networks(blocks) - networks(again),
        networks(again),
    ]
    _, rest = trained(study_of(name="other"), tmp_path)
    assert networks(rest) == networks(blocks) - networks(again)


def test_networks_that_do_not_say_what_trained_them_are_not_taken(tmp_path: Path) -> None:
    folder, _ = trained(study_of(), tmp_path)
    for path in folder.parts.files("members"):
        pd.read_parquet(path).drop(columns=[keys.ORIGIN, keys.DEVICE]).to_parquet(path)
    _, blocks = trained(study_of(name="other"), tmp_path)
    assert networks(blocks) == 20


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_a_study_that_was_replaced_meanwhile_gives_nothing(fails: bool, tmp_path: Path) -> None:
    folder, (block, *_) = trained(study_of(), tmp_path)
    other = study_of(name="other")
    known = KnownNetworks(begun(other, tmp_path))
    assert len(known.known_trials(block)) == 3
    shutil.rmtree(folder.path)
    if fails:
        StoredStudy.begin(folder, study_of(), resume=False)
        folder.parts.record(block, BlockResult(pd.DataFrame(), pd.DataFrame()))
    else:
        trained(study_of(seed=1), tmp_path)
    _part.cache_clear()
    assert known.known_trials(block) == {}


def test_nothing_is_taken_where_nobody_wants_it(tmp_path: Path) -> None:
    trained(study_of(), tmp_path)
    folder, blocks = trained(study_of(name="other"), tmp_path, reuse=False)
    assert networks(blocks) == 20
    assert keys.REUSED_FROM not in folder.parts.gather("members")


def test_a_study_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    folder, _ = trained(study_of(), tmp_path)
    folder.parts.files("members")[0].write_bytes(b"PAR1 no more")
    _, blocks = trained(study_of(name="other"), tmp_path)
    assert networks(blocks) == 20


@pytest.mark.slow
def test_a_network_whose_curves_are_gone_is_trained(tmp_path: Path) -> None:
    folder, _ = trained(study_of(), tmp_path)
    for path in folder.parts.files("curves")[1:]:
        path.unlink()
    _, blocks = trained(study_of(name="other"), tmp_path)
    assert 0 < networks(blocks) < 20


def searched(block_size: int) -> Study:
    """A search of six trials an arm over two points."""
    space = {
        "schema": 1,
        "name": "coarse",
        "parameters": {
            "period": {"type": "const", "value": 20},
            "amplitude": {"type": "const", "value": 10.0},
            "learning_rate": {"type": "choice", "values": [0.1, 1.0]},
        },
        "baseline": {"fix": {"amplitude": 1.0}, "drop": ["period"]},
    }
    kind = {"mode": "optimize", "grid": None, "trials_per_arm": 6, "confirm_seeds": 2}
    return study_of(**kind, space=space, block_size=block_size)


@pytest.mark.parametrize(
    "block_size", [2, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 3, 6))]
)
def test_a_point_that_tpe_proposes_again_is_trained_once(block_size: int, tmp_path: Path) -> None:
    study = searched(block_size)
    folder, blocks = trained(study, tmp_path / "once")
    alone, _ = trained(study, tmp_path / "again", reuse=False)
    search = [block for block in blocks if block.phase == keys.SEARCH]
    assert sum(len(block.trials) for block in search) <= 4, "two points an arm"
    for kind in ("members", "curves"):
        pd.testing.assert_frame_equal(wherever_from(folder, kind), wherever_from(alone, kind))


def test_a_block_waits_for_the_networks_that_another_has_at_work(tmp_path: Path) -> None:
    """And trains them itself if they were lost there."""
    study = searched(1)
    session = session_of(study, tmp_path, reuse=True)
    at_work, handed_out = [], []
    while not session.finished:
        while (block := session.next_block()) is not None:
            at_work.append(block)
            handed_out.append(block)
        points = [(each.arm, str(each.trials[0].point)) for each in at_work]
        assert len(set(points)) == len(points), "nothing is at work twice"
        block = at_work.pop(0)
        if block.phase == keys.SEARCH and block.index == 0:
            session.failed(block, "lost")
            continue
        train(session, block)
    session.delivery.close()
    trials = [block for block in handed_out if block.phase == keys.SEARCH]
    assert len(trials) <= 2 * (2 + 1), "two points an arm, and what failed once more"
    assert sum(len(session.folder.parts.recorded(block)) == 0 for block in trials) == 2  # type: ignore[arg-type]
