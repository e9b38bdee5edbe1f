"""Fashion-MNIST on its real files, CIFAR-10 on a small archive in its own format."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dynloss_core.config import ConfigError, build, to_dict
from dynloss_core.data import (
    CIFAR10Config,
    DigitsConfig,
    FashionMNISTConfig,
    Labelled,
    SpiralsConfig,
    Splits,
    attainable_accuracy,
    image_folders,
    images,
    use_data_folder,
)
from dynloss_core.data.splits import disjoint
from dynloss_core.models import Myrtle5Config
from dynloss_core.training import Problem, choose_engine
from tests.core.data.image_files import BATCHES, DEBIAN, IN_A_BATCH, TRAINING, needs_fashion_mnist

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("own_folders")


# --- CIFAR-10 -------------------------------------------------------------------------------------


def on_disk(folder: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3, 32, 32) and labels as the files have them, red before green before blue."""
    batches = [pickle.loads((folder / "cifar-10-batches-py" / n).read_bytes()) for n in names]
    pixels = np.concatenate([b["data"] for b in batches]).reshape(-1, 3, 32, 32)
    return pixels, np.concatenate([b["labels"] for b in batches])


def places(part: Labelled, pixels: np.ndarray, labels: np.ndarray) -> list[int]:
    """Where the samples of a part stand in the files; fails if a sample is not there."""
    at = {row.tobytes(): i for i, row in enumerate(pixels)}
    assert len(at) == len(pixels)
    found = [at[row.tobytes()] for row in part.inputs.numpy()]
    assert part.targets.tolist() == labels[found].tolist()
    return found


