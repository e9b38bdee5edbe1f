"""P values of several comparisons, corrected for their number.

Over sizes or settings, a small share of the claims may be false (Benjamini and Hochberg 1995, J. R.
Stat. Soc. B 57:289); over named pairs of arms, none may be (Holm 1979, Scand. J. Stat. 6:65).
Claims that arms differ and claims that they are equivalent are two families.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from studies.analysis.statistics.alpha_spending import share_of_look

__all__ = ["Method", "adjusted_p"]

Method = Literal["benjamini-hochberg", "holm"]


def adjusted_p(p: Sequence[float], *, method: Method, look: int = 1) -> list[float]:
    """P values, adjusted for their number and the number of the look (see `looks`)."""
    if not p:
        return []
    values = np.array(p, dtype=float)
    adjusted = _holm(values) if method == "holm" else stats.false_discovery_control(values)
    return [min(1.0, float(value) / share_of_look(look)) for value in adjusted]


def _holm(p: np.ndarray) -> np.ndarray:
    """Of m, the k-th smallest times m - k + 1, and no less than any smaller one. (statsmodels' own
    searches for garbage each time, for up to half a second.)"""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return adjusted.clip(max=1.0)
