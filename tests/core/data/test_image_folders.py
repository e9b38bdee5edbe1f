"""Where image data are looked for, unpacked to and fetched into."""

from __future__ import annotations

import functools
import hashlib
import io
import multiprocessing
import os
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dynloss_core.config import ConfigError, config_hash, to_dict
from dynloss_core.data import (
    CIFAR10Config,
    FashionMNISTConfig,
    image_folders,
    images,
    use_data_folder,
)
from tests.core.data.image_files import DEBIAN, IN_A_BATCH, TRAINING, needs_fashion_mnist

pytestmark = pytest.mark.usefixtures("own_folders")


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder, with the time of its last change."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
        "validation_seed", "label_noise", "training_shares",
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
    with pytest.raises(
        ConfigError, match=r"data_batch_3 is damaged.*remove it and download it again"
    ):
        CIFAR10Config(validation=100).load(0)


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
    with pytest.raises(ConfigError, match="cifar-10-batches-py is incomplete; remove it"):
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
    with pytest.raises(ConfigError, match="--download: cifar10 cannot be downloaded"):
        config.download()
    assert names_in(tmp_path / "newer") == []
    (tmp_path / "newer" / "cifar-10-batches-py").mkdir()
    with pytest.raises(ConfigError, match="cifar-10-batches-py is incomplete; remove it"):
        config.download()