def test_cifar10_keeps_every_pixel_and_label_and_mixes_no_parts(cifar: Path) -> None:
    use_data_folder(cifar)
    splits = CIFAR10Config(validation=100).load(0)
    assert splits.input_shape == (3, 32, 32)
    pixels, labels = on_disk(cifar, [f"data_batch_{i + 1}" for i in range(BATCHES)])
    train, validation = (places(p, pixels, labels) for p in (splits.train, splits.validation))
    assert sorted(train + validation) == list(range(TRAINING))
    assert sorted(places(splits.test, *on_disk(cifar, ["test_batch"]))) == list(range(IN_A_BATCH))
    for part in (splits.train, splits.validation, splits.test):
        assert part.inputs.dtype == torch.uint8
        assert part.inputs.is_contiguous()
        assert part.scale == splits.train.scale
        assert torch.bincount(part.targets).tolist() == [len(part) // 10] * 10


def test_the_scale_is_that_of_the_images_trained_on(cifar: Path) -> None:
    use_data_folder(cifar)
    seen = CIFAR10Config(validation=100, train_samples=70).load(0).to(torch.float64, "cpu").train
    mean, deviation = seen.inputs.mean((0, 2, 3)), seen.inputs.std((0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(deviation, torch.ones(3).double(), atol=1e-12, rtol=0)


def test_a_reduced_study_keeps_validation_and_shares(cifar: Path) -> None:
    use_data_folder(cifar)
    whole = CIFAR10Config(validation=100).load(0)
    config = CIFAR10Config(validation=100, train_samples=73, test_samples=55)
    part = config.load(0)
    assert torch.equal(part.validation.inputs, whole.validation.inputs)
    assert (len(part.train), len(part.test)) == (73, 55)
    rows = {row.numpy().tobytes() for row in whole.train.inputs}
    assert all(row.numpy().tobytes() in rows for row in part.train.inputs)
    for each in (part.train, part.test):
        share = len(each) / 10
        counts = torch.bincount(each.targets, minlength=10)
        assert bool(((counts >= int(share)) & (counts <= int(share) + 1)).all())


def test_the_split_is_fixed_whatever_the_members_seed(cifar: Path) -> None:
    use_data_folder(cifar)
    config = CIFAR10Config(validation=100)
    splits = config.load(0)
    assert splits is config.load(1)
    images._load.cache_clear()
    assert torch.equal(config.load(2).validation.inputs, splits.validation.inputs)
    other = CIFAR10Config(validation=100, split_seed=1).load(0)
    assert not torch.equal(other.validation.inputs, splits.validation.inputs)


def test_unequal_classes_keep_their_shares() -> None:
    labels = torch.repeat_interleave(torch.arange(10), torch.arange(1, 11) * 10)  # 550
    first, second = disjoint(labels, [110, 55], seed=3, part=0)
    assert not set(first.tolist()) & set(second.tolist())
    assert torch.bincount(labels[first]).tolist() == list(range(2, 21, 2))
    assert torch.bincount(labels[second]).tolist() == list(range(1, 11))


# --- Fashion-MNIST --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """The whole data set, unpacked from Debian's package into a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("fashion")))
        patch.setenv(image_folders.DATA_FOLDER, "")
        images._load.cache_clear()
        return FashionMNISTConfig().load(0)


@needs_fashion_mnist
def test_fashion_mnist_is_the_published_one(fashion: Splits) -> None:
    assert fashion.input_shape == (1, 28, 28)
    assert [len(p) for p in (fashion.train, fashion.validation, fashion.test)] == [
        55_000, 5_000, 10_000,
    ]  # fmt: skip
    for part in (fashion.train, fashion.validation, fashion.test):
        assert part.inputs.dtype == torch.uint8
        assert torch.bincount(part.targets).tolist() == [len(part) // 10] * 10
    rows = [row.numpy().tobytes() for p in (fashion.train, fashion.validation) for row in p.inputs]
    assert len(set(rows)) == 60_000, "no image stands in two parts"
    assert fashion.train.scale is not None
    # What the literature gives for all 60,000 images.
    assert fashion.train.scale.mean == pytest.approx([0.2860], abs=1e-3)
    assert fashion.train.scale.deviation == pytest.approx([0.3530], abs=1e-3)
    assert attainable_accuracy(fashion.train) == 1.0


@needs_fashion_mnist
def test_the_checksums_of_the_content_are_torchvisions() -> None:
    """Debian took name and time out of the head of each archive: put back, its MD5 is torchvision's.

    The two times, one for both files of a part, were found by search.
    """
    from torchvision.datasets import FashionMNIST

    packed = {"train": 1504176606, "t10k": 1504176627}  # seconds since 1970
    for name, md5 in FashionMNIST.resources:
        debian = (DEBIAN / name).read_bytes()
        head = (
            b"\x1f\x8b\x08\x08" + struct.pack("<I", packed[name.partition("-")[0]]) + debian[8:10]
        )
        published = head + name.removesuffix(".gz").encode() + b"\0" + debian[10:]
        assert hashlib.md5(published).hexdigest() == md5
        content = hashlib.md5(gzip.decompress(published)).hexdigest()
        assert FashionMNISTConfig._CONTENT[name.removesuffix(".gz")] == content


# --- configurations -------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [FashionMNISTConfig, CIFAR10Config])
@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"validation": 0}, "validation"),
        ({"validation": 60_000}, "validation"),
        ({"split_seed": -1}, "split_seed"),
        ({"train_samples": 10}, "train_samples"),
        ({"train_samples": 55_001}, "train_samples"),
        ({"validation": 20_000, "train_samples": 40_001}, "train_samples"),
        ({"test_samples": 0}, "test_samples"),
        ({"test_samples": 10_001}, "test_samples"),
    ],
)
def test_refuses_values_outside_their_range(config: type, values: dict, key: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config(**values)
    assert refusal.value.key == key


def test_a_study_names_them() -> None:
    made = build(Problem, {"data": {"name": "cifar10", "train_samples": 1000}}).data
    assert made == CIFAR10Config(train_samples=1000)
    assert build(CIFAR10Config, to_dict(made)) == made
    assert build(Problem, {"data": "fashion_mnist"}).data == FashionMNISTConfig()


def test_every_configuration_knows_how_many_samples_it_trains_on(cifar: Path) -> None:
    use_data_folder(cifar)
    reduced = CIFAR10Config(validation=100, train_samples=60)
    for config in (SpiralsConfig(points_per_class=7), DigitsConfig(), reduced,
                   CIFAR10Config(validation=100)):  # fmt: skip
        assert config.training_samples == len(config.load(0).train)
    assert FashionMNISTConfig().training_samples == 55_000


def test_without_torchvision_the_refusal_says_so() -> None:
    code = """
import sys
sys.modules["torchvision"] = None
from dynloss_core.config import ConfigError
from dynloss_core.data import CIFAR10Config, FashionMNISTConfig
for config in (CIFAR10Config(), FashionMNISTConfig()):
    try:
        config.load(0)
    except ConfigError as error:
        print(error)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "data.name: images need torchvision, which cannot be imported" in line


def test_attainable_accuracy_of_equal_images_with_different_labels() -> None:
    pixels = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    inputs = torch.cat([pixels, pixels[:1], pixels[:1]])
    data = Labelled(inputs, torch.tensor([0, 1, 2, 0, 5]))
    assert attainable_accuracy(data) == 4 / 5
    zeros = Labelled(torch.tensor([[0.0], [-0.0]]), torch.tensor([0, 1]))
    assert attainable_accuracy(zeros) == 1 / 2, "they are equal, whatever their bytes"


def test_an_engine_is_chosen_without_reading_any(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(FashionMNISTConfig, "load", lambda *_: pytest.fail("read"))
    problem = Problem(data=FashionMNISTConfig(), model=Myrtle5Config(channels=2), batch_size=64)
    assert choose_engine(problem).name in ("batched", "convnet")


# --- Fashion-MNIST in its own format, but small ---------------------------------------------------


def test_fashion_mnist_is_read_from_the_files_that_were_checked_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from what an older torchvision left in `processed/`, which nobody checks."""
    raw, draws, content = tmp_path / "FashionMNIST" / "raw", np.random.default_rng(0), {}
    raw.mkdir(parents=True)
    labels = {part: np.arange(n) % 10 for part, n in (("train", TRAINING), ("t10k", IN_A_BATCH))}
    for part, own in labels.items():
        pixels = draws.integers(0, 256, (len(own), 28, 28), dtype=np.uint8)
        heads = struct.pack(">4I", 0x803, len(own), 28, 28), struct.pack(">2I", 0x801, len(own))
        for kind, head, values in zip(
            ("images-idx3", "labels-idx1"), heads, (pixels, own.astype(np.uint8)), strict=True
        ):
            path = raw / f"{part}-{kind}-ubyte"
            path.write_bytes(head + values.tobytes())
            content[path.name] = hashlib.md5(path.read_bytes()).hexdigest()
    left = raw.parent / "processed"
    left.mkdir()
    for name, part in (("training.pt", "train"), ("test.pt", "t10k")):
        other = torch.zeros(len(labels[part]), 28, 28, dtype=torch.uint8)
        torch.save((other, torch.zeros(len(other), dtype=torch.long)), left / name)
    monkeypatch.setattr(FashionMNISTConfig, "_CONTENT", content)
    monkeypatch.setattr(FashionMNISTConfig, "TRAINING", TRAINING)
    monkeypatch.setattr(FashionMNISTConfig, "TEST", IN_A_BATCH)
    use_data_folder(tmp_path)
    splits = FashionMNISTConfig(validation=100).load(0)
    assert torch.bincount(splits.train.targets).tolist() == [50] * 10
    assert int(splits.train.inputs.max()) > 200
    assert splits.test.targets.sort().values.tolist() == sorted(labels["t10k"].tolist())
