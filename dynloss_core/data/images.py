"""Fashion-MNIST and CIFAR-10, read by torchvision; the one file that imports it.

Sources: H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST", arXiv:1708.07747; A. Krizhevsky,
"Learning multiple layers of features from tiny images", 2009.

Symbols
    N      images of a part
    K      channels: 1 (grey) or 3 (red, green, blue)
    H, W   pixels
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dynloss_core.config import ADDED_LATER, ConfigError, reason_of
from dynloss_core.data.image_folders import (
    Layout,
    cache_folder,
    chosen_folder,
    data_folders,
    find,
    put_in_place,
)
from dynloss_core.data.label_noise import check_label_noise, with_label_noise
from dynloss_core.data.pixels import scale_of
from dynloss_core.data.splits import Labelled, Splits, check_seeds, disjoint
from dynloss_core.data.training_shares import check_training_shares, kept_of_each, with_shares

__all__ = ["CIFAR10Config", "FashionMNISTConfig", "ImageConfig"]

_NUM_CLASSES = 10
_MIN_SAMPLES = 5 * _NUM_CLASSES  # samples of a part


@dataclass(frozen=True)
class ImageConfig(ABC):
    """Images with their own test set; validation is taken from the training set.

    The split does not depend on a member's seed, for the reason given in `DigitsConfig`; nor does
    the validation set depend on `train_samples`. Classes keep their shares in every part.

    Args:
        validation: number of images of the training set kept for validation.
        split_seed: the seed that draws them, and the images of a reduced part.
        validation_seed: the seed of the draws from the training set; None uses `split_seed`.
        label_noise: share of the training labels that are redrawn at random (see `label_noise`).
        train_samples: images to train on; None takes all that are not kept for validation.
        training_shares: for classes of unequal size, the share of its training images that each
            class keeps (see `training_shares`). Empty: every class keeps all.
        test_samples: images of the test set; None takes all.
    """

    name: str
    validation: int = 5000
    split_seed: int = 0
    train_samples: int | None = None
    test_samples: int | None = None
    validation_seed: int | None = field(default=None, metadata=ADDED_LATER)
    label_noise: float = field(default=0.0, metadata=ADDED_LATER)
    training_shares: tuple[float, ...] = field(default=(), metadata=ADDED_LATER)

    num_classes: ClassVar[int] = _NUM_CLASSES
    SHAPE: ClassVar[tuple[int, int, int]]
    TRAINING: ClassVar[int]
    TEST: ClassVar[int] = 10_000

    def __post_init__(self) -> None:
        check_seeds(self.split_seed, self.validation_seed)
        check_label_noise(self.label_noise)
        check_training_shares(self.training_shares, _NUM_CLASSES)
        left = self.TRAINING - self.validation
        for key, most in (
            ("validation", self.TRAINING - _MIN_SAMPLES),
            ("train_samples", left),
            ("test_samples", self.TEST),
        ):
            size = getattr(self, key)
            if size is not None and not _MIN_SAMPLES <= size <= most:
                problem = f"{size} is not between {_MIN_SAMPLES} and {most}"
                raise ConfigError(key, problem, "choose a number in this range")

    @property
    def training_samples(self) -> int:
        """Images to train on; known without reading any."""
        balanced = self._balanced_samples
        if not self.training_shares:
            return balanced
        return sum(kept_of_each(self.training_shares, balanced))

    @property
    def _balanced_samples(self) -> int:
        """Images to train on before classes are reduced."""
        return self.train_samples or self.TRAINING - self.validation

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, height, width; known without reading any."""
        return self.SHAPE

    def load(self, seed: int) -> Splits:
        """The split of this configuration, as bytes (N, K, H, W); `seed` is not used.

        All callers share one object.

        Raises:
            ConfigError: if the files are not found or are damaged, or torchvision is missing.
        """
        return _load(self)

    def download(self) -> None:
        """Download the data set, unless it is in one of the folders already.

        It goes into the chosen folder, or into the user's cache.

        Raises:
            ConfigError: if it cannot be fetched or written.
        """
        layout = self._layout()
        if any(layout.is_in(folder) or layout.archives_in(folder) for folder in data_folders()):
            return
        target = Path(chosen_folder() or cache_folder())
        if (target / layout.folder).exists():
            problem = f"{target / layout.folder} is incomplete"
            raise ConfigError("--download", problem, "remove it and try again")
        try:
            put_in_place(target, layout.folder, lambda making: self._dataset(making, download=True))
        except (OSError, RuntimeError, HTTPException) as error:
            problem = f"{self.name} cannot be downloaded into {target}: {error}"
            remedy = f"put {layout.folder}/ there some other way"
            raise ConfigError("--download", problem, remedy) from None

    @abstractmethod
    def _layout(self) -> Layout:
        """Its layout in a folder."""

    @abstractmethod
    def _dataset(self, root: Path, *, train: bool = True, download: bool = False) -> Any:
        """Torchvision's own data set."""

    @abstractmethod
    def _read(self, root: Path, *, train: bool) -> tuple[Tensor, Tensor]:
        """Images (N, K, H, W) in bytes and classes (N,), in the order of the files."""


