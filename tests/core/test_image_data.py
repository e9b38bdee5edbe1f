"""Fashion-MNIST on its real files, CIFAR-10 on a small archive in its own format."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from dynloss_core.config import ConfigError, build, config_hash, to_dict
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
from dynloss_core.models import Myrtle5Config
from dynloss_core.training import Problem, choose_engine

ROOT = Path(__file__).parents[2]
DEBIAN = image_folders.SYSTEM_FOLDER / "fashion-mnist"
IN_A_BATCH, BATCHES = 120, 5
TRAINING = IN_A_BATCH * BATCHES

needs_fashion_mnist = pytest.mark.skipif(
    not (DEBIAN / "train-images-idx3-ubyte.gz").is_file(),
    reason=f"no Fashion-MNIST in {DEBIAN}: apt install dataset-fashion-mnist",
)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the user's data, nor another test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(image_folders.DATA_FOLDER, "")
    images._load.cache_clear()
    yield
    images._load.cache_clear()


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder, with the time of its last change."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- CIFAR-10 -------------------------------------------------------------------------------------


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
    first, second = images._disjoint(labels, [110, 55], seed=3, part=0)
    assert not set(first.tolist()) & set(second.tolist())
    assert torch.bincount(labels[first]).tolist() == list(range(2, 21, 2))
    assert torch.bincount(labels[second]).tolist() == list(range(1, 11))


# --- folders --------------------------------------------------------------------------------------


def test_folders_are_looked_at_in_order(cifar: Path, tmp_path: Path) -> None:
    chosen, cache = tmp_path / "chosen", image_folders.cache_folder()
    assert image_folders.data_folders() == [cache, image_folders.SYSTEM_FOLDER]
    use_data_folder(chosen)
    assert image_folders.data_folders() == [chosen, cache, image_folders.SYSTEM_FOLDER]
    layout = CIFAR10Config(validation=100)._layout()
    cache.mkdir(parents=True)
    (cifar / layout.folder).rename(cache / layout.folder)
    assert image_folders.find(layout, no_archives) == cache, "the chosen folder has none"
    chosen.mkdir()
    (cache / layout.folder).rename(chosen / layout.folder)
    assert image_folders.find(layout, no_archives) == chosen


def no_archives(archive: Path, target: Path) -> None:
    raise AssertionError(f"{archive} need not be unpacked")


def test_a_relative_folder_holds_in_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    use_data_folder("data")
    assert os.environ[image_folders.DATA_FOLDER] == str(tmp_path / "data")
    monkeypatch.setenv(image_folders.DATA_FOLDER, "other")
    use_data_folder(None)
    assert image_folders.chosen_folder() == str(tmp_path / "other")


def test_the_folder_is_no_part_of_a_configuration(tmp_path: Path) -> None:
    before = config_hash(CIFAR10Config())
    use_data_folder(tmp_path)
    assert config_hash(CIFAR10Config()) == before
    assert list(to_dict(CIFAR10Config())) == [
        "name", "validation", "split_seed", "train_samples", "test_samples",
    ]  # fmt: skip


def test_missing_data_are_one_line_with_folders_and_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folders, "SYSTEM_FOLDER", tmp_path / "system")
    use_data_folder(tmp_path / "chosen")
    with pytest.raises(ConfigError) as refusal:
        FashionMNISTConfig().load(0)
    message = str(refusal.value)
    assert "\n" not in message
    for expected in ("chosen", "cache/dynloss", "system", "--download", "--data-dir",
                     "FashionMNIST/", "apt install dataset-fashion-mnist"):  # fmt: skip
        assert expected in message
    with pytest.raises(ConfigError, match=r"cifar-10-batches-py/ or cifar-10-python\.tar\.gz"):
        CIFAR10Config().load(0)
    assert not (tmp_path / "cache").exists(), "looking makes no folder"


def test_a_damaged_file_is_refused_by_its_name(cifar: Path) -> None:
    use_data_folder(cifar)
    path = cifar / "cifar-10-batches-py" / "data_batch_3"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"data_batch_3 is damaged.*remove it, and get it again"):
        CIFAR10Config(validation=100).load(0)


# --- archives -------------------------------------------------------------------------------------


@pytest.fixture
def archive(cifar: Path) -> Path:
    """The same data as the archive that CIFAR-10 comes in, and nothing else."""
    path = cifar / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(cifar / "cifar-10-batches-py", "cifar-10-batches-py")
    for each in (cifar / "cifar-10-batches-py").iterdir():
        each.unlink()
    (cifar / "cifar-10-batches-py").rmdir()
    return path


def test_an_archive_is_unpacked_into_the_cache_once(archive: Path) -> None:
    use_data_folder(archive.parent)
    before = tree(archive.parent)
    assert len(CIFAR10Config(validation=100).load(0).train) == TRAINING - 100
    cache = image_folders.cache_folder()
    assert names_in(cache) == ["cifar-10-batches-py"]
    unpacked = tree(cache)
    images._load.cache_clear()
    CIFAR10Config(validation=100).load(0)
    assert tree(cache) == unpacked, "not unpacked again"
    assert tree(archive.parent) == before, "the folder that was given is only read"


def test_nothing_is_written_into_folders_that_are_given(archive: Path) -> None:
    archive.parent.chmod(0o555)
    try:
        use_data_folder(archive.parent)
        assert len(CIFAR10Config(validation=100).load(0).test) == IN_A_BATCH
    finally:
        archive.parent.chmod(0o755)
    assert names_in(archive.parent) == [archive.name]


@pytest.mark.parametrize("damage", ["cut", "no gzip", "other files"])
def test_a_damaged_archive_leaves_nothing_behind(archive: Path, damage: str) -> None:
    if damage == "cut":
        archive.write_bytes(archive.read_bytes()[:100_000])
    elif damage == "no gzip":
        archive.write_bytes(b"<html>404</html>" * 1000)
    else:
        with tarfile.open(archive, "w:gz") as tar:
            member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
            tar.addfile(member, io.BytesIO())
    use_data_folder(archive.parent)
    with pytest.raises(ConfigError, match="is damaged"):
        CIFAR10Config(validation=100).load(0)
    assert names_in(image_folders.cache_folder()) == []


def test_a_cache_that_cannot_be_written_is_one_line(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    use_data_folder(archive.parent)
    with pytest.raises(ConfigError, match=r"cannot be unpacked into .*set XDG_CACHE_HOME"):
        CIFAR10Config(validation=100).load(0)


def test_an_incomplete_folder_in_the_cache_is_named(archive: Path) -> None:
    half = image_folders.cache_folder() / "cifar-10-batches-py"
    half.mkdir(parents=True)
    (half / "data_batch_1").touch()
    use_data_folder(archive.parent)
    with pytest.raises(ConfigError, match="cifar-10-batches-py is not complete; remove it"):
        CIFAR10Config(validation=100).load(0)
    assert names_in(half) == ["data_batch_1"], "whatever it is, it is not ours to remove"


def test_the_first_of_several_to_finish_wins(tmp_path: Path) -> None:
    def slower(making: Path) -> None:
        (making / "set").mkdir()
        (making / "set" / "by").write_text("slower")
        image_folders.put_in_place(tmp_path, "set", faster)

    def faster(making: Path) -> None:
        (making / "set").mkdir()
        (making / "set" / "by").write_text("faster")

    image_folders.put_in_place(tmp_path, "set", slower)
    assert (tmp_path / "set" / "by").read_text() == "faster"
    assert names_in(tmp_path) == ["set"]


# --- downloads ------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def test_a_download_arrives_whole_in_the_chosen_folder_or_not_at_all(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5)
    config = CIFAR10Config(validation=100)
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=archive.parent)
    ) as server:
        url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        monkeypatch.setattr(CIFAR10, "url", url)
        threading.Thread(target=server.serve_forever).start()
        use_data_folder(tmp_path / "new")
        config.download()
        server.shutdown()
    assert names_in(tmp_path / "new") == ["cifar-10-batches-py"]
    assert len(config.load(0).train) == TRAINING - 100
    config.download()  # it is there: nothing is fetched
    use_data_folder(tmp_path / "newer")
    with pytest.raises(ConfigError, match="--download: cifar10 cannot be fetched"):
        config.download()
    assert names_in(tmp_path / "newer") == []
    (tmp_path / "newer" / "cifar-10-batches-py").mkdir()
    with pytest.raises(ConfigError, match="cifar-10-batches-py is not complete; remove it"):
        config.download()


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


@needs_fashion_mnist
@pytest.mark.parametrize("place", ["", "FashionMNIST/raw", "fashion-mnist"])
def test_fashion_mnists_archives_may_lie_where_people_put_them(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "data" / place
    folder.mkdir(parents=True)
    for path in DEBIAN.iterdir():
        (folder / path.name).symlink_to(path)
    use_data_folder(tmp_path / "data")
    config = FashionMNISTConfig()
    assert config._layout().archives_in(tmp_path / "data")[0].parent == folder


@needs_fashion_mnist
def test_processes_that_prepare_the_cache_at_once_agree() -> None:
    from torchvision.datasets.utils import extract_archive

    fork = multiprocessing.get_context("fork")  # torch need not be imported again
    start, found = fork.Barrier(3), fork.SimpleQueue()

    def prepare() -> None:
        start.wait(timeout=60)
        found.put(image_folders.find(FashionMNISTConfig()._layout(), extract_archive))

    processes = [fork.Process(target=prepare) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    cache = image_folders.cache_folder()
    assert [found.get() for _ in processes] == [cache] * 3
    assert names_in(cache) == ["FashionMNIST"]


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
