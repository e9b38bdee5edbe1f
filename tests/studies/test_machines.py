"""Where blocks go: machines that join while a study runs are used, and blocks share a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studies.folder import StudyFolder
from tests.machines import machines, needs_namespaces
from tests.services import wait_until
from tests.studies.commands import SECONDS, command

pytestmark = pytest.mark.slow


@needs_namespaces
def test_a_machine_that_joins_later_trains(tiny: Path, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "out" / "tiny")
    long = ("--set", "budget.total=400000", "--set", "budget.evaluate_every=2000")
    with machines(tmp_path / "machines") as cluster:
        cluster.join(cpus=1)
        words = command("run", tiny, "--out", tmp_path / "out", "--address", cluster.address, *long)
        driver = subprocess.Popen(
            cluster.inside(words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **cluster.environment},
        )

        def at_work() -> int:
            if not folder.progress.exists():
                return 0
            return len(json.loads(folder.progress.read_text())["blocks"])

        wait_until(lambda: at_work() == 1)
        cluster.join(cpus=1)
        wait_until(lambda: at_work() == 2 or driver.poll() is not None)
        assert driver.poll() is None, driver.communicate()[0]
        said, _ = driver.communicate(timeout=SECONDS)
        assert driver.returncode == 0, said
    assert len(folder.gather("members")) == 30


def test_four_blocks_share_a_gpu(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.studies.placement", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(path.read_text()) for path in (tmp_path / "scale").glob("search-*.json")]
    assert len(found) == 14
    assert {tuple(each["gpus"]) for each in found} == {(0,)}
    assert {each["visible"] for each in found} == {"0"}
    at_once = [
        sum(each["began"] <= other["began"] < each["ended"] for each in found) for other in found
    ]
    assert max(at_once) == 4
