"""Small problems that together test everything an engine must do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from dynloss_core.data import DataConfig, DigitsConfig, Labelled, PixelScale, SpiralsConfig, Splits
from dynloss_core.models import MLPConfig, ModelConfig, Myrtle5Config, WideResNetConfig
from dynloss_core.training import Augmentation, LearningRateSchedule, Member, Problem, Setup

__all__ = [
    "CASES",
    "MIXED",
    "SLOWER",
    "SMALL_SPIRALS",
    "TWO_MEMBERS",
    "WITH_MOMENTUM",
    "BytesConfig",
    "Case",
    "setup_of",
    "short_problem",
]

SMALL_SPIRALS = SpiralsConfig(points_per_class=7)


@dataclass(frozen=True)
class BytesConfig:
    """Colour images as bytes, like the image data sets, but few and small."""

    name: str = "bytes"
    samples: int = 37
    channels: int = 3
    side: int = 8
    num_classes: int = 3

    @property
    def training_samples(self) -> int:
        """Samples to train on."""
        return self.samples

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: channels, height, width."""
        return (self.channels, self.side, self.side)

    def load(self, seed: int) -> Splits:
        """The same splits for every seed."""
        return _bytes(self)


@cache
def _bytes(config: BytesConfig) -> Splits:
    draws = torch.Generator().manual_seed(0)
    shape = (config.samples, config.channels, config.side, config.side)
    scale = PixelScale((0.4, 0.5, 0.6)[: config.channels], (0.2, 0.3, 0.25)[: config.channels])
    splits = []
    for _ in range(3):
        pixels = torch.randint(0, 256, shape, generator=draws, dtype=torch.uint8)
        targets = torch.randint(0, config.num_classes, shape[:1], generator=draws)
        splits.append(Labelled(pixels, targets, scale))
    train, validation, test = splits
    return Splits(train, validation, test, config.num_classes)


@dataclass(frozen=True)
class Case:
    """A problem and an ensemble to train on it."""

    name: str
    problem: Problem
    members: tuple[Member, ...]


def setup_of(case: Case) -> Setup:
    """The ensemble of a case, as every engine starts from it."""
    return Setup.build(case.problem, case.members)


def short_problem(model: ModelConfig, data: DataConfig) -> Problem:
    """A few steps of a network, in mini-batches."""
    return Problem(
        data=data,
        model=model,
        batch_size=8,
        dtype="float64",
        steps=9,
        static_tail=2,
        evaluate_every=3,
    )


def _problem(**changes: Any) -> Problem:
    defaults: dict[str, Any] = {
        "data": SMALL_SPIRALS,
        "model": MLPConfig(width=11),
        "dtype": "float64",
        "steps": 31,
        "static_tail": 6,
        "evaluate_every": 6,
    }
    return Problem(**{**defaults, **changes})


MIXED = (
    Member(learning_rate=0.5, seed=3, period=5, amplitude=70.0),
    Member(learning_rate=0.3, seed=4),
    Member(learning_rate=1.0, seed=3, period=1000, amplitude=5.0),
)
WITH_MOMENTUM = (
    Member(0.05, seed=1, period=2, amplitude=20.0, momentum=0.9, weight_decay=1e-2),
    Member(0.1, seed=2, momentum=0.5),
    Member(0.2, seed=2, period=7, amplitude=3.0, weight_decay=1e-3),
)
TWO_MEMBERS = (
    Member(0.05, seed=1, period=3, amplitude=20.0, momentum=0.9, weight_decay=1e-2),
    Member(0.1, seed=2),
)
SLOWER = (
    Member(0.02, seed=1, period=2, amplitude=20.0, momentum=0.9, weight_decay=1e-2),
    Member(0.05, seed=2),
)

CASES = [
    Case("one hidden layer, full batch", _problem(), MIXED),
    Case("one member", _problem(), MIXED[:1]),
    Case("linear", _problem(model=MLPConfig(width=1, depth=0)), MIXED),
    Case("three hidden layers", _problem(model=MLPConfig(width=6, depth=3)), MIXED),
    Case("two classes", _problem(data=SpiralsConfig(points_per_class=5, num_classes=2)), MIXED),
    Case("sample-weighted MSE", _problem(loss="mse_sample_weighted"), MIXED),
    Case("output-weighted MSE", _problem(loss="mse_output_weighted"), MIXED),
    Case("mini-batch with momentum", _problem(batch_size=4), WITH_MOMENTUM),
    Case(
        "mini-batch with Nesterov, warm-up and decay",
        _problem(
            batch_size=5,
            nesterov=True,
            learning_rate_schedule=LearningRateSchedule(warmup=0.2, decay="cosine", final=0.1),
        ),
        WITH_MOMENTUM,
    ),
    Case("sharpness-aware", _problem(sam_radius=0.05), MIXED),
    Case(
        "sharpness-aware, three hidden layers and mini-batches with momentum",
        _problem(model=MLPConfig(width=6, depth=3), batch_size=4, sam_radius=0.02),
        WITH_MOMENTUM,
    ),
    Case(
        "digits",
        _problem(data=DigitsConfig(), batch_size=64, steps=25, model=MLPConfig(width=5)),
        WITH_MOMENTUM,
    ),
    Case(
        "small convnet",
        _problem(data=DigitsConfig(), batch_size=16, steps=25, model=Myrtle5Config(channels=3)),
        WITH_MOMENTUM,
    ),
    Case(
        "sharpness-aware convnet",
        _problem(
            data=DigitsConfig(),
            batch_size=16,
            steps=15,
            model=Myrtle5Config(channels=2),
            sam_radius=0.05,
        ),
        WITH_MOMENTUM[1:],
    ),
    *(
        Case(
            f"wide residual network, {normalisation} normalisation",
            _problem(
                data=BytesConfig(),
                batch_size=8,
                steps=13,
                evaluate_every=5,
                nesterov=True,
                augmentation=Augmentation(crop=2, flip=True),
                model=WideResNetConfig(depth=10, widening=1, normalisation=normalisation),
            ),
            SLOWER,
        )
        for normalisation in ("batch", "group", "none")
    ),
    Case(
        "dropout",
        _problem(
            data=BytesConfig(channels=1),
            batch_size=8,
            steps=8,
            static_tail=2,
            evaluate_every=4,
            model=WideResNetConfig(depth=10, widening=1, dropout=0.4),
        ),
        SLOWER[:1],
    ),
    Case(
        "bytes without augmentation",
        _problem(data=BytesConfig(), batch_size=8, steps=13, model=Myrtle5Config(channels=4)),
        SLOWER,
    ),
    Case(
        "full batch of augmented images",
        _problem(
            data=BytesConfig(),
            steps=13,
            augmentation=Augmentation(flip=True),
            model=Myrtle5Config(channels=4),
        ),
        SLOWER,
    ),
]
