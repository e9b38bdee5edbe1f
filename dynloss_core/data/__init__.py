"""Data sets, all as `Splits`: training, validation and test sets, disjoint by construction."""

from dynloss_core.data.digits import DigitsConfig
from dynloss_core.data.image_folders import chosen_folder, use_data_folder
from dynloss_core.data.images import CIFAR10Config, FashionMNISTConfig, ImageConfig
from dynloss_core.data.registry import DATA_SETS, DataConfig
from dynloss_core.data.spirals import SpiralsConfig
from dynloss_core.data.splits import Labelled, PixelScale, Splits, attainable_accuracy
from dynloss_core.data.tabular import TableConfig
from dynloss_core.data.torch_data_sets import splits_of
from dynloss_core.data.user_images import FolderConfig

__all__ = [
    "DATA_SETS",
    "CIFAR10Config",
    "DataConfig",
    "DigitsConfig",
    "FashionMNISTConfig",
    "FolderConfig",
    "ImageConfig",
    "Labelled",
    "PixelScale",
    "SpiralsConfig",
    "Splits",
    "TableConfig",
    "attainable_accuracy",
    "chosen_folder",
    "splits_of",
    "use_data_folder",
]
