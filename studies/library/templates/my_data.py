"""A data set of your own: two rings to tell apart. Name it in a study: `data: {name: my_data}`.

A Parquet, CSV or .npz file needs no code: `data: {name: table, path: ..., target: ...}`. Nor does a
folder of images: `data: {name: folder, path: ...}`. For a data set of torchvision see `splits_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from dynloss_core.data import Labelled, Splits


@dataclass(frozen=True)
class MyData:
    """Its name comes first; the other fields are keys of a study's file.

    Args:
        samples: samples in each of training, validation and test set.
        noise: standard deviation of the radius.
    """

    name: Literal["my_data"] = "my_data"
    samples: int = 200
    noise: float = 0.15

    num_classes: ClassVar[int] = 2

    @property
    def training_samples(self) -> int:
        """Samples to train on."""
        return self.samples

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return (2,)

    def load(self, seed: int) -> Splits:
        """The three parts that belong to a network's seed: drawn anew, or always the same."""
        draw = np.random.default_rng(seed)
        train, validation, test = (self._part(draw) for _ in range(3))
        return Splits(train, validation, test, self.num_classes)

    def _part(self, draw: np.random.Generator) -> Labelled:
        classes = np.arange(self.samples) % self.num_classes
        radius = 1 + 0.5 * classes + self.noise * draw.normal(size=self.samples)
        angle = draw.uniform(0, 2 * np.pi, self.samples)
        points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return Labelled(torch.from_numpy(points), torch.from_numpy(classes))
