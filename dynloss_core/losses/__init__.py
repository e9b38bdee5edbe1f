"""Dynamical losses: per-sample losses, each weighted by the current weight of its class."""

from dynloss_core.losses.closed_forms import one_hot_rows
from dynloss_core.losses.modules import DynamicalCrossEntropy, DynamicalLoss, DynamicalMSE
from dynloss_core.losses.registry import (
    LOSSES,
    KernelForm,
    Loss,
    LossName,
    class_losses,
    kernel_form,
    output_curvature,
    output_gradient,
    refusal_of_form,
    refusal_of_groups,
    weighted_loss,
)
from dynloss_core.losses.weighted import MSEVariant, weighted_cross_entropy, weighted_mse

__all__ = [
    "LOSSES",
    "DynamicalCrossEntropy",
    "DynamicalLoss",
    "DynamicalMSE",
    "KernelForm",
    "Loss",
    "LossName",
    "MSEVariant",
    "class_losses",
    "kernel_form",
    "one_hot_rows",
    "output_curvature",
    "output_gradient",
    "refusal_of_form",
    "refusal_of_groups",
    "weighted_cross_entropy",
    "weighted_loss",
    "weighted_mse",
]
