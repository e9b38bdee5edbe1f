"""A map over period and amplitude whose gains are known."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from dynloss_core import keys

METRIC = keys.VALIDATION_ACCURACY
PERIODS = [10, 50, 100, 500, 1000]
AMPLITUDES = [2.0, 20.0]
RATES = [0.1, 1.0]


def rows_of(arm: str, trial: int, values: np.ndarray, **point: object) -> list[dict]:
    return [
        {
            keys.ARM: arm,
            keys.TRIAL: trial,
            keys.SEED: seed,
            keys.PERIOD: None,
            keys.AMPLITUDE: 1.0,
            keys.DIVERGED: bool(np.isnan(value)),
            METRIC: value,
            **point,
        }
        for seed, value in enumerate(values)
    ]


def search(
    seeds: int = 16, rates: list[float] = RATES, draws: np.random.Generator | None = None
) -> pd.DataFrame:
    """Long periods gain 0.2 over the static arm at learning rate 1, the longest diverge; at
    learning rate 0.1 both arms are worse by 0.3."""
    draws = draws or np.random.default_rng(2)
    of_seed, rows = 0.5 + 0.32 * np.arange(seeds) / seeds, []
    for trial, rate in enumerate(rates):
        rows += rows_of(
            keys.STATIC, trial, of_seed - 0.3 * (rate < 1), **{keys.LEARNING_RATE: rate}
        )
    points = itertools.product(PERIODS, AMPLITUDES, rates)
    for trial, (period, amplitude, rate) in enumerate(points):
        gain = 0.2 * (period >= 100) - 0.3 * (rate < 1)
        values = of_seed + gain + draws.normal(0, 0.02, seeds)
        if period == max(PERIODS):
            values[0] = np.nan
        point = {keys.PERIOD: period, keys.AMPLITUDE: amplitude, keys.LEARNING_RATE: rate}
        rows += rows_of(keys.DYNAMICAL, trial, values, **point)
    return pd.DataFrame(rows)
