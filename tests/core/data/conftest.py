from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dynloss_core.data import CIFAR10Config, image_folders, images
from tests.core.data.image_files import BATCHES, IN_A_BATCH, TRAINING


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the user's data, nor another test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(image_folders.DATA_FOLDER, "")
    images._load.cache_clear()
    yield
    images._load.cache_clear()


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 600 + 120 random images as CIFAR-10 lays out its own, checksums included."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "data"
    batches = folder / CIFAR10.base_folder
    batches.mkdir(parents=True)
    draws = np.random.default_rng(0)

    def write(name: str, content: dict[str, object]) -> str:
        path = batches / name
        path.write_bytes(pickle.dumps(content, protocol=2))
        return hashlib.md5(path.read_bytes()).hexdigest()

    def batch(name: str, label: str) -> list[str]:
        content = {
            "batch_label": label,
            "labels": draws.permutation(np.arange(IN_A_BATCH) % 10).tolist(),
            "data": draws.integers(0, 256, (IN_A_BATCH, 3 * 32 * 32), dtype=np.uint8),
            "filenames": [f"{label}_{i}.png" for i in range(IN_A_BATCH)],
        }
        return [name, write(name, content)]

    names = [f"data_batch_{i + 1}" for i in range(BATCHES)]
    monkeypatch.setattr(CIFAR10, "train_list", [batch(name, name) for name in names])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", "testing batch 1 of 1")])
    meta = {"num_cases_per_batch": IN_A_BATCH, "num_vis": 3072, "label_names": list("abcdefghij")}
    md5 = write("batches.meta", meta)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5})
    monkeypatch.setattr(CIFAR10Config, "TRAINING", TRAINING)
    monkeypatch.setattr(CIFAR10Config, "TEST", IN_A_BATCH)
    return folder
