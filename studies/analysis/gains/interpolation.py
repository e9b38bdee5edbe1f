"""Interpolation: how many networks of an arm, at its best setting, fit all their training data.

One rule, everywhere: an arm interpolates where at least 90% of its networks reach the best training
accuracy that the data allow. (That can be less than 1, because equal inputs of different classes
cannot all be right.) The share has an exact 95% interval (Clopper and Pearson 1934, Biometrika
26:404).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from dynloss_core import keys

__all__ = ["INTERPOLATION_SHARE", "Interpolation", "interpolation_of"]

INTERPOLATION_SHARE = 0.9
"""The share of networks that must fit their training data."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Interpolation:
    """The networks of an arm that fit all their training data.

    Args:
        reached: the number of networks that fit.
        n: the number of networks.
        low: lower end of the interval of the share that fits.
        high: upper end.
    """

    reached: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The share of networks that fit."""
        return self.reached / self.n

    @property
    def holds(self) -> bool:
        """Whether the share is large enough for the arm to interpolate."""
        return self.reached >= INTERPOLATION_SHARE * self.n - _ROUNDING

    def __str__(self) -> str:
        return f"{self.reached} of {self.n} networks [{self.low:.0%}, {self.high:.0%}]"


def interpolation_of(networks: pd.DataFrame, attainable: float) -> Interpolation:
    """How many networks fit their training data; a diverged network does not.

    Args:
        networks: rows of the members table for one setting; at least one.
        attainable: the best training accuracy that the data allow.
    """
    reached = networks[keys.TRAIN_ACCURACY].to_numpy(dtype=float) >= attainable - _ROUNDING
    count = int(np.count_nonzero(reached & ~networks[keys.DIVERGED].to_numpy(dtype=bool)))
    low, high = proportion_confint(count, len(networks), method="beta")
    return Interpolation(count, len(networks), float(low), float(high))
