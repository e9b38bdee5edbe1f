"""Networks, each with its configuration."""

from dynloss_core.models.mlp import MLP, Initialisation, MLPConfig

__all__ = ["MLP", "Initialisation", "MLPConfig", "ModelConfig"]

ModelConfig = MLPConfig
