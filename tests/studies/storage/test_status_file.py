"""How far a study is, as its folder keeps it: always what would be counted, and cheap to ask."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core import keys
from studies.definition.early_stopping import is_stopped
from studies.runner.run_study import confirm_study, run_study
from studies.storage.phase_counts import PhaseCounts, counted_rows
from studies.storage.status import study_status
from studies.storage.status_file import PhaseStatus, StudyStatus, keep_status, kept_status
from studies.storage.study_folder import StudyFolder
from tests.imported_modules import HEAVY, imported_by
from tests.studies.sessions import next_block, run_without_ray, session_of, train, train_next
from tests.studies.tiny import tiny_study


def counted(folder: StudyFolder) -> StudyStatus:
    """The status as it is where none is kept."""
    folder.status.unlink(missing_ok=True)
    held = folder.progress.read_bytes() if folder.progress.exists() else None
    folder.progress.unlink(missing_ok=True)
    status = study_status(folder)
    folder.status.unlink(missing_ok=True)
    if held is not None:
        folder.progress.write_bytes(held)
    return status


@pytest.mark.parametrize("searches", [1, 2])
def test_what_a_driver_counts_is_what_its_folder_holds(searches: int, tmp_path: Path) -> None:
    study = tiny_study(searches=searches, finalists=2, finalist_seeds=1)
    session = session_of(study, tmp_path)
    for number in range(5):
        if number == 2:
            session.failed(next_block(session), "OSError: the machine is gone")
        else:
            train_next(session)
        assert session.status() == counted(session.folder)
    session.delivery.close()
    resumed = session_of(study, tmp_path)
    assert not resumed.has_nothing_to_train()
    assert resumed.status() == counted(resumed.folder), "what was recorded counts"
    train_next(resumed)
    assert resumed.status() == counted(resumed.folder)
    resumed.delivery.close()


@pytest.mark.slow
def test_it_is_kept_at_the_end_and_counted_again_after_any_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_without_ray(monkeypatch)
    folder = run_study(tiny_study(), tmp_path).folder
    kept = kept_status(folder)
    assert kept is not None
    assert kept.trained == kept.networks
    assert kept.summary == str(folder.summary)
    assert kept == counted(folder)
    confirm_study(folder, seeds=2)
    later = kept_status(folder)
    assert later is not None
    assert later.networks > kept.networks
    assert later == counted(folder)
    study_status(folder)
    for change in CHANGES:
        assert kept_status(folder) is not None
        change(folder)
        assert kept_status(folder) is None
        keep_status(folder, kept)


def a_part_is_added(folder: StudyFolder) -> None:
    (folder.parts_folder / "x.members.parquet").write_bytes(b"")


def a_part_is_lost(folder: StudyFolder) -> None:
    (folder.parts_folder / "x.members.parquet").unlink()


def its_definition_is_edited(folder: StudyFolder) -> None:
    folder.definition.write_text(folder.definition.read_text() + "\n")


def a_round_is_added(folder: StudyFolder) -> None:
    folder.confirm.write_text(folder.confirm.read_text())


def a_plugin_comes(folder: StudyFolder) -> None:
    folder.plugins.mkdir()
    (folder.plugins / "own.py").write_text("")


def a_plugin_is_edited(folder: StudyFolder) -> None:
    (folder.plugins / "own.py").write_text("x = 1")


def it_is_damaged(folder: StudyFolder) -> None:
    folder.status.write_bytes(folder.status.read_bytes()[:-40])


def it_is_of_another_version(folder: StudyFolder) -> None:
    content = json.loads(folder.status.read_text())
    content["status"]["colour"] = "blue"
    folder.status.write_text(json.dumps(content))


def it_is_no_mapping(folder: StudyFolder) -> None:
    folder.status.write_text("[3]")


CHANGES: list[Callable[[StudyFolder], None]] = [
    a_part_is_added, a_part_is_lost, its_definition_is_edited, a_round_is_added, a_plugin_comes,
    a_plugin_is_edited, it_is_damaged, it_is_of_another_version, it_is_no_mapping,
]  # fmt: skip


def test_what_changes_while_it_is_counted_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(tiny_study(), tmp_path)
    train_next(session)
    folder, status = session.folder, session.status()

    def another_part(_: float) -> None:
        a_part_is_added(folder)

    monkeypatch.setattr("studies.storage.status_file.time.sleep", another_part)
    monkeypatch.setattr("studies.storage.status_file._CLOCK", 10**15)
    keep_status(folder, status)
    assert kept_status(folder) is None
    session.delivery.close()


def test_a_clock_that_is_ahead_keeps_nobody_waiting(tmp_path: Path) -> None:
    """As of a file server: then nothing tells what is written from now on."""
    session = session_of(tiny_study(), tmp_path)
    train_next(session)
    later = time.time() + 3600
    os.utime(session.folder.parts_folder, (later, later))
    started = time.monotonic()
    keep_status(session.folder, session.status())
    assert time.monotonic() - started < 10
    assert kept_status(session.folder) is None
    session.delivery.close()


def test_a_running_driver_is_asked_by_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.runner.progress._SECONDS_BETWEEN_FILES", 0.0)
    session = session_of(tiny_study(), tmp_path)
    session.progress._file = session.folder.progress
    with session.folder.locked():
        assert kept_status(session.folder) is None, "nothing is written yet"
        train(session, next_block(session))
        kept = kept_status(session.folder)
        assert kept is not None
        assert kept.is_driven
        assert kept.phases == counted(session.folder).phases
        assert kept.machine
    session.delivery.close()


def test_of_what_is_kept_the_later_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver's file says what is at work, but may be a few seconds old; where all is trained, the
    other says so."""
    monkeypatch.setattr("studies.runner.progress._SECONDS_BETWEEN_FILES", 0.0)
    session = session_of(tiny_study(), tmp_path)
    session.progress._file = session.folder.progress
    with session.folder.locked():
        train(session, next_block(session))
        session.started(next_block(session))
        keep_status(session.folder, session.status())
        kept = kept_status(session.folder)
        assert kept is not None
        assert len(kept.blocks) == 1, "as many networks, and what is at work"
        session.progress._file = None  # from now on, nothing is written there
        train(session, next_block(session))
        older = kept_status(session.folder)
        assert older == kept
        keep_status(session.folder, session.status())
        later = kept_status(session.folder)
        assert later is not None
        assert (later.trained > kept.trained, later.is_driven) == (True, True)
        assert later.machine == kept.machine
    session.delivery.close()


