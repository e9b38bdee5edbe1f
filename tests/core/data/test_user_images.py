"""A folder of images of one's own: read, split, scaled, and noticed when it changes."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dynloss_core.config import ConfigError, build, config_hash, to_dict
from dynloss_core.data import DATA_SETS, FolderConfig, Splits, use_data_folder, user_images
from dynloss_core.data.image_folders import DATA_FOLDER
from dynloss_core.testing import DataSetContract
from tests.core.data.photos import write_photos

PARTS = ("train", "validation", "test")


def config(path: Path, **changes: Any) -> FolderConfig:
    return build(FolderConfig, {"name": "folder", "path": str(path), "size": 6, **changes})


def sizes(splits: Splits) -> list[int]:
    return [len(getattr(splits, part)) for part in PARTS]


def images_of(splits: Splits) -> list[set[bytes]]:
    """The images of each part, by their bytes."""
    return [{image.numpy().tobytes() for image in getattr(splits, part).inputs} for part in PARTS]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    folder = tmp_path / "parted"
    for seed, (part, each) in enumerate({"train": 12, "val": 4, "test": 5}.items()):
        write_photos(folder / part, each, seed=seed)
    return folder


class TestFolder(DataSetContract):
    @pytest.fixture(autouse=True, params=[1, 3])
    def own(self, request: pytest.FixtureRequest, photos: Path) -> Iterator[None]:
        type(self).data = config(photos, channels=request.param)
        yield
        del type(self).data


def test_square_images_are_as_torchvision_reads_them(photos: Path) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    for path in photos.rglob("*.png"):
        with Image.open(path) as image:
            square = image.crop((0, 0, 6, 6))
        square.save(path)
    theirs = ImageFolder(photos, v2.PILToTensor())
    expected = {
        (image.numpy().tobytes(), label) for image, label in map(theirs.__getitem__, range(30))
    }
    made = config(photos)
    splits = made.load(0)
    found = set()
    for part in (splits.train, splits.validation, splits.test):
        for image, label in zip(part.inputs, part.targets, strict=True):
            found.add((image.numpy().tobytes(), int(label)))
    assert found == expected
    assert made.contents is not None
    assert list(made.contents.classes) == theirs.classes


@given(
    each=st.integers(15, 30), test=st.floats(0.2, 0.4), validation=st.floats(0.2, 0.4),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_parts_are_disjoint_and_have_the_classes_in_equal_shares(
    each: int, test: float, validation: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write_photos(tmp_path_factory.mktemp("own") / "photos", each)
    made = config(folder, test=test, validation=validation, split_seed=seed)
    splits = made.load(0)
    found = images_of(splits)
    assert sum(map(len, found)) == 2 * each == len(set.union(*found))
    assert made.training_samples == len(splits.train)
    for part in PARTS:
        ants, bees = torch.bincount(getattr(splits, part).targets).tolist()
        assert abs(ants - bees) <= 2
    shutil.rmtree(folder)


def test_folders_may_name_the_parts(parted: Path) -> None:
    made = config(parted)
    assert made.contents is not None
    assert made.contents.samples == (24, 8, 10)
    splits = made.load(0)
    assert sizes(splits) == [24, 8, 10]
    for part, name in zip(PARTS, ("train", "val", "test"), strict=True):
        alone = {
            user_images.decoded(path, path.read_bytes(), 6, 3).numpy().tobytes()
            for path in (parted / name).rglob("*.png")
        }
        assert images_of(splits)[PARTS.index(part)] == alone
    again = replace(made, validation_seed=3).load(0)
    assert sizes(again) == sizes(splits)
    assert images_of(again)[2] == images_of(splits)[2]
    assert images_of(again)[1] != images_of(splits)[1]
    assert set.union(*images_of(again)[:2]) == set.union(*images_of(splits)[:2])


def test_validation_is_drawn_from_training_if_it_has_no_folder(parted: Path) -> None:
    shutil.rmtree(parted / "val")
    made = config(parted, validation=0.25)
    assert made.contents is not None
    assert made.contents.samples == (24, 10)
    splits = made.load(0)
    assert sizes(splits) == [18, 6, 10]
    assert torch.bincount(splits.validation.targets).tolist() == [3, 3]
    other = replace(made, validation_seed=5).load(0)
    assert images_of(other)[1] != images_of(splits)[1]
    assert images_of(other)[2] == images_of(splits)[2]


def test_another_search_has_another_validation_set_and_the_same_test_set(photos: Path) -> None:
    first, other = config(photos).load(0), config(photos, validation_seed=7).load(0)
    assert images_of(first)[1] != images_of(other)[1]
    assert images_of(first)[2] == images_of(other)[2]
    assert images_of(config(photos, split_seed=1).load(0))[2] != images_of(first)[2]


def test_images_are_scaled_by_the_training_set_alone(parted: Path) -> None:
    before = config(parted).load(0)
    scale = before.train.scale
    assert scale is not None
    assert scale is before.validation.scale is before.test.scale
    pixels = before.train.inputs.double() / 255
    expected = pixels.mean((0, 2, 3)), pixels.transpose(0, 1).flatten(1).std(1, correction=0)
    torch.testing.assert_close(torch.tensor(scale.mean).double(), expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(
        torch.tensor(scale.deviation).double(), expected[1], rtol=1e-6, atol=0
    )
    for path in (*(parted / "test").rglob("*.png"), *(parted / "val").rglob("*.png")):
        Image.new("RGB", (6, 6), (255, 255, 255)).save(path)
    assert config(parted).load(0).train.scale == scale


def test_grey_images_have_one_channel(photos: Path) -> None:
    splits = config(photos, channels=1).load(0)
    assert splits.input_shape == (1, 6, 6)
    assert splits.train.inputs.dtype == torch.uint8
    assert splits.train.scale is not None
    assert len(splits.train.scale.mean) == 1


def test_it_is_decoded_once_in_a_process(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user_images._pixels.cache_clear()
    decoder, count = user_images.decoded, []
    monkeypatch.setattr(user_images, "decoded", lambda *a: count.append(a[0]) or decoder(*a))
    made = config(photos)
    assert made.load(0) is made.load(1)
    replace(made, validation_seed=1).load(0)
    assert len(count) == 30


def touched(folder: Path) -> None:
    with Image.open(folder / "ant" / "03.png") as image:
        pixels = np.array(image)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(folder / "ant" / "03.png")


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": touched,
    "added": lambda folder: shutil.copy(folder / "ant" / "03.png", folder / "ant" / "99.png"),
    "renamed": lambda folder: (folder / "ant" / "03.png").rename(folder / "ant" / "99.png"),
    "deleted": lambda folder: (folder / "ant" / "03.png").unlink(),
    "moved": lambda folder: (folder / "ant" / "03.png").rename(folder / "bee" / "99.png"),
    "swapped": lambda folder: (
        (folder / "ant").rename(folder / "x"),
        (folder / "bee").rename(folder / "ant"),
        (folder / "x").rename(folder / "bee"),
    ),
    "another class": lambda folder: (folder / "ant").rename(folder / "aphid"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_changed_since_is_refused(change: str, photos: Path) -> None:
    made = config(photos)
    same = build(FolderConfig, json.loads(json.dumps(to_dict(made))))
    assert same == made
    assert replace(same, split_seed=1).load(0).num_classes == 2
    CHANGES[change](photos)
    line = "photos has changed since the study was made; put the folder back"
    with pytest.raises(ConfigError, match=line):
        same.load(0)
    assert config_hash(config(photos)) != config_hash(made)


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "Thumbs.db", "desktop.ini", "README", "LICENSE.txt", "labels.csv", "._00.png"],
)
@pytest.mark.parametrize("where", ["", "ant"])
def test_what_lies_beside_images_is_left_out(name: str, where: str, photos: Path) -> None:
    before = config(photos)
    (photos / where / name).write_bytes(b"x")
    (photos / ".ipynb_checkpoints").mkdir()
    (photos / "__MACOSX").mkdir()
    assert config(photos) == before


def test_where_the_folder_lies_changes_no_hash(photos: Path, tmp_path: Path) -> None:
    before = config(photos)
    os.utime(photos / "ant" / "00.png", (0, 0))
    photos.rename(tmp_path / "moved")
    assert config_hash(config(tmp_path / "moved")) == config_hash(before)
    assert config_hash(config(tmp_path / "moved", size=7)) != config_hash(before)


def test_a_recorded_one_is_known_without_its_folder(photos: Path) -> None:
    made = config(photos)
    plain = to_dict(made)
    shutil.rmtree(photos)
    same = build(FolderConfig, plain)
    assert (same.num_classes, same.input_shape, same.training_samples) == (2, (3, 6, 6), 18)
    assert build(FolderConfig, {**plain, "size": 9, "channels": 1}).input_shape == (1, 9, 9)
    with pytest.raises(ConfigError, match="there is no folder"):
        replace(same, split_seed=3).load(0)


def test_another_machine_finds_it_in_the_chosen_folder(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_FOLDER, "")
    made = config(photos)
    (tmp_path / "there").mkdir()
    photos.rename(tmp_path / "there" / "photos")
    use_data_folder(tmp_path / "there")
    assert replace(made, split_seed=5).load(0).num_classes == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": ""}, "path: is missing; name a folder"),
        ({"path": "nowhere"}, "path: there is no folder"),
        ({"size": 0}, "size: 0 is not between 1 and 1024"),
        ({"size": 1025}, "size: 1025 is not between 1 and 1024"),
        ({"channels": 2}, "channels: 2 is not one of the choices; choose one of: 1, 3"),
        ({"test": 0.0}, "test: 0.0 is not a fraction"),
        ({"validation": 0.1}, "21 training, 3 validation and 6 test samples; each part needs 5"),
        ({"validation_seed": -1}, "validation_seed: -1 is negative"),
        (
            {"contents": {"sha256": "", "classes": [], "input_shape": [], "samples": []}},
            "0 numbers",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str, photos: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(FolderConfig, {"name": "folder", "path": str(photos), "size": 6, **changes})


def test_python_refuses_the_same_channels(photos: Path) -> None:
    with pytest.raises(ConfigError, match="channels: 2 is not one of the choices"):
        FolderConfig(path=str(photos), channels=2)  # type: ignore[arg-type]


def test_a_class_with_too_few_images_is_named(photos: Path) -> None:
    shutil.copytree(photos / "ant", photos / "cat")
    for path in sorted((photos / "cat").iterdir())[2:]:
        path.unlink()
    line = r"class 'cat' has 2 images, and none for \w+; add images of it, or change"
    with pytest.raises(ConfigError, match=line):
        config(photos)


def test_an_image_that_cannot_be_read_is_named(photos: Path) -> None:
    path = photos / "bee" / "07.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConfigError, match=r"bee/07\.png is not an image that can be read: .* rem"):
        config(photos)
    path.unlink()
    path.symlink_to(photos / "nowhere.png")
    with pytest.raises(ConfigError, match=r"07\.png is not a file; remove it"):
        config(photos)


def test_it_is_one_of_the_data_sets() -> None:
    assert DATA_SETS["folder"] is FolderConfig
