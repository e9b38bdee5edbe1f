"""Networks, each with its configuration."""

from dynloss_core.models.initialisation import Initialisation, initialise
from dynloss_core.models.mlp import MLP, MLPConfig
from dynloss_core.models.myrtle import Myrtle5, Myrtle5Config
from dynloss_core.models.wide_resnet import WideResNet, WideResNetConfig

__all__ = [
    "MLP",
    "Initialisation",
    "MLPConfig",
    "ModelConfig",
    "Myrtle5",
    "Myrtle5Config",
    "WideResNet",
    "WideResNetConfig",
    "initialise",
]

ModelConfig = MLPConfig | Myrtle5Config | WideResNetConfig
