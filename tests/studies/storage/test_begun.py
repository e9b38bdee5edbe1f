"""What a study was begun as, where it was begun, and by whom: nobody changes that unnoticed."""

from __future__ import annotations

import multiprocessing
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from dynloss_core.config import ConfigError
from studies.definition.study_files import load_study
from studies.runner.run_study import sync_study
from studies.storage.place import located
from studies.storage.stored_study import StoredStudy, stored_definition
from studies.storage.study_folder import StudyFolder
from tests.studies.commands import dynloss_here
from tests.studies.sessions import begun_folder, session_of, train_next
from tests.studies.tiny import tiny_study

pytestmark = pytest.mark.usefixtures("undrawn")


def begun(tiny: Path, out: Path, *overrides: str) -> StudyFolder:
    """A study with a block trained, and delivered."""
    session = session_of(load_study(tiny, overrides), out)
    located(session.stored)
    train_next(session)
    session.delivery.ask(lambda tracker: None)
    session.delivery.close()
    return session.folder


def edit(folder: StudyFolder, **changes: Any) -> None:
    document = yaml.safe_load(folder.definition.read_text())
    for key, value in changes.items():
        *parents, leaf = key.split("__")
        owner = document
        for parent in parents:
            owner = owner[parent]
        owner[leaf] = value
    folder.definition.write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget__total": 30}, "budget.total is 60 when the study was begun and 30 here now"),
        ({"equivalence_margin": 0.5}, "equivalence_margin is None when"),
        ({"seed": 7}, "seed is 0 when"),
        ({"objective": "validation_loss"}, "objective is 'validation_accuracy' when"),
        ({"confirm_seeds": 9}, "confirm_seeds is 3 when"),
        ({"extensions": [4]}, "extensions is [] when"),
        ({"model__width": 7, "engine": "autograd"}, "model.width is 6 when"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else "",
)
@pytest.mark.parametrize(
    "command",
    [["status"], ["analyse"], ["sync"], ["confirm"], ["run", "--resume"], ["stop"]],
)
def test_an_edited_definition_is_refused_with_both_values(
    change: dict[str, Any], said: str, command: list[str], tiny: Path, tmp_path: Path
) -> None:
    folder = begun_folder(load_study(tiny), tmp_path)
    edit(folder, **change)
    name, *options = command
    wanted = str(tiny) if name == "run" else "tiny"
    done = dynloss_here(name, wanted, *options, "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"dynloss: {folder.definition}: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_changes_no_result_may_be_edited(tmp_path: Path) -> None:
    folder = begun_folder(tiny_study(), tmp_path)
    edit(folder, description="Why?", resources__cpu=2, storage__experiment="mine")
    edited = stored_definition(folder)
    assert (edited.description, edited.resources.cpu) == ("Why?", 2)
    assert edited.storage.experiment == "mine"


def test_a_lost_definition_is_that_of_the_beginning(tiny: Path, tmp_path: Path) -> None:
    folder = begun(tiny, tmp_path)
    study = stored_definition(folder)
    folder.definition.unlink()
    assert stored_definition(folder) == study
    folder.definition.write_text("budget: [")
    with pytest.raises(ConfigError, match=r"not valid YAML.*; delete it: it is rewritten"):
        stored_definition(folder)


def test_a_moved_folder_goes_on_with_the_store_beside_it(tiny: Path, tmp_path: Path) -> None:
    """Moved alone it brings its trials to the store there; moved with its store, to the same run."""
    folder = begun(tiny, tmp_path / "a")
    (tmp_path / "b").mkdir()
    alone = StudyFolder(tmp_path / "b" / "tiny")
    shutil.copytree(folder.path, alone.path)
    shutil.move(tmp_path / "a", tmp_path / "c")
    moved = StudyFolder(tmp_path / "c" / "tiny")
    for there in (alone, moved):
        assert (
            StoredStudy.read(there).tracking_uri == f"sqlite:///{there.path.parent / 'mlflow.db'}"
        )
        sync_study(there)
        client = MlflowClient(there.default_tracking_uri)
        experiment = client.get_experiment_by_name("dynloss")
        assert experiment is not None
        wanted = (there.path.parent / "artifacts").as_uri()
        assert experiment.artifact_location == wanted
        runs = client.search_runs([experiment.experiment_id])
        assert all(run.info.artifact_uri.startswith(f"{wanted}/") for run in runs)
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        assert [run.data.tags["dynloss.study_id"] for run in parents] == [
            StoredStudy.read(there).identity
        ]
        artifacts = {each.path for each in client.list_artifacts(parents[0].info.run_id)}
        assert {"study.yaml", "summary.json", "report.html"} <= artifacts
    assert StoredStudy.read(moved).identity == StoredStudy.read(alone).identity, (
        "neither can reach the other's store"
    )
    assert not (tmp_path / "a").exists()


def test_a_copy_never_writes_to_its_original(tiny: Path, tmp_path: Path) -> None:
    """Both reach the same store: the copy gets runs of its own there."""
    store = f"storage.tracking_uri=sqlite:///{tmp_path / 'shared.db'}"
    session = session_of(load_study(tiny, [store]), tmp_path / "a")
    session.delivery.close()
    original = session.folder
    located(session.stored)
    train_next(session)
    sync_study(original)
    client = MlflowClient(f"sqlite:///{tmp_path / 'shared.db'}")
    before = {run.info.run_id: run for run in client.search_runs(["1"])}
    copy = StudyFolder(tmp_path / "b" / "tiny")
    shutil.copytree(original.path, copy.path)
    sync_study(copy)
    after = {run.info.run_id: run for run in client.search_runs(["1"])}
    assert StoredStudy.read(copy).identity != StoredStudy.read(original).identity
    assert len(after) == 2 * len(before)
    for identifier, run in before.items():
        assert after[identifier].to_dictionary() == run.to_dictionary(), (
            "the original's are as before"
        )
    sync_study(copy)
    assert len(client.search_runs(["1"])) == len(after), "once"


def test_a_copy_beside_its_original_is_another_study(tiny: Path, tmp_path: Path) -> None:
    original = begun(tiny, tmp_path)
    copy = StudyFolder(tmp_path / "copy")
    shutil.copytree(original.path, copy.path)
    with copy.locked():
        located(StoredStudy.read(copy))
    assert StoredStudy.read(copy).identity != StoredStudy.read(original).identity


def test_a_folder_of_a_version_that_kept_an_address_finds_its_store(
    tiny: Path, tmp_path: Path
) -> None:
    folder = begun(tiny, tmp_path / "a")
    state = {key: value for key, value in folder.state().items() if key != "place"}
    (folder.path / "state.json").unlink()
    folder.write_state({**state, "tracking_uri": folder.default_tracking_uri})
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = StudyFolder(tmp_path / "b" / "tiny")
    for _ in range(2):
        assert StoredStudy.read(moved).tracking_uri == moved.default_tracking_uri
        with moved.locked():
            located(StoredStudy.read(moved))


def test_a_relative_store_is_made_absolute_when_it_is_given(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = load_study(tiny, ["storage.tracking_uri=sqlite:///here.db"])
    assert study.storage.tracking_uri == f"sqlite:///{tmp_path / 'here.db'}"


def test_a_driver_that_took_its_start_back_leaves_the_next_ones_folder_alone(
    tmp_path: Path,
) -> None:
    study = tiny_study()
    first, second = StudyFolder.of(study, tmp_path), StudyFolder.of(study, tmp_path)
    with ExitStack() as held_by_first, ExitStack() as held_by_second:
        held_by_first.enter_context(first.locked())
        StoredStudy.begin(first, study, resume=False)
        first.discard()
        held_by_second.enter_context(second.locked())
        held_by_first.close()
        assert second.is_locked()
        assert StoredStudy.begin(second, study, resume=False).is_new
    assert stored_definition(second) == study


AT_ONCE = 4


def _start(path: str, out: str, rounds: int, barrier: Any, answers: Any) -> None:
    """Start a study again and again, each time at the same moment as others do."""
    study = load_study(path)
    for index in range(rounds):
        folder = StudyFolder.of(study, Path(out) / str(index))
        barrier.wait()
        try:
            with folder.locked():
                stored = StoredStudy.begin(folder, study, resume=False)
                if index % 5 == 0:  # a start that fails takes back what it began
                    folder.discard()
                    answers.put((index, "discarded", ""))
                else:
                    fresh = "fresh" if stored.is_new else "old"
                    answers.put((index, fresh, stored.identity))
        except ConfigError as error:
            answers.put((index, "refused", error.problem))


@pytest.mark.parametrize("starts", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_of_drivers_that_start_at_once_one_begins_the_study(
    starts: int, tiny: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(AT_ONCE, timeout=60), context.Queue()
    rounds = starts // AT_ONCE
    arguments = (str(tiny), str(tmp_path), rounds, barrier, answers)
    processes = [context.Process(target=_start, args=arguments) for _ in range(AT_ONCE)]
    for process in processes:
        process.start()
    said = [answers.get(timeout=120) for _ in range(starts)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    for index in range(rounds):
        folder = StudyFolder(tmp_path / str(index) / "tiny")
        of_round = [(kind, what) for number, kind, what in said if number == index]
        begun_by = [what for kind, what in of_round if kind == "fresh"]
        refusals = {what for kind, what in of_round if kind == "refused"}
        assert refusals <= {"another process is running this study", "holds this study already"}
        if index % 5 == 0:
            assert not folder.path.exists()
        else:
            assert begun_by == [StoredStudy.read(folder).identity]
            assert stored_definition(folder) == load_study(tiny)
