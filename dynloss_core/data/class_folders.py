"""The contents of a folder of images by class, in the layout of torchvision's `ImageFolder`.

`FOLDER/CLASS/file.png`, or `FOLDER/train/CLASS/file.png` beside `FOLDER/test/` and, if there is
one, `FOLDER/validation/` (or `val/`). Classes and files are sorted by name. Only file names are
read here.

Always ignored: hidden files (whose names begin with a dot), `Thumbs.db`, `desktop.ini`, `__MACOSX`,
README and LICENSE, and text files that describe images (see `_DESCRIPTIONS`). Any other file that
is not an image is refused: it may be an image in an unsupported format, which would be missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dynloss_core.config import ConfigError, show
from dynloss_core.data.pixels import IMAGE_SUFFIXES
from dynloss_core.data.user_files import PARTS

__all__ = ["ClassFolders", "class_folders"]

_FOLDER_OF = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_LEFT_OUT = frozenset(("thumbs.db", "desktop.ini", "__macosx", "readme", "license"))
_DESCRIPTIONS = frozenset((".txt", ".md", ".json", ".csv", ".tsv", ".xml", ".yaml", ".yml"))
_LAYOUT = "put the images of each class into a folder of its own: CLASS/file.png"


@dataclass(frozen=True)
class ClassFolders:
    """The images of a folder, sorted by name.

    Args:
        classes: names of the classes, sorted, in the order of the class indices.
        files: names of the N files, relative to the folder, with forward slashes.
        targets: class index of each file.
        parts: the part of each file as an index of `PARTS`, if the folder names parts; else None.
    """

    classes: tuple[str, ...]
    files: tuple[str, ...]
    targets: tuple[int, ...]
    parts: tuple[int, ...] | None

    @property
    def samples(self) -> tuple[int, ...]:
        """Number of images: in all, or in each part that has a folder."""
        if self.parts is None:
            return (len(self.files),)
        return tuple(self.parts.count(part) for part in sorted(set(self.parts)))


def class_folders(folder: Path) -> ClassFolders:
    """The contents of a folder.

    Raises:
        ConfigError: for a file or folder that does not fit, naming it.
    """
    try:
        return _class_folders(folder)
    except OSError as error:
        problem = f"{error.filename or folder} cannot be read: {error.strerror or error}"
        raise ConfigError("path", problem, "make it readable") from None


def _class_folders(folder: Path) -> ClassFolders:
    names = _folders_in(folder)
    nested = "train" in names and _has_folders(folder / "train")
    entries: list[tuple[str, str, int]]  # file, class, part
    if not names or not (nested or set(names) <= set(_FOLDER_OF)):
        classes = _classes_of(folder, names)
        parted = False
        entries = [(f"{name}/{file}", name, 0) for name in classes for file in classes[name]]
    else:
        by_part = _parts_of(folder, names)
        classes, parted, entries = by_part[0][1], True, []
        for name, files_by_class in by_part:
            _refuse_other_classes(folder, name, set(files_by_class), set(classes))
            part = PARTS.index(_FOLDER_OF[name])
            for kind, files in files_by_class.items():
                entries += [(f"{name}/{kind}/{file}", kind, part) for file in files]
    entries.sort()
    index = {name: i for i, name in enumerate(sorted(classes))}
    return ClassFolders(
        classes=tuple(index),
        files=tuple(file for file, _, _ in entries),
        targets=tuple(index[name] for _, name, _ in entries),
        parts=tuple(part for _, _, part in entries) if parted else None,
    )


def _parts_of(folder: Path, names: list[str]) -> list[tuple[str, dict[str, list[str]]]]:
    """The folders of the parts, training first, each with its class folders."""
    if others := [name for name in names if name not in _FOLDER_OF]:
        problem = f"{folder / others[0]} lies beside {folder / 'train'}"
        remedy = "keep train/, validation/ (or val/) and test/ there alone, or no train/"
        raise ConfigError("path", problem, remedy)
    for needed in ("train", "test"):
        if needed not in names:
            problem = f"{folder} has {' and '.join(f'{name}/' for name in names)}, and no {needed}/"
            remedy = "name train/ and test/; validation is drawn from train/ if it has no folder"
            raise ConfigError("path", problem, remedy)
    if {"val", "validation"} <= set(names):
        raise ConfigError("path", f"{folder} has both val/ and validation/", "keep one of them")
    names = sorted(names, key=lambda name: PARTS.index(_FOLDER_OF[name]))
    return [(name, _classes_of(folder / name, _folders_in(folder / name))) for name in names]


def _classes_of(folder: Path, names: list[str]) -> dict[str, list[str]]:
    """The names of the images, by class folder."""
    if not names:
        raise ConfigError("path", f"{folder} holds no class folders", _LAYOUT)
    if len(names) == 1:
        problem = f"{folder} holds one class folder, {show(names[0])}"
        raise ConfigError("path", problem, "give two classes or more, each a folder there")
    return {name: _images_in(folder / name) for name in names}


def _refuse_other_classes(folder: Path, part: str, own: set[str], trained: set[str]) -> None:
    for classes, others, lacks, has in (
        (own, trained, part, "train"),
        (trained, own, "train", part),
    ):
        if missing := sorted(others - classes):
            problem = f"{folder / lacks} has no class {show(missing[0])}, which {has}/ has"
            raise ConfigError("path", problem, "give every part the same class folders")


def _folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder that holds nothing else."""
    names = []
    for path in _seen_in(folder):
        if not path.is_dir():
            raise ConfigError("path", f"{path} lies outside the class folders", _LAYOUT)
        try:
            path.name.encode()
        except UnicodeEncodeError:
            problem = f"the name of {path} is not UTF-8"
            raise ConfigError("path", problem, "rename the folder") from None
        names.append(path.name)
    return names


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in _seen_in(folder))


def _images_in(folder: Path) -> list[str]:
    """Names of the images in a class folder."""
    names = []
    for path in _seen_in(folder):
        if path.is_dir():
            problem = f"{path} is a folder inside a class folder"
            remedy = "move its images up; parts are called train/, validation/ (or val/) and test/"
            raise ConfigError("path", problem, remedy)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            problem = f"{path} is not an image of a supported format"
            raise ConfigError("path", problem, f"remove it, or convert it to one of {kinds}")
        if not path.is_file():
            raise ConfigError("path", f"{path} is not a file", "remove it from the folder")
        names.append(path.name)
    if not names:
        raise ConfigError("path", f"{folder} holds no images", "add some, or remove the folder")
    return names


def _seen_in(folder: Path) -> list[Path]:
    """Everything in a folder that is not ignored."""
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
        and path.name.lower() not in _LEFT_OUT
        and (path.suffix.lower() not in _DESCRIPTIONS or path.is_dir())
    ]
