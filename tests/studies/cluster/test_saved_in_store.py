"""Blocks in flight are saved in the object store of their study, by whatever process trains them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from studies.object_store import opened
from studies.out_folder import WORK_FOLDER
from tests.s3_server import needs_s3, started_s3
from tests.services import SECONDS, wait_until
from tests.studies.commands import command
from tests.studies.tiny import MAP, tiny_file

LONG = {
    "grid": {"period": 1, "amplitude": 1, "learning_rate": 2},
    "budget": {"total": 100_000, "static_tail": 20_000, "evaluate_every": 1_000},
    "engine": "batched",
    "block_size": 1,
}


@needs_s3
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ray", "processes"])
def test_a_block_goes_on_on_another_machine(backend: str, tmp_path: Path) -> None:
    study = tiny_file(tmp_path, **MAP, **LONG)
    with started_s3() as bucket:
        out, store = f"{bucket}/{backend}", opened(f"{bucket}/{backend}/tiny")

        def drive(machine: str, *options: str) -> subprocess.Popen[str]:
            words = command("run", study, "--out", out, "--backend", backend, *options)
            with (tmp_path / machine).open("w") as said:
                return subprocess.Popen(
                    words,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,
                    env={**os.environ, WORK_FOLDER: str(tmp_path / f"{machine}-disk")},
                )

        def trained() -> float:
            try:
                return float(json.loads(store.read("progress.json"))["status"]["trained"])
            except FileNotFoundError:
                return 0.0

        first = drive("first")
        wait_until(lambda: trained() > 0.2, first)
        first.send_signal(signal.SIGINT)
        first.wait(timeout=SECONDS)
        said = (tmp_path / "first").read_text()
        assert "stopped; everything so far is kept" in said, said
        saved = store.list("checkpoints/")
        assert saved
        second = drive("second", "--resume")
        assert second.wait(timeout=SECONDS) == 0, (tmp_path / "second").read_text()
        assert store.list("checkpoints/") == {}
        assert len(store.list("parts/")) == 2 * 4
