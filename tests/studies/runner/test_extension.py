"""More trials for a finished study: the same search as if they had been asked for from the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.definition.study import Study
from studies.definition.study_files import load_study
from studies.runner.extension import extended
from studies.runner.rounds import due_round
from studies.runner.run_study import run_study
from studies.runner.session import Session
from studies.search.confirmation import plan_confirmation
from studies.storage.status import study_status
from studies.storage.stored_study import StoredStudy, stored_definition
from studies.storage.study_folder import StudyFolder
from tests.studies.commands import dynloss
from tests.studies.sessions import (
    begun,
    finish,
    run_without_ray,
    session_of,
    statuses,
    tracker_of,
    train_all,
)
from tests.studies.tables import comparable, table


def finished(study: Study, out: Path) -> StoredStudy:
    """Train what is left of a study in this process."""
    session = session_of(study, out)
    finish(session)
    session.delivery.close()
    return session.stored


def searched(folder: StudyFolder) -> pd.DataFrame:
    members = folder.parts.gather("members")
    return comparable(members[members[keys.PHASE] == keys.SEARCH])


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("random", marks=pytest.mark.slow)])
def test_the_search_is_that_of_the_longer_study(sampler: str, tiny: Path, tmp_path: Path) -> None:
    changes = [f"sampler={sampler}", "trials_per_arm=5", "block_size=2", "seeds_per_point=1"]
    stored = finished(load_study(tiny, changes), tmp_path / "extended")
    longer = extended(stored, 3).study
    assert [list(block) for block in longer.trials_of("static").blocks] == [
        [0, 1],
        [2, 3],
        [4],
        [5, 6],
        [7],
    ]
    twice = extended(finished(longer, tmp_path / "extended"), 1)
    finished(twice.study, tmp_path / "extended")
    from_the_start = finished(load_study(tiny, [*changes, "extensions=[3, 1]"]), tmp_path / "whole")
    found = searched(stored.folder)
    assert found.groupby(keys.ARM)[keys.TRIAL].nunique().tolist() == [9, 9]
    pd.testing.assert_frame_equal(found, searched(from_the_start.folder))


def test_new_winners_are_confirmed_on_seeds_nobody_saw(tiny: Path, tmp_path: Path) -> None:
    study = load_study(tiny, ["trials_per_arm=2", "seeds_per_point=1", "sampler=random"])
    stored = finished(study, tmp_path)
    folder = stored.folder
    first = folder.parts.gather("members").query("phase == 'confirm'")
    while (due := due_round(stored)) is None:
        stored = finished(extended(stored, 4).study, tmp_path)
        again = folder.parts.gather("members").query("phase == 'confirm'")
        assert sorted(again[keys.SEED]) == sorted(first[keys.SEED]), "the first round stays"
    stored = finished(stored.with_round(due).study, tmp_path)
    rounds = folder.parts.gather("members").groupby(keys.PHASE)[keys.SEED]
    assert len(set(rounds.get_group("confirm-2"))) == study.confirm_seeds
    assert not set(rounds.get_group("confirm-2")) & set(rounds.get_group("confirm"))
    assert due_round(stored) is None
    session = session_of(stored.study, tmp_path)
    assert session.has_nothing_to_train(), "nothing is left"
    names = statuses(tmp_path, tracker_of(session).parent)
    assert set(names.values()) == {"FINISHED"}
    assert (
        sum(name.startswith("search/") for name in names)
        == 2 * stored.study.trials_of("static").count
    )


def test_a_winner_that_comes_back_is_confirmed_again(tiny: Path, tmp_path: Path) -> None:
    """Finals can push out the winner of the latest round; what an earlier one showed of the present
    winner is not what the latest look is about."""
    changes = ["trials_per_arm=2", "seeds_per_point=1", "sampler=random"]
    stored = finished(load_study(tiny, changes), tmp_path)
    longer = extended(stored, 1)
    search = searched(finished(longer.study, tmp_path).folder)
    here = plan_confirmation(longer.study, search, 1, 0, 3)
    others = tuple(replace(winner, trial=99) for winner in here.winners)
    first = replace(here, trials=2)
    away = replace(here, round=2, winners=others, trials=2)
    assert due_round(replace(longer, rounds=(first,))) is None
    due = due_round(replace(longer, rounds=(first, away)))
    assert due is not None
    assert (due.round, due.winners) == (3, here.winners)
    assert not set(due.seeds) & set(first.seeds)


def test_an_arm_that_never_trains_is_said_and_wants_no_round(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["trials_per_arm=2", "seeds_per_point=1", "sampler=random"]
    study = load_study(
        tiny, [*changes, "space.parameters.learning_rate={low: 1.0e+200, high: 1.0e+201}"]
    )
    longer = extended(finished(study, tmp_path), 1)
    assert due_round(finished(longer.study, tmp_path)) is None
    assert (
        "not confirmed: at every setting, some arm has no trial that did not"
        in capsys.readouterr().err
    )


@pytest.mark.slow
def test_interrupted_while_the_extended_search_is_confirmed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Tune does not catch it: while Ray starts again."""
    study = load_study(tiny, ["trials_per_arm=2", "seeds_per_point=1", "sampler=random"])
    folder = finished(study, tmp_path).folder
    rounds: list[int] = []

    def in_this_process(session: Session) -> None:
        rounds.append(len(session.stored.rounds))
        if rounds[-1] > 1:
            raise KeyboardInterrupt
        train_all(session)

    run_without_ray(monkeypatch, in_this_process, draws=True)
    for _ in range(9):  # until a winner changes, and there is a round to interrupt
        outcome = run_study(study, tmp_path, more=4)
        if not outcome.finished:
            break
    assert rounds[-1] == 2
    assert not outcome.finished
    stored = StoredStudy.read(folder)
    (run,) = MlflowClient(folder.default_tracking_uri).search_runs(
        [stored.state["mlflow_experiment"]],
        f"tags.dynloss.study_id = '{stored.identity}'",
    )
    assert run.info.status == "KILLED"


