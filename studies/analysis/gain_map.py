"""The gain over period and amplitude: where the dynamical loss beats the best static one.

Each cell holds the best dynamical trial whose period and amplitude lie in it, and compares it with
the best static trial, seed by seed; both are chosen by their mean objective over the same seeds.
On a grid both arms had the same learning rates to choose from. In an adaptive search the map is
exploratory: its points gather where the search found them good, and a cell of few trials stands
against the best of all static ones, so that it leans towards a loss. False discoveries over the
cells are controlled (Benjamini-Hochberg).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core import keys
from studies.analysis.verdict import paired_by_seed

__all__ = ["GainMap", "gain_map"]

_BINS = 6
_FALSE_DISCOVERY_RATE = 0.05


@dataclass(frozen=True, eq=False)
class GainMap:
    """Gain over period x amplitude, P x Q cells.

    Args:
        period_edges: (P + 1,) in steps.
        amplitude_edges: (Q + 1,).
        gain: (P, Q) mean paired difference, oriented so that positive is a gain; NaN: no trial.
        p: (P, Q) two-sided p values of the paired t test, adjusted over the cells.
        significant: (P, Q) p < 0.05.
        diverged: (P, Q) every trial in the cell diverged for some seed.
        metric: what is compared.
        n: seeds in each comparison.
        binned: whether cells are bins of scattered trials rather than points of a grid.
        static_trial: number of the static trial that all cells are compared with.
        static_mean: its mean.
    """

    period_edges: np.ndarray
    amplitude_edges: np.ndarray
    gain: np.ndarray
    p: np.ndarray
    significant: np.ndarray
    diverged: np.ndarray
    metric: str
    n: int
    binned: bool
    static_trial: int
    static_mean: float


def gain_map(members: pd.DataFrame, metric: str) -> GainMap | None:
    """The gain map of a search; None unless period and amplitude both vary and both arms are there.

    Args:
        members: rows of the members table with phase `search`.
        metric: static validation metric to compare.
    """
    static = members[members[keys.ARM] == keys.STATIC]
    dynamical = members[members[keys.ARM] == keys.DYNAMICAL]
    baseline = _best_trial(static, metric)
    if baseline is None or any(
        dynamical[name].nunique() < 2 for name in (keys.PERIOD, keys.AMPLITUDE)
    ):
        return None
    trials = dynamical.drop_duplicates(keys.TRIAL)
    periods = trials[keys.PERIOD].to_numpy(dtype=float)
    amplitudes = trials[keys.AMPLITUDE].to_numpy(dtype=float)
    on_grid = len(np.unique(periods)) * len(np.unique(amplitudes)) <= len(trials)
    make_edges = _edges_around if on_grid else _edges_between
    period_edges, amplitude_edges = make_edges(periods), make_edges(amplitudes)
    rows = _cell(dynamical[keys.PERIOD].to_numpy(dtype=float), period_edges)
    columns = _cell(dynamical[keys.AMPLITUDE].to_numpy(dtype=float), amplitude_edges)
    shape = (len(period_edges) - 1, len(amplitude_edges) - 1)
    gain, p = np.full(shape, np.nan), np.full(shape, np.nan)
    diverged = np.zeros(shape, dtype=bool)
    sign = 1.0 if keys.higher_is_better(metric) else -1.0
    for row, column in sorted(set(zip(rows.tolist(), columns.tolist(), strict=True))):
        cell = dynamical[(rows == row) & (columns == column)]
        best = _best_trial(cell, metric)
        if best is None:
            diverged[row, column] = True
            continue
        pairs = paired_by_seed(pd.concat([best, baseline]), metric)
        difference = sign * (pairs[keys.DYNAMICAL] - pairs[keys.STATIC]).to_numpy(dtype=float)
        gain[row, column] = difference.mean()
        p[row, column] = _p_value(difference)
    known = np.isfinite(p)
    p[known] = stats.false_discovery_control(p[known]) if known.any() else p[known]
    return GainMap(
        period_edges=period_edges,
        amplitude_edges=amplitude_edges,
        gain=gain,
        p=p,
        significant=known & (p < _FALSE_DISCOVERY_RATE),
        diverged=diverged,
        metric=metric,
        n=int(baseline[keys.SEED].nunique()),
        binned=not on_grid,
        static_trial=int(baseline[keys.TRIAL].iloc[0]),
        static_mean=float(baseline[metric].mean()),
    )


def _best_trial(members: pd.DataFrame, metric: str) -> pd.DataFrame | None:
    """The members of the trial with the best mean among those without a diverged one."""
    if members.empty:
        return None
    sound = members[~members.groupby(keys.TRIAL)[keys.DIVERGED].transform("any")]
    if sound.empty:
        return None
    means = sound.groupby(keys.TRIAL)[metric].mean()
    best = means.idxmax() if keys.higher_is_better(metric) else means.idxmin()
    return sound[sound[keys.TRIAL] == best]


def _p_value(difference: np.ndarray) -> float:
    """Two-sided paired t test; the sign test where all differences are equal."""
    if len(difference) < 2 or not difference.any():
        return 1.0
    if np.ptp(difference) == 0:
        return 2.0 ** (1 - len(difference))
    return float(stats.ttest_1samp(difference, 0.0).pvalue)


def _edges_around(values: np.ndarray) -> np.ndarray:
    """Edges of cells around the values of a grid, halfway between them on a log scale."""
    logs = np.log(np.unique(values))
    middles = (logs[1:] + logs[:-1]) / 2
    first, last = logs[0] - (middles[0] - logs[0]), logs[-1] + (logs[-1] - middles[-1])
    return np.exp(np.concatenate([[first], middles, [last]]))


def _edges_between(values: np.ndarray) -> np.ndarray:
    """Edges of equal bins on a log scale over the range of scattered values."""
    return np.geomspace(values.min() * (1 - 1e-9), values.max() * (1 + 1e-9), _BINS + 1)


def _cell(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
