"""Scikit-learn's digits: 1,797 handwritten digits of 8 x 8 pixels, the embedded real data set.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, doi:10.24432/C50P49; the copy that scikit-learn ships (its test part).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, Literal

import torch

from dynloss_core.config import ADDED_LATER, ConfigError
from dynloss_core.data.label_noise import check_label_noise, with_label_noise
from dynloss_core.data.splits import Labelled, Splits, check_seeds, disjoint

__all__ = ["DigitsConfig"]

_BRIGHTEST = 16.0
_NUM_CLASSES = 10
_SHAPE = (8, 8)
_SAMPLES = 1797


@dataclass(frozen=True)
class DigitsConfig:
    """Digits, split once for all members, with the classes in equal shares.

    The split does not depend on a member's seed. Otherwise a sample in one seed's validation set,
    which chose a hyperparameter, could be in another seed's test set, which reports it.

    Args:
        split_seed: the seed of the split.
        validation_seed: the seed that draws the validation set from the samples outside the test
            set; None uses `split_seed`.
        validation: share of the samples for validation.
        test: share of the samples for the test set.
        train_samples: samples to train on; None takes all that are left. The others are not used.
        label_noise: share of the training labels that are redrawn at random (see `label_noise`).
    """

    name: Literal["digits"] = "digits"
    split_seed: int = 0
    validation: float = 0.2
    test: float = 0.2
    validation_seed: int | None = field(default=None, metadata=ADDED_LATER)
    train_samples: int | None = field(default=None, metadata=ADDED_LATER)
    label_noise: float = field(default=0.0, metadata=ADDED_LATER)

    num_classes: ClassVar[int] = _NUM_CLASSES

    def __post_init__(self) -> None:
        for key in ("validation", "test"):
            share = getattr(self, key)
            if not 0 < share < 1:
                raise ConfigError(key, f"{share} is not a fraction", "use a number between 0 and 1")
        shares = (self.validation, self.test, 1 - self.validation - self.test)
        if min(shares) * _SAMPLES < 5 * _NUM_CLASSES:
            problem = f"fractions {self.validation:g} and {self.test:g} leave too small a split"
            raise ConfigError("test", problem, "each split needs five samples per class")
        check_seeds(self.split_seed, self.validation_seed)
        check_label_noise(self.label_noise)
        fewest, most = 5 * _NUM_CLASSES, int(shares[-1] * _SAMPLES) - 2  # parts are rounded up
        if self.train_samples is not None and not fewest <= self.train_samples <= most:
            problem = f"{self.train_samples} is not between {fewest} and {most}"
            raise ConfigError("train_samples", problem, "choose a number in this range")

    @property
    def training_samples(self) -> int:
        """Samples to train on."""
        return len(_load(self).train)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: channels, height, width."""
        return (1, *_SHAPE)

    def load(self, seed: int) -> Splits:
        """The split of this configuration; `seed` is not used."""
        return _load(self)


@cache
def _load(config: DigitsConfig) -> Splits:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ConfigError(
            "data.name", "digits needs scikit-learn", "pip install scikit-learn"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    rest, test_x, rest_y, test_y = train_test_split(
        pixels, labels, test_size=config.test, stratify=labels, random_state=config.split_seed
    )
    share_of_rest = config.validation / (1 - config.test)
    seed = config.split_seed if config.validation_seed is None else config.validation_seed
    train_x, validation_x, train_y, validation_y = train_test_split(
        rest, rest_y, test_size=share_of_rest, stratify=rest_y, random_state=seed
    )
    parts = [(train_x, train_y), (validation_x, validation_y), (test_x, test_y)]
    train, validation, test = (
        Labelled(
            torch.from_numpy(x / _BRIGHTEST).reshape(-1, 1, *_SHAPE), torch.from_numpy(y).long()
        )
        for x, y in parts
    )
    if config.train_samples is not None:
        (kept,) = disjoint(train.targets, [config.train_samples], seed, part=0)
        train = train.at(kept)
    train = with_label_noise(train, config.label_noise, _NUM_CLASSES, seed)
    return Splits(train, validation, test, _NUM_CLASSES)
