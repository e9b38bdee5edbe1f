"""Dynamical loss functions: class weights that oscillate, so that each class has its turn."""

from dynloss_core.losses import (
    DynamicalCrossEntropy,
    DynamicalMSE,
    weighted_cross_entropy,
    weighted_mse,
)
from dynloss_core.schedules import ClassWeightSchedule

__all__ = [
    "ClassWeightSchedule",
    "DynamicalCrossEntropy",
    "DynamicalMSE",
    "weighted_cross_entropy",
    "weighted_mse",
]
