"""The table of networks, by their names in a study's file.

A network is added by a row here. Engines and trackers find what they must know about it from the
built network (see `traits`), so a row needs nothing else.
"""

from __future__ import annotations

from typing import Protocol

from torch import nn

from dynloss_core.models.initialisation import Initialisation
from dynloss_core.models.mlp import MLPConfig
from dynloss_core.models.myrtle import Myrtle5Config
from dynloss_core.models.wide_resnet import WideResNetConfig

__all__ = ["MODELS", "ModelConfig"]


class ModelConfig(Protocol):
    """The configuration of a network: a frozen dataclass of plain values, its name first."""

    @property
    def name(self) -> str:
        """Its name, the key of its row in `MODELS`."""

    @property
    def initialisation(self) -> Initialisation:
        """How its weights are drawn (see `initialisation.initialise`)."""

    def __hash__(self) -> int:
        """Hashable, so that equal configurations count as one problem."""

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The network, with parameters not yet drawn.

        It returns logits (N, C) for inputs (N, *input_shape).

        Raises:
            ConfigError: if it cannot take such inputs.
        """


MODELS: dict[str, type[ModelConfig]] = {
    "mlp": MLPConfig,
    "myrtle5": Myrtle5Config,
    "wide_resnet": WideResNetConfig,
}
