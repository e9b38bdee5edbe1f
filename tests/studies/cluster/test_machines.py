"""Where blocks go: machines that join while a study runs are used, blocks share a GPU, and short ones
are trained side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from studies.storage.status import study_status
from studies.storage.study_folder import StudyFolder
from tests.machines import machines, needs_namespaces
from tests.services import SECONDS, wait_until
from tests.studies.commands import command

pytestmark = pytest.mark.slow


@needs_namespaces
def test_a_machine_that_joins_later_trains(tiny: Path, tmp_path: Path) -> None:
    """Each machine has room for one block: two at work are on two machines. The study is far longer
    than a machine takes to join, however fast this one is, and is stopped once that is seen."""
    folder = StudyFolder(tmp_path / "out" / "tiny")
    endless = ("--set", "budget.total=40000000", "--set", "budget.evaluate_every=200000")
    with machines(tmp_path / "machines") as cluster:
        cluster.join(cpus=1)
        words = ("run", tiny, "--out", tmp_path / "out", "--address", cluster.address, *endless)
        driver = subprocess.Popen(
            cluster.inside(command(*words)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **cluster.environment},
        )

        def at_work() -> int:
            assert driver.poll() is None, "it ended by itself"
            if not folder.progress.exists():
                return 0
            return len(study_status(folder).blocks)

        try:
            wait_until(lambda: at_work() == 1)
            time.sleep(5)
            assert at_work() == 1, "there is room for no more"
            cluster.join(cpus=1)
            wait_until(lambda: at_work() == 2)
        finally:
            driver.send_signal(signal.SIGINT)
            said, _ = driver.communicate(timeout=SECONDS)
        assert driver.returncode == 130, said


def placed(folder: Path, kind: str) -> list[dict[str, Any]]:
    """What the blocks of a study left that was run on a Ray of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.studies.cluster.placement", str(folder), kind],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(path.read_text()) for path in (folder / "scale").glob("search-*.json")]


def test_four_blocks_share_a_gpu(tmp_path: Path) -> None:
    found = placed(tmp_path, "quarters")
    assert len(found) == 14
    assert {tuple(each["gpus"]) for each in found} == {(0,)}
    assert {each["visible"] for each in found} == {"0"}
    at_once = [
        sum(each["began"] <= other["began"] < each["ended"] for each in found) for other in found
    ]
    assert max(at_once) == 4


def test_blocks_shorter_than_the_start_of_a_process_are_trained_side_by_side(
    tmp_path: Path,
) -> None:
    found = placed(tmp_path, "short")
    assert len(found) == 52
    shares = Counter(each["process"] for each in found)
    assert len(shares) == 2
    assert min(shares.values()) >= 10, "both went on training, once they had started"
