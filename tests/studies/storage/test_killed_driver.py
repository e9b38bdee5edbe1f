"""A driver may be killed at any moment: what its folder says of its progress is what is there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core import keys
from studies.storage.block_counts import ArmCounts, BlockCounts, counts_of_study
from studies.storage.phase_counts import PhaseCounts, counted_rows, counts_of_block
from studies.storage.status import study_status
from studies.storage.status_file import StudyStatus, kept_status
from studies.storage.study_folder import StudyFolder
from tests.imported_modules import HEAVY, imported_by
from tests.services import wait_until
from tests.studies.commands import start
from tests.studies.sessions import next_block, session_of, train_next
from tests.studies.tiny import tiny_file, tiny_study

KINDS: list[dict[str, Any]] = [
    {},
    {"searches": 2, "finalists": 2, "finalist_seeds": 1},
    {
        "early_stopping": {"rungs": 2, "min_trials": 1},
        "objective": "validation_loss",
        "budget": {"total": 60, "static_tail": 20, "evaluate_every": 5},
    },
]


def counted(folder: StudyFolder) -> StudyStatus:
    """The status as it is where nothing is kept."""
    for kept in (folder.status, folder.progress, folder.counts):
        kept.unlink(missing_ok=True)
    return study_status(folder)


def watched(patch: pytest.MonkeyPatch, folder: Path, into: Path) -> list[Path]:
    """Copies of a folder, as whoever kills its driver finds it: before and after each file that
    comes."""
    copies: list[Path] = []
    replace = Path.replace

    def copy() -> None:
        if (folder / "progress.json").exists():
            copies.append(into / f"{len(copies):04d}" / folder.name)
            shutil.copytree(folder, copies[-1])

    def replaced(self: Path, target: Path) -> Path:
        if Path(target).is_relative_to(folder) and "optuna" not in str(target):
            copy()
            done = replace(self, target)
            copy()
            return done
        return replace(self, target)

    patch.setattr(Path, "replace", replaced)
    return copies


@pytest.mark.parametrize("changes", KINDS)
def test_killed_at_any_moment(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.runner.progress._SECONDS_BETWEEN_FILES", 0.05)
    study = tiny_study(**changes)
    with monkeypatch.context() as patch:
        for blocks in (4, 3):  # the second session begins with what the first left
            session = session_of(study, tmp_path)
            copies = watched(patch, session.folder.path, tmp_path / f"copies-{blocks}")
            session.progress._file = session.folder.progress
            assert not session.has_nothing_to_train()
            for number in range(blocks):
                if number == 1:
                    session.failed(next_block(session), "OSError: the machine is gone")
                else:
                    train_next(session)
            session.delivery.close()
            patch.undo()
            assert len(copies) > 10
            for copy in copies[:: max(1, len(copies) // 25)]:
                folder = StudyFolder(copy)
                kept = kept_status(folder)
                assert kept is not None
                assert not kept.is_driven
                assert kept == kept_status(folder), "kept for the next to ask"
                assert kept == counted(folder), copy


@pytest.fixture
def killed(tmp_path: Path) -> StudyFolder:
    """The folder of a driver that was killed after its third block, with progress of the second."""
    session = session_of(tiny_study(), tmp_path)
    session.progress._file = session.folder.progress
    assert not session.has_nothing_to_train()
    session.progress._write(after=0.0)
    for _ in range(2):
        train_next(session)
    session.progress._write(after=0.0)
    session.progress._file = None
    train_next(session)
    session.delivery.close()
    return session.folder


def a_line_is_torn(folder: StudyFolder) -> None:
    folder.counts.write_bytes(folder.counts.read_bytes()[:-20])


def the_lines_are_gone(folder: StudyFolder) -> None:
    folder.counts.unlink()


def a_line_is_nonsense(folder: StudyFolder) -> None:
    folder.counts.write_text('{"block": 3}\n[]\n7\n' + folder.counts.read_text())


def a_part_is_gone(folder: StudyFolder) -> None:
    folder.parts.files("members")[0].unlink()


def a_part_is_another(folder: StudyFolder) -> None:
    first, second = folder.parts.files("members")[:2]
    table = pd.read_parquet(first)
    table[keys.DIVERGED] = True
    table.to_parquet(first)
    os.utime(second)


def a_part_comes(folder: StudyFolder) -> None:
    part = folder.parts.files("members")[0]
    shutil.copy(part, part.with_name(part.name.replace("0000", "0001")))


@pytest.mark.parametrize(
    "change",
    [
        a_line_is_torn, the_lines_are_gone, a_line_is_nonsense, a_part_is_gone, a_part_is_another,
    ],
)  # fmt: skip
def test_whatever_becomes_of_its_folder_it_is_counted_as_it_is(
    change: Callable[[StudyFolder], None], killed: StudyFolder
) -> None:
    change(killed)
    kept = kept_status(killed)
    assert kept is not None
    assert kept == counted(killed)


def its_definition_is_edited(folder: StudyFolder) -> None:
    folder.definition.write_text(folder.definition.read_text() + "\n")


def a_round_is_added(folder: StudyFolder) -> None:
    folder.confirm.write_text('{"rounds": []}')


def a_part_is_damaged(folder: StudyFolder) -> None:
    part = folder.parts.files("members")[0]
    part.write_bytes(part.read_bytes()[:-40])


def a_part_is_of_no_block(folder: StudyFolder) -> None:
    (folder.parts_folder / "x.members.parquet").write_bytes(b"")


def its_progress_is_torn(folder: StudyFolder) -> None:
    folder.progress.write_bytes(folder.progress.read_bytes()[:-40])


def its_progress_is_of_an_earlier_version(folder: StudyFolder) -> None:
    content = json.loads(folder.progress.read_text())
    del content["times"]
    folder.progress.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        its_definition_is_edited, a_round_is_added, a_part_is_damaged, a_part_is_of_no_block,
        its_progress_is_torn, its_progress_is_of_an_earlier_version,
    ],
)  # fmt: skip
def test_what_it_cannot_say_is_counted_in_full(
    change: Callable[[StudyFolder], None], killed: StudyFolder
) -> None:
    change(killed)
    assert kept_status(killed) is None


def test_parts_that_were_gathered_and_deleted_are_counted_in_full(killed: StudyFolder) -> None:
    killed.tables.mkdir()
    killed.parts.gather("members").to_parquet(killed.tables / "members.parquet")
    shutil.rmtree(killed.parts_folder)
    assert kept_status(killed) is None


def test_a_line_after_a_torn_one_counts(killed: StudyFolder) -> None:
    a_line_is_torn(killed)
    torn = killed.counts.read_text().splitlines()[-1]
    part = next(p for p in killed.parts.files("members") if killed.parts.block_of(p) in torn)
    rows = counted_rows(pd.read_parquet(part), keys.VALIDATION_ACCURACY)
    counts = counts_of_block(rows, keys.VALIDATION_ACCURACY)
    BlockCounts(killed).add(killed.parts.block_of(part), counts)
    lines = killed.counts.read_text().splitlines()
    assert json.loads(lines[-1])["block"] == killed.parts.block_of(part)
    assert kept_status(killed) == counted(killed)


def test_to_ask_imports_no_torch_and_reads_what_has_no_line(killed: StudyFolder) -> None:
    killed.counts.write_text("".join(killed.counts.read_text().splitlines(keepends=True)[:2]))
    modules, said = imported_by("status", "tiny", "--out", str(killed.path.parent))
    assert not modules & HEAVY
    assert "no driver is running" in said


@pytest.mark.slow
def test_a_driver_that_is_killed_for_good(tmp_path: Path) -> None:
    budget = {"total": 20_000, "static_tail": 0, "evaluate_every": 100}
    changes = {"trials_per_arm": 40, "sampler": "random", "budget": budget}
    file = tiny_file(tmp_path, **changes, backend="inline", storage={"tracker": "none"})
    folder = StudyFolder(tmp_path / "out" / "tiny")
    driver = start("run", file, "--out", tmp_path / "out")
    wait_until(lambda: len(folder.parts.files("members")) >= 4, driver)
    driver.kill()
    driver.communicate()
    kept = kept_status(folder)
    assert kept is not None
    assert kept.trained >= 16
    assert kept == counted(folder)


rows = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.one_of(st.floats(0, 1), st.just(float("nan"))),
        st.booleans(),
        st.sampled_from([-1, 40]),
    ),
    max_size=12,
)


@given(blocks=st.lists(rows, max_size=4), lower=st.booleans())
def test_blocks_add_up_to_what_a_driver_counts(blocks: list[Any], lower: bool) -> None:
    objective = keys.VALIDATION_LOSS if lower else keys.VALIDATION_ACCURACY
    columns = [keys.TRIAL, objective, keys.DIVERGED, keys.STOPPED_STEP]
    whole, total = PhaseCounts(tiny_study(objective=objective)), ArmCounts()
    for index, block in enumerate(blocks):
        table = pd.DataFrame(block, columns=columns)
        table[keys.TRIAL] += 10 * index  # a trial is in one block
        table[keys.PHASE], table[keys.ARM] = keys.SEARCH, keys.STATIC
        of_block = counted_rows(table, objective)
        whole.add(of_block)
        total = total.plus(counts_of_block(of_block, objective), objective)
    (status,) = (s for s in whole.phases() if (s.phase, s.arm) == (keys.SEARCH, keys.STATIC))
    assert (total.trials, total.diverged, total.stopped, total.best) == (
        *(status.done, status.diverged, status.stopped),
        status.best,
    )
    assert total.networks == whole.networks


def test_a_folder_without_parts_has_no_counts(tmp_path: Path) -> None:
    assert counts_of_study(StudyFolder(tmp_path), keys.VALIDATION_LOSS) == {}
