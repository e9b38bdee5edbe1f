"""Networks, each with its configuration."""

from dynloss_core.models.dropout import Dropout
from dynloss_core.models.initialisation import Initialisation, initialise
from dynloss_core.models.mlp import MLP, MLPConfig
from dynloss_core.models.myrtle import Myrtle5, Myrtle5Config
from dynloss_core.models.registry import MODELS, ModelConfig
from dynloss_core.models.traits import Traits, traits_of
from dynloss_core.models.wide_resnet import WideResNet, WideResNetConfig

__all__ = [
    "MLP",
    "MODELS",
    "Dropout",
    "Initialisation",
    "MLPConfig",
    "ModelConfig",
    "Myrtle5",
    "Myrtle5Config",
    "Traits",
    "WideResNet",
    "WideResNetConfig",
    "initialise",
    "traits_of",
]
