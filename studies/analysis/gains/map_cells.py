"""Trials sorted into the cells of a map, and the statistics of each cell (see `gain_map`).

Symbols
    K      dynamical trials
    n      seeds
    P, Q   cells along x and y
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core import keys
from studies.analysis.statistics.comparison import compare_cells

__all__ = [
    "best_of_each",
    "cell_of",
    "compare_each",
    "edges_around",
    "edges_between",
    "matrix_of",
    "partners_of",
]

_FALSE_DISCOVERY_RATE = 0.05
_BINS = 6
_SAME = 1e-6  # relative: learning rates of both arms that came from other sides of one grid


def matrix_of(
    members: pd.DataFrame, metric: str, seeds: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A row of parameters a trial, the metric (K, n) over the seeds, and which trials are sound:
    trained with every seed, and none diverged."""
    trials = members.drop_duplicates(keys.TRIAL)
    row = pd.Index(trials[keys.TRIAL]).get_indexer(members[keys.TRIAL])
    column = pd.Index(seeds).get_indexer(members[keys.SEED])
    known = (column >= 0) & ~members[keys.DIVERGED].to_numpy(dtype=bool)
    values = np.full((len(trials), len(seeds)), np.nan)
    values[row[known], column[known]] = members[metric].to_numpy(dtype=float)[known]
    return trials, values, np.isfinite(values).all(axis=1)


def compare_each(
    differences: np.ndarray, usable: np.ndarray, cell: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain, adjusted p and significance of each cell, (P, Q) each.

    Args:
        differences: (K, n) oriented so that positive is a gain.
        usable: (K,) trials that may represent a cell.
        cell: (K,) flat index of each trial's cell.
        shape: P, Q.
    """
    cells = shape[0] * shape[1]
    differences, cell = differences[usable], cell[usable]
    compared = compare_cells(differences)
    larger = np.where(compared.mean > 0, compared.p / 2, 1 - compared.p / 2)
    held = np.bincount(cell, minlength=cells)
    gains, loses = np.ones(cells), np.zeros(cells)
    np.minimum.at(gains, cell, larger)
    np.maximum.at(loses, cell, 1 - larger)
    p = np.full(cells, np.nan)
    there = held > 0
    p[there] = np.minimum(1.0, 2 * np.minimum(held * gains, loses)[there])
    if there.any():
        p[there] = stats.false_discovery_control(p[there])
    gain = _cross_fitted(differences, cell, cells)
    significant = there & (p < _FALSE_DISCOVERY_RATE)
    return gain.reshape(shape), p.reshape(shape), significant.reshape(shape)


def best_of_each(
    differences: np.ndarray, usable: np.ndarray, cell: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """(P, Q) index of each cell's best usable trial on all seeds, the first of equals; -1: none."""
    rows = np.flatnonzero(usable)
    means = differences[rows].mean(axis=1)
    order = rows[np.lexsort((-means, cell[rows]))]  # stable
    cells, first = np.unique(cell[order], return_index=True)
    best = np.full(shape[0] * shape[1], -1)
    best[cells] = order[first]
    return best.reshape(shape)


def _cross_fitted(differences: np.ndarray, cell: np.ndarray, cells: int) -> np.ndarray:
    """(P Q,) mean over seeds of each cell's best trial, chosen for each seed on the others."""
    n = differences.shape[1]
    others = (differences.sum(axis=1, keepdims=True) - differences) / (n - 1)  # (K, n)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(cells))
    stops = np.searchsorted(cell[order], np.arange(cells), side="right")
    gain = np.full(cells, np.nan)
    single = stops - starts == 1
    gain[single] = differences[order[starts[single]]].mean(axis=1)
    for index in np.flatnonzero(stops - starts > 1):
        mine = order[starts[index] : stops[index]]
        chosen = mine[others[mine].argmax(axis=0)]  # (n,)
        gain[index] = differences[chosen, np.arange(n)].mean()
    return gain


def partners_of(
    trials: pd.DataFrame, static: pd.DataFrame, static_values: np.ndarray, sound: np.ndarray
) -> np.ndarray:
    """(K,) index of the sound static trial that shares learning rate, momentum and weight decay
    with each trial, the best of several; -1: there is none."""
    shared = [n for n in (keys.MOMENTUM, keys.WEIGHT_DECAY) if n in trials and n in static]
    order = np.argsort(-static_values.mean(axis=1), kind="stable")  # the best first; NaN last
    partner = np.full(len(trials), -1)
    rates, static_rates = (t[keys.LEARNING_RATE].to_numpy(dtype=float) for t in (trials, static))
    mine, theirs = (t[shared].fillna(0.0).to_numpy(dtype=float) for t in (trials, static))
    for values in np.unique(mine, axis=0) if shared else [np.empty(0)]:
        here = (mine == values).all(axis=1)
        usable = order[(sound & (theirs == values).all(axis=1))[order]]
        _, first = np.unique(static_rates[usable], return_index=True)
        usable = usable[np.sort(first)]
        if len(usable):
            there = np.zeros(len(static), dtype=bool)
            there[usable] = True
            partner[here] = _same_rate(rates[here], static_rates, there)
    return partner


def _same_rate(rates: np.ndarray, static_rates: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """(K,) index of the sound static trial at each trial's learning rate; -1: there is none."""
    usable = np.flatnonzero(sound)
    usable = usable[np.argsort(static_rates[usable], kind="stable")]
    sorted_rates = static_rates[usable]
    right = np.clip(np.searchsorted(sorted_rates, rates), 0, len(usable) - 1)
    left = np.maximum(right - 1, 0)
    nearer = np.abs(sorted_rates[left] - rates) < np.abs(sorted_rates[right] - rates)
    nearest = np.where(nearer, left, right)
    same = np.abs(sorted_rates[nearest] - rates) <= _SAME * rates
    return np.where(same, usable[nearest], -1)


def edges_around(values: np.ndarray) -> np.ndarray:
    """Edges of cells around the values of a grid, halfway between them on a log scale."""
    logs = np.log(np.unique(values))
    middles = (logs[1:] + logs[:-1]) / 2
    first, last = logs[0] - (middles[0] - logs[0]), logs[-1] + (logs[-1] - middles[-1])
    edges: np.ndarray = np.exp(np.concatenate([[first], middles, [last]]))
    return edges


def edges_between(values: np.ndarray) -> np.ndarray:
    """Edges of equal bins on a log scale over the range of scattered values."""
    return np.geomspace(values.min() * (1 - 1e-9), values.max() * (1 + 1e-9), _BINS + 1)


def cell_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which cell along one axis each value lies in."""
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
