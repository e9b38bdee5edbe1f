"""What lies in a folder of images by class: which layouts are read, and which are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from dynloss_core.config import ConfigError
from dynloss_core.data.class_folders import class_folders


def made_in(folder: Path, *paths: str) -> None:
    """Folders, where a path ends with a slash, and copies of an image."""
    for path in paths:
        target = folder / path
        (target if path.endswith("/") else target.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            Image.new("RGB", (6, 6)).save(target, "PNG")


LAYOUTS = [
    ([], "holds no class folders; put the images of each class into a folder of its own"),
    (["a.png"], "a.png lies outside the class folders"),
    (["ant/a.png"], "holds one class folder, 'ant'; give two classes or more"),
    (["ant/a.png", "bee/"], "bee holds no images; add some, or remove the folder"),
    (["ant/a.png", "bee/a.png", "notes.docx"], "notes.docx lies outside the class folders"),
    (["ant/a.png", "bee/a.heic"], "a.heic is not an image of a supported format; remove it, or"),
    (["ant/a.png", "bee/more/a.png"], "more is a folder inside a class folder; move its images up"),
    (["Train/ant/a.png", "Test/ant/a.png"], "ant is a folder inside a class folder"),
    (["train/a.png", "test/a.png"], "a.png lies outside the class folders"),
    (["train/", "test/"], "train holds no class folders"),
    (["train/ant/a.png", "train/bee/a.png"], "has train/, and no test/"),
    (["train/ant/a.png", "train/bee/a.png", "val/ant/a.png"], "has train/ and val/, and no test/"),
    (["val/ant/a.png", "test/ant/a.png"], "has test/ and val/, and no train/"),
    (["train/ant/a.png", "test/ant/a.png", "more/"], "more lies beside"),
    (["train/ant/a.png", "test/ant/a.png", "val/", "validation/"], "has both val/ and validation/"),
    (
        ["train/ant/a.png", "train/bee/a.png", "test/ant/a.png", "test/cat/a.png"],
        "test has no class 'bee', which train/ has; give every part the same class folders",
    ),
    (
        [f"{part}/{name}/a.png" for part in ("train", "test") for name in "ab"] + ["test/c/a.png"],
        "train has no class 'c', which test/ has",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("paths", "message"), LAYOUTS)
def test_layouts_that_do_not_fit_are_refused(
    paths: list[str], message: str, tmp_path: Path
) -> None:
    made_in(tmp_path / "own", "./", *paths)
    with pytest.raises(ConfigError, match=re.escape(message)):
        class_folders(tmp_path / "own")


def test_classes_and_files_are_sorted_by_name(tmp_path: Path) -> None:
    made_in(tmp_path, "b/2.png", "b/10.png", "a b/x.JPG", "B/y.gif")
    found = class_folders(tmp_path)
    assert found.classes == ("B", "a b", "b")
    assert found.files == ("B/y.gif", "a b/x.JPG", "b/10.png", "b/2.png")
    assert found.targets == (0, 1, 2, 2)
    assert found.parts is None
    assert found.samples == (4,)


def test_the_parts_are_those_of_the_folders(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        made_in(tmp_path, f"{part}/a/0.png", f"{part}/b/0.png")
    made_in(tmp_path, "train/a/1.png")
    found = class_folders(tmp_path)
    assert found.files[0] == "test/a/0.png"
    assert found.parts == (2, 2, 0, 0, 0, 1, 1)
    assert found.samples == (3, 2, 2)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    made_in(tmp_path, "plane/a.png", "train/a.png", "test/a.png")
    assert class_folders(tmp_path).classes == ("plane", "test", "train")


def test_a_name_that_no_file_of_text_holds_is_refused(tmp_path: Path) -> None:
    made_in(tmp_path, "a/0.png", "\udcff/0.png")
    with pytest.raises(ConfigError, match="is not UTF-8; rename the folder"):
        class_folders(tmp_path)