def test_to_ask_imports_neither_torch_nor_pandas(tmp_path: Path) -> None:
    session = session_of(tiny_study(), tmp_path)
    train_next(session)
    session.delivery.close()
    study_status(session.folder)
    modules, said = imported_by("status", "tiny", "--out", str(tmp_path))
    assert not modules & (HEAVY | {"numpy"})
    assert "no driver is running" in said


rows = st.lists(
    st.tuples(
        st.sampled_from(["search", "search.2", "confirm", "confirm.2"]),
        st.sampled_from(["dynamical", "static"]),
        st.integers(0, 3),
        st.one_of(st.floats(0, 1), st.just(float("nan"))),
        st.booleans(),
        st.sampled_from([-1, 40]),
    ),
    max_size=30,
)


@given(rows=rows, cuts=st.lists(st.integers(0, 30), max_size=3), lower=st.booleans())
def test_counts_are_those_of_the_whole_table(
    rows: list[tuple[Any, ...]], cuts: list[int], lower: bool
) -> None:
    objective = keys.VALIDATION_LOSS if lower else keys.VALIDATION_ACCURACY
    study = tiny_study(searches=2, objective=objective)
    columns = (keys.PHASE, keys.ARM, keys.TRIAL, objective, keys.DIVERGED, keys.STOPPED_STEP)
    table = pd.DataFrame(rows, columns=list(columns))
    counts = PhaseCounts(study)
    for part in np.split(np.arange(len(table)), sorted(cuts)):
        counts.add(counted_rows(table.iloc[part], objective))
    assert counts.networks == len(table)
    for status in counts.phases():
        assert status == status_from_table(status, table, objective, lower=lower)


def status_from_table(
    status: PhaseStatus, table: pd.DataFrame, objective: str, *, lower: bool
) -> PhaseStatus:
    """The same entry from the members table at once."""
    own = table[(table[keys.ARM] == status.arm) & (table[keys.PHASE] == status.phase)]
    if status.unit != "trials":
        return PhaseStatus(status.phase, status.arm, len(own), status.wanted, status.unit)
    trials = own.assign(stopped=is_stopped(own)).groupby(keys.TRIAL)
    diverged, stopped = trials[keys.DIVERGED].any(), trials["stopped"].any()
    means = trials[objective].mean()[~diverged & ~stopped].dropna()
    best = None if means.empty else float(means.min() if lower else means.max())
    return PhaseStatus(
        *(status.phase, status.arm, len(diverged), status.wanted, "trials"),
        diverged=int(diverged.sum()),
        stopped=int(stopped.sum()),
        best=best if best is None else pytest.approx(best),  # type: ignore[arg-type]
    )