@dataclass(frozen=True)
class FashionMNISTConfig(ImageConfig):
    """Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28 pixels, ten kinds of clothing."""

    name: Literal["fashion_mnist"] = "fashion_mnist"

    SHAPE: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    TRAINING: ClassVar[int] = 60_000

    # Torchvision knows the checksums of the published archives. Debian's differ in the name and the
    # time in each header, so the content is checked instead.
    _CONTENT: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }

    def _layout(self) -> Layout:
        raw = "FashionMNIST/raw"
        return Layout(
            name=self.name,
            folder="FashionMNIST",
            files={f"{raw}/{name}": md5 for name, md5 in self._CONTENT.items()},
            archives=tuple(f"{name}.gz" for name in self._CONTENT),
            archived_in=(raw, "fashion-mnist", ""),  # torchvision's, Debian's, or neither
            unpacks_into=raw,
            package="dataset-fashion-mnist",
        )

    def _dataset(self, root: Path, *, train: bool = True, download: bool = False) -> Any:
        return _torchvision().FashionMNIST(root, train=train, download=download)

    def _read(self, root: Path, *, train: bool) -> tuple[Tensor, Tensor]:
        # Not with torchvision's data set: it would prefer an unchecked `processed/` that older
        # versions left beside the checked files.
        read, raw = _torchvision().mnist, root / "FashionMNIST" / "raw"
        part = "train" if train else "t10k"
        images = read.read_image_file(raw / f"{part}-images-idx3-ubyte")
        return images[:, None], read.read_label_file(raw / f"{part}-labels-idx1-ubyte")


@dataclass(frozen=True)
class CIFAR10Config(ImageConfig):
    """CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 pixels, ten kinds of things."""

    name: Literal["cifar10"] = "cifar10"

    SHAPE: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    TRAINING: ClassVar[int] = 50_000

    def _layout(self) -> Layout:
        source = _torchvision().CIFAR10
        files = [*source.train_list, *source.test_list]
        files.append((source.meta["filename"], source.meta["md5"]))
        return Layout(
            name=self.name,
            folder=source.base_folder,
            files={f"{source.base_folder}/{name}": md5 for name, md5 in files},
            archives=(source.filename,),
        )

    def _dataset(self, root: Path, *, train: bool = True, download: bool = False) -> Any:
        return _torchvision().CIFAR10(root, train=train, download=download)

    def _read(self, root: Path, *, train: bool) -> tuple[Tensor, Tensor]:
        dataset = self._dataset(root, train=train)
        # Torchvision returns a view (N, H, W, K) of the file's (N, K, H, W): undo it without a copy
        pixels = torch.from_numpy(dataset.data.transpose(0, 3, 1, 2))
        return pixels, torch.tensor(dataset.targets)


@lru_cache(maxsize=2)  # a study has one; each is up to 180 MB
def _load(config: ImageConfig) -> Splits:
    unpack = _torchvision().utils.extract_archive
    root = find(config._layout(), unpack)
    pixels, labels = config._read(root, train=True)
    sizes = [config.validation, config._balanced_samples]
    seed = config.split_seed if config.validation_seed is None else config.validation_seed
    validation, train = disjoint(labels, sizes, seed, part=0)
    learned = pixels[train]
    scale = scale_of(learned)
    chosen = Labelled(pixels[validation], labels[validation], scale)
    trained = Labelled(learned, labels[train], scale)
    if config.training_shares:
        kept = kept_of_each(config.training_shares, config._balanced_samples)
        trained = with_shares(trained, kept, seed)
    trained = with_label_noise(trained, config.label_noise, _NUM_CLASSES, seed)
    del pixels  # before the test set is read
    pixels, labels = config._read(root, train=False)
    (test,) = disjoint(labels, [config.test_samples or len(labels)], config.split_seed, part=1)
    return Splits(trained, chosen, Labelled(pixels[test], labels[test], scale), _NUM_CLASSES)


def _torchvision() -> Any:
    """`torchvision.datasets`."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: built for another torch
        remedy = "install the torchvision version that matches this torch"
        raise ConfigError(
            "data.name",
            f"images need torchvision, which cannot be imported: {reason_of(error)}",
            remedy,
        ) from None
    return datasets
