"""The test problems, listed once."""

from __future__ import annotations

from dataclasses import dataclass

from dynloss_core.data import DigitsConfig, SpiralsConfig
from dynloss_core.models import MLPConfig, Myrtle5Config
from dynloss_core.training import LearningRateSchedule, Member, Problem

SMALL_SPIRALS = SpiralsConfig(points_per_class=7)


@dataclass(frozen=True)
class Case:
    """A problem and an ensemble to train on it."""

    name: str
    problem: Problem
    members: tuple[Member, ...]


def _problem(**changes: object) -> Problem:
    defaults: dict[str, object] = {
        "data": SMALL_SPIRALS,
        "model": MLPConfig(width=11),
        "dtype": "float64",
        "steps": 53,
        "static_tail": 9,
        "evaluate_every": 10,
    }
    return Problem(**{**defaults, **changes})  # type: ignore[arg-type]


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
    Case(
        "digits",
        _problem(data=DigitsConfig(), batch_size=64, steps=41, model=MLPConfig(width=5)),
        WITH_MOMENTUM,
    ),
    Case(
        "small convnet",
        _problem(data=DigitsConfig(), batch_size=16, steps=25, model=Myrtle5Config(channels=3)),
        WITH_MOMENTUM,
    ),
]
