"""A study begun before `dynloss_core` and `studies` had their folders goes on after it.

The archive holds one of which four blocks were trained at commit be7dcfa, less MLflow's store.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from dynloss_core import keys
from studies.storage.study_folder import StudyFolder
from tests.studies.commands import dynloss_here
from tests.studies.sessions import run_without_ray
from tests.studies.tables import comparable

ARCHIVE = Path(__file__).parent / "begun_before_the_folders.tar.xz"


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    run_without_ray(monkeypatch)


@pytest.mark.slow
def test_a_study_begun_before_the_folders_goes_on(without_ray: None, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(before, filter="data")
    file = before / "tiny.yaml"
    archived = members_in(before)
    assert dynloss_here("status", "tiny", "--out", before).returncode == 0
    stopped = dynloss_here("run", file, "--resume", "--out", before)
    assert stopped.returncode == 2
    assert "was trained with different code" in stopped.stderr
    resumed = dynloss_here("run", file, "--resume", "--code-changed", "--out", before)
    assert resumed.returncode == 0, resumed.stderr
    assert dynloss_here("run", file, "--out", after).returncode == 0

    old, new = members_in(before), members_in(after)
    assert len(old) == 33
    assert 0 < len(archived) < 33
    kept = old.index.isin(archived.index)
    columns = archived.columns.intersection(old.columns)
    assert_frame_equal(old.loc[kept, columns], archived[columns])
    assert_frame_equal(old[~kept], new[~kept], rtol=1e-9)
    # in float32, by an engine that added up in another order when the archive was made
    assert_frame_equal(old[kept], new[kept], rtol=1e-6)


def members_in(out: Path) -> pd.DataFrame:
    """The networks of the study by what tells them apart, in one order."""
    members = comparable(StudyFolder(out / "tiny").parts.gather("members"))
    members = members.drop(columns=keys.ORIGIN, errors="ignore")
    return members.set_index([keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]).sort_index()
