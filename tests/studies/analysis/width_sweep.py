"""A sweep over widths: on which side of the threshold the dynamical arm gains is known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dynloss_core import keys

WIDTH = "model.width"
WIDTHS = (10, 20, 50, 100)
ATTAINABLE = 298 / 300
SEEDS = 60


def sweep(phase: str = keys.SEARCH, first_seed: int = 0) -> pd.DataFrame:
    """Two settings an arm, the second better. The dynamical arm trains better at widths 10 and 20
    (+0.2), nowhere else; the static arm interpolates from 50 on; nothing generalises better."""
    draws = np.random.default_rng(first_seed)
    rows = []
    for arm in (keys.DYNAMICAL, keys.STATIC):
        for index, width in enumerate(WIDTHS):
            for setting in range(2):
                for seed in range(SEEDS):
                    small = width < 50
                    train = 0.5 + 0.2 * (arm == keys.DYNAMICAL) if small else ATTAINABLE
                    noise = draws.normal(0, 0.01)
                    rows.append(
                        {
                            keys.PHASE: phase,
                            keys.ARM: arm,
                            keys.TRIAL: 2 * index + setting,
                            keys.SEED: first_seed + seed,
                            WIDTH: width,
                            keys.PARAMETERS: 6 * width + 3,
                            keys.TRAIN_SAMPLES: 300,
                            keys.DIVERGED: False,
                            keys.TRAIN_ACCURACY: train + noise * small - 0.3 * (setting == 0),
                            keys.VALIDATION_ACCURACY: 0.6 + noise - 0.3 * (setting == 0),
                            keys.TEST_ACCURACY: 0.6 + noise if phase != keys.SEARCH else np.nan,
                        }
                    )
    table = pd.DataFrame(rows)
    return table if phase == keys.SEARCH else table[table[keys.TRIAL] % 2 == 1]
