"""A user's own files as a data set: what they held when a study was made, and how they are split.

A configuration records what the files hold, including a checksum. So a study notices files that
changed, and needs them only to train. Their location changes no result, and no hash.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dynloss_core.config import NOT_HASHED, ConfigError, refuse_other_choices
from dynloss_core.data.image_folders import chosen_folder
from dynloss_core.data.splits import Splits, check_seeds, disjoint

__all__ = ["PARTS", "Contents", "UserFiles"]

PARTS = ("train", "validation", "test")
_MIN_SAMPLES = 5  # samples in a part


@dataclass(frozen=True)
class Contents:
    """What the files of a data set hold.

    Args:
        sha256: their checksum.
        classes: the values of the target, in the order of the class indices.
        input_shape: shape of one sample.
        samples: number of samples in the training, validation and test sets, if the files define
            all three; in the training and test sets, if validation is drawn from training;
            otherwise their total number.
    """

    sha256: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    samples: tuple[int, ...]


@dataclass(frozen=True)
class UserFiles(ABC):
    """A file, or a folder of files, that is split once for all members.

    The split does not depend on a member's seed, for the reason given in `DigitsConfig`.

    Args:
        path: its location, relative to the study's file. A machine that does not have it there
            looks for its name in the folder of `--data-dir`.
        test: share of the samples for the test set.
        validation: share of the samples for validation.
        split_seed: the seed of the split.
        validation_seed: the seed that draws the validation set from the samples outside the test
            set; None uses `split_seed`, or keeps the validation set that the files name.
        contents: what the files held when the study was made; by default what they hold now.
    """

    name: str
    path: str = field(default="", metadata=NOT_HASHED)
    test: float = 0.2
    validation: float = 0.2
    split_seed: int = 0
    validation_seed: int | None = None
    contents: Contents | None = None

    paths: ClassVar[tuple[str, ...]] = ("path",)
    KIND: ClassVar[Literal["file", "folder"]]
    FORM: ClassVar[str]
    """What the path must name, for messages."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("path", "is missing", f"name a {self.KIND}: {self.FORM}")
        refuse_other_choices(self)
        object.__setattr__(self, "path", str(Path(self.path).absolute()))
        for key in ("validation", "test"):
            share = getattr(self, key)
            if not 0 < share < 1:
                raise ConfigError(key, f"{share} is not a fraction", "use a number between 0 and 1")
        check_seeds(self.split_seed, self.validation_seed)
        if self.contents is None:
            object.__setattr__(self, "contents", self._read_contents())
        train, validation, test = self.sizes
        if min(train, validation, test) < _MIN_SAMPLES:
            problem = f"{train} training, {validation} validation and {test} test samples"
            raise ConfigError("test", problem, f"each part needs {_MIN_SAMPLES}")

    @abstractmethod
    def _read_contents(self) -> Contents:
        """What the files hold now.

        Raises:
            ConfigError: if they are not found, cannot be read, or do not fit.
        """

    @abstractmethod
    def load(self, seed: int) -> Splits:
        """The split of this configuration; `seed` is not used.

        Raises:
            ConfigError: if the files are not found, cannot be read, or have changed.
        """

    @property
    def held(self) -> Contents:
        """What the files held when the study was made."""
        assert self.contents is not None, "filled in when it was made"
        return self.contents

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of samples in the training, validation and test sets.

        Raises:
            ConfigError: if `contents` was written by hand, with more than three numbers or none.
        """
        match self.held.samples:
            case (samples,):
                test, validation = round(self.test * samples), round(self.validation * samples)
                return samples - test - validation, validation, test
            case (samples, test):
                validation = round(self.validation * samples)
                return samples - validation, validation, test
            case (train, validation, test):
                return train, validation, test
        problem = f"{len(self.held.samples)} numbers of samples"
        raise ConfigError("contents.samples", problem, "leave `contents` out: it is filled in")

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.held.classes)

    @property
    def training_samples(self) -> int:
        """Samples to train on."""
        return self.sizes[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.held.input_shape

    def found(self) -> Path:
        """The file or folder, at its path or in the chosen data folder.

        Raises:
            ConfigError: if it is in neither.
        """
        given, chosen = Path(self.path), chosen_folder()
        places = [given, *([Path(chosen) / given.name] if chosen else [])]
        for path in places:
            if path.is_file() if self.KIND == "file" else path.is_dir():
                return path
        looked = " nor ".join(map(str, places))
        remedy = "correct the path, or name the folder that holds it with --data-dir"
        raise ConfigError("path", f"there is no {self.KIND} {looked}", remedy)

    def refuse_change(self, now: Contents) -> None:
        """Refuse files whose contents have changed since the study was made.

        Raises:
            ConfigError: naming the path.
        """
        if now != self.contents:
            problem = f"{self.path} has changed since the study was made"
            remedy = f"put the {self.KIND} back, or choose another name for the study"
            raise ConfigError("data.path", problem, remedy)

    def split_indices(self, targets: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of the training, validation and test sets; parts that are drawn have the classes
        in equal shares.

        Args:
            targets: (N,) class indices.
            given: (N,) the part of each sample, as an index of `PARTS`, if the files name parts. If
                they name no validation samples, those are drawn from the training samples.
        """
        train_size, validation_size, test_size = self.sizes
        seed = self.split_seed if self.validation_seed is None else self.validation_seed
        if given is None:
            (test,) = disjoint(targets, [test_size], self.split_seed, part=1)
            is_left = torch.ones(len(targets), dtype=torch.bool)
            is_left[test] = False
            left = is_left.nonzero().squeeze(1)
        else:
            train, validation, test = ((given == part).nonzero().squeeze(1) for part in range(3))
            if len(validation) and self.validation_seed is None:
                return train, validation, test
            left = torch.cat([train, validation]).sort().values
        sizes = [validation_size, train_size]
        validation, train = (
            left[indices] for indices in disjoint(targets[left], sizes, seed, part=0)
        )
        return train, validation, test
