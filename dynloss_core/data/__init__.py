"""Data sets, all behind one `Splits`: training, validation and test, disjoint by construction."""

from dynloss_core.data.digits import DigitsConfig
from dynloss_core.data.spirals import SpiralsConfig
from dynloss_core.data.splits import Labelled, PixelScale, Splits, attainable_accuracy

__all__ = [
    "DataConfig",
    "DigitsConfig",
    "Labelled",
    "PixelScale",
    "SpiralsConfig",
    "Splits",
    "attainable_accuracy",
]

DataConfig = SpiralsConfig | DigitsConfig
