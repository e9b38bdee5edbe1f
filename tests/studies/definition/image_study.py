"""A study of images, and workers that read them from the folder that the driver was given."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dynloss_core.data import FashionMNISTConfig, image_folders, images
from tests.services import SECONDS
from tests.studies.commands import command
from tests.studies.tables import table
from tests.studies.tiny import MAP, tiny_file


def written(folder: Path, name: str) -> Path:
    """A file of a study of two networks that learn from a hundred images."""
    return tiny_file(
        folder,
        **MAP,
        data={"name": name, "validation": 100, "train_samples": 100, "test_samples": 50},
        training={"batch_size": 50},
        grid={"period": 1, "amplitude": 1, "learning_rate": 1},
        arms=["dynamical"],
    )


def run_where_only_the_data_dir_is_sound(folder: Path, *arguments: str) -> None:
    """Run a study with `--data-dir` while the user's cache holds damaged files.

    A worker that were not told the folder would read the cache, and refuse.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "data"))
        patch.setenv(image_folders.DATA_FOLDER, "")
        images._load.cache_clear()
        FashionMNISTConfig().load(0)  # unpacks them there
    broken = folder / "cache" / "dynloss" / "FashionMNIST" / "raw"
    broken.mkdir(parents=True)
    for name in FashionMNISTConfig._CONTENT:
        (broken / name).write_bytes(b"broken")
    out = folder / "out"
    words = command(
        "run", written(folder, "fashion_mnist"), "--out", out, "--data-dir", "data/dynloss",
        *arguments,
    )  # fmt: skip
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        words, env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    members = table(out)
    assert len(members) == 2
    assert members["train_samples"].tolist() == [100, 100]
    assert str(folder) not in (out / "tiny" / "study.yaml").read_text()
