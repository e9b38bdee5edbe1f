"""A network of your own. Change it, and name it in a study: `model: {name: my_network}`.

`dynloss check my_network.py` says which engines take it, and why others do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class MyNetwork:
    """Its name comes first; the other fields are keys of a study's file, and can be searched.

    Args:
        width: units in the hidden layer.
    """

    name: Literal["my_network"] = "my_network"
    width: int = 16

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Any module that turns inputs (N, *input_shape) into logits (N, num_classes)."""
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(input_shape), self.width),
            nn.BatchNorm1d(self.width),
            nn.ReLU(),
            nn.Linear(self.width, num_classes),
        )