def test_killed_while_it_is_extended(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(tiny, ["trials_per_arm=2", "seeds_per_point=1", "sampler=random"])
    stored = finished(study, tmp_path)
    before = study_status(stored.folder)
    with monkeypatch.context() as patch:
        patch.setattr(StoredStudy, "with_definition", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            extended(stored, 1)
    assert study_status(stored.folder) == before, "as if nobody had asked"
    longer = extended(stored, 1)
    assert [known.round for known in StoredStudy.read(longer.folder).rounds] == [1]
    assert longer.study.trials_of("static").count == 3


def test_what_is_unfinished_a_grid_or_absent_cannot_be_extended(tiny: Path, tmp_path: Path) -> None:
    study = load_study(tiny)
    stored = begun(study, tmp_path)
    with pytest.raises(ConfigError, match="--extend: the study is not finished; finish it first"):
        extended(stored, 2)
    assert stored_definition(stored.folder) == study
    a_map = ["mode=map", "trials_per_arm=null", "grid={period: 2, amplitude: 2, learning_rate: 2}"]
    with pytest.raises(ConfigError, match="a grid has no more trials; run a finer grid"):
        load_study(tiny, a_map).extended(2)
    with pytest.raises(ConfigError, match=r"extensions: \[0\] in mode optimize"):
        load_study(tiny, ["extensions=[0]"])
    with pytest.raises(ConfigError, match="there is no such study"):
        run_study(study, tmp_path / "elsewhere", more=2)


@pytest.mark.slow
def test_the_command_extends_a_study_and_keeps_its_networks(tiny: Path, tmp_path: Path) -> None:
    assert dynloss("run", tiny, "--out", tmp_path).returncode == 0
    before = table(tmp_path)
    done = dynloss("run", tiny, "--extend", 3, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    members = table(tmp_path)
    assert members.groupby([keys.PHASE, keys.ARM])[keys.TRIAL].nunique()["search"].tolist() == [
        9,
        9,
    ]
    kept = members.merge(before[[keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]])
    pd.testing.assert_frame_equal(kept[before.columns], before)
    again = dynloss("run", tiny, "--resume", "--out", tmp_path)
    assert again.returncode == 0, "the file without the extension is still the study's"
    pd.testing.assert_frame_equal(table(tmp_path), members)
