"""A user's own folder of images as a data set, in the layout of torchvision's `ImageFolder`.

Symbols
    N      images
    K      channels: 1 (grey) or 3 (red, green, blue)
    S      pixels of a side
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dynloss_core.config import ConfigError
from dynloss_core.data.class_folders import ClassFolders, class_folders
from dynloss_core.data.pixels import decoded, scale_of
from dynloss_core.data.splits import Labelled, Splits
from dynloss_core.data.user_files import PARTS, Contents, UserFiles

__all__ = ["FolderConfig"]

_MAX_SIDE = 1024  # pixels of a side


@dataclass(frozen=True)
class FolderConfig(UserFiles):
    """A folder of images, with a folder for each class.

    An image is turned upright according to its EXIF data and scaled (bilinear, with antialiasing)
    until its shorter side is S; the central S x S pixels are kept. Transparent parts are shown on
    black, and of an animation only the first frame is used. Channels are scaled to mean 0 and
    standard deviation 1 on the training set. See `class_folders` for which files are read.

    Args:
        path: the folder, relative to the study's file: `CLASS/file.png`, or `train/CLASS/file.png`
            and the same in `test/` and, if there is one, `validation/` (or `val/`). A machine that
            does not have it there looks for its name in the folder of `--data-dir`.
        test: share of the images for the test set, if the folder has no `test/`.
        validation: share of the images for validation, if the folder has no `validation/`; of those
            in `train/`, if it has one.
        validation_seed: the seed that draws the validation set from the images outside the test
            set; None uses `split_seed`, or keeps the images in `validation/`.
        contents: what the folder held when the study was made, with a checksum over the names and
            bytes of all images; by default what it holds now.
        size: S, pixels of a side.
        channels: K, 3 for colour or 1 for grey.
    """

    name: Literal["folder"] = "folder"
    size: int = 32
    channels: Literal[1, 3] = 3

    KIND: ClassVar[Literal["file", "folder"]] = "folder"
    FORM: ClassVar[str] = "with a folder of images for each class"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _MAX_SIDE:
            problem = f"{self.size} is not between 1 and {_MAX_SIDE}"
            raise ConfigError("size", problem, "choose a number of pixels in this range")
        super().__post_init__()
        if self.input_shape != self._shape:  # from images read in another size
            object.__setattr__(self, "contents", replace(self.held, input_shape=self._shape))

    @property
    def _shape(self) -> tuple[int, int, int]:
        return (self.channels, self.size, self.size)

    def _read_contents(self) -> Contents:
        images = _read(self)
        known = replace(self, contents=images.contents)
        _parts(known, images.listed)
        return images.contents

    def load(self, seed: int) -> Splits:
        """The split of this configuration, as bytes (N, K, S, S); `seed` is not used.

        All callers share one object.

        Raises:
            ConfigError: if the folder is not found, cannot be read, or has changed.
        """
        return _load(self)


@dataclass(frozen=True, eq=False)
class _Images:
    """A folder as read: its contents, its files, and their bytes (N, K, S, S)."""

    contents: Contents
    listed: ClassFolders
    pixels: Tensor


@lru_cache(maxsize=2)
def _load(config: FolderConfig) -> Splits:
    images = _read(config)
    config.refuse_change(images.contents)
    targets = torch.tensor(images.listed.targets)
    train, validation, test = _parts(config, images.listed)
    learned = images.pixels[train]
    scale = scale_of(learned)
    chosen, reported = (
        Labelled(images.pixels[indices], targets[indices], scale) for indices in (validation, test)
    )
    return Splits(Labelled(learned, targets[train], scale), chosen, reported, config.num_classes)


def _parts(config: FolderConfig, listed: ClassFolders) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the training, validation and test sets, each with images of every class.

    Raises:
        ConfigError: naming a class that has too few.
    """
    targets = torch.tensor(listed.targets)
    given = None if listed.parts is None else torch.tensor(listed.parts)
    parts = config.split_indices(targets, given)
    for name, chosen in zip(PARTS, parts, strict=True):
        counts = torch.bincount(targets[chosen], minlength=len(listed.classes))
        if not counts.all():
            few = int(counts.argmin())
            images = listed.targets.count(few)
            several = "1 image" if images == 1 else f"{images} images"
            problem = f"class {listed.classes[few]!r} has {several}, and none for {name}"
            raise ConfigError("path", problem, "add images of it, or change the parts' shares")
    return parts


def _read(config: FolderConfig) -> _Images:
    """Read the folder of a configuration.

    Raises:
        ConfigError: if it is not found, or holds something that does not fit.
    """
    folder = config.found()
    listed = class_folders(folder)
    checksum, digests = hashlib.sha256(), []
    for name in listed.files:
        digest = hashlib.sha256(_content(folder / name)).digest()
        checksum.update(os.fsencode(name) + b"\0" + digest)
        digests.append(digest)
    pixels = _pixels(folder, listed.files, tuple(digests), config.size, config.channels)
    shape = (config.channels, config.size, config.size)
    contents = Contents(checksum.hexdigest(), listed.classes, shape, listed.samples)
    return _Images(contents, listed, pixels)


@lru_cache(maxsize=1)  # decoding takes longer than reading
def _pixels(
    folder: Path, files: tuple[str, ...], digests: tuple[bytes, ...], size: int, channels: int
) -> Tensor:
    """The bytes (N, K, S, S) of the files with these checksums, decoded once per process."""
    pixels = torch.empty(len(files), channels, size, size, dtype=torch.uint8)
    for i, (name, digest) in enumerate(zip(files, digests, strict=True)):
        content = _content(folder / name)
        if hashlib.sha256(content).digest() != digest:
            raise ConfigError("path", f"{folder / name} changed while it was read", "try again")
        pixels[i] = decoded(folder / name, content, size, channels)
    return pixels


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
        raise ConfigError("path", problem, "make it readable, or remove it") from None
