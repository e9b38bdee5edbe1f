"""The table of data sets, by their names in a study's file.

A data set is added by a row here.
"""

from __future__ import annotations

from typing import Protocol

from dynloss_core.data.digits import DigitsConfig
from dynloss_core.data.images import CIFAR10Config, FashionMNISTConfig
from dynloss_core.data.spirals import SpiralsConfig
from dynloss_core.data.splits import Splits
from dynloss_core.data.tabular import TableConfig
from dynloss_core.data.user_images import FolderConfig

__all__ = ["DATA_SETS", "DataConfig"]


class DataConfig(Protocol):
    """The configuration of a data set: a frozen dataclass of plain values, its name first."""

    @property
    def name(self) -> str:
        """Its name, the key of its row in `DATA_SETS`."""

    @property
    def num_classes(self) -> int:
        """C."""

    @property
    def training_samples(self) -> int:
        """Samples to train on."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample; (channels, height, width) of an image."""

    def load(self, seed: int) -> Splits:
        """The three splits that belong to a member's seed; the same seed gives the same splits.

        Raises:
            ConfigError: if the files are not found.
        """


DATA_SETS: dict[str, type[DataConfig]] = {
    "spirals": SpiralsConfig,
    "digits": DigitsConfig,
    "fashion_mnist": FashionMNISTConfig,
    "cifar10": CIFAR10Config,
    "table": TableConfig,
    "folder": FolderConfig,
}
