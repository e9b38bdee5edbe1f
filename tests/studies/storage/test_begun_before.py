"""A study begun before `dynloss_core` and `studies` had their folders goes on after it.

The archive holds one of which four blocks were trained at commit be7dcfa, less MLflow's store.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pandas as pd
import pytest

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
    assert dynloss_here("status", "tiny", "--out", before).returncode == 0
    stopped = dynloss_here("run", file, "--resume", "--out", before)
    assert stopped.returncode == 2
    assert "was trained with different code" in stopped.stderr
    resumed = dynloss_here("run", file, "--resume", "--code-changed", "--out", before)
    assert resumed.returncode == 0, resumed.stderr
    assert dynloss_here("run", file, "--out", after).returncode == 0

    old, new = (
        comparable(StudyFolder(out / "tiny").parts.gather("members")).drop(
            columns=keys.ORIGIN, errors="ignore"
        )
        for out in (before, after)
    )
    assert len(old) == 33
    # in float32, by an engine that added up in another order when the archive was made
    pd.testing.assert_frame_equal(old, new, rtol=1e-6)
