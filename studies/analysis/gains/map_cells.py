"""Trials sorted into the cells of a map, and the statistics of each cell (see `gain_map`).

Symbols
    K      dynamical trials
    n      seeds
    P, Q   cells along x and y
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.statistics.sign_flips import flipped_p

__all__ = [
    "ArmMatrix",
    "Cells",
    "best_of_each",
    "cells_of",
    "compare_each",
    "matrix_of",
    "partners_of",
]

_SIGNIFICANT = 0.05
_BINS = 6
_SAME = 1e-6  # relative: the same learning rate of a grid, computed in different ways


class ArmMatrix(NamedTuple):
    """The trials of an arm over the seeds."""

    trials: pd.DataFrame  # one row of parameters per trial
    values: np.ndarray  # (K, n) the metric, oriented so that more is better
    sound: np.ndarray  # (K,) trained with every seed, and no network diverged
    diverged: np.ndarray  # (K,) whether a network diverged, with any seed


class Cells(NamedTuple):
    """The cells over x and y: around the points of a grid, or bins of scattered trials."""

    along: tuple[np.ndarray, np.ndarray]  # (K,) each: where each trial lies
    edges: tuple[np.ndarray, np.ndarray]  # (P + 1,) and (Q + 1,)
    values: tuple[np.ndarray, np.ndarray]  # (P,) and (Q,): grid values, or middles of bins
    of_trial: np.ndarray  # (K,) flat index of the cell that each trial lies in
    on_grid: bool

    @property
    def shape(self) -> tuple[int, int]:
        """P, Q."""
        return len(self.values[0]), len(self.values[1])

    def of(self, trials: slice) -> Cells:
        """The same cells with only some of their trials."""
        x, y = self.along
        return self._replace(along=(x[trials], y[trials]), of_trial=self.of_trial[trials])

    def count_of(self, trials: np.ndarray) -> np.ndarray:
        """(P, Q) how many of the selected trials (K,) each cell holds."""
        cells = self.shape[0] * self.shape[1]
        return np.bincount(self.of_trial[trials], minlength=cells).reshape(self.shape)


def cells_of(x: np.ndarray, y: np.ndarray) -> Cells:
    """The cells of trials that lie at x (K,) and y (K,)."""
    values = np.unique(x), np.unique(y)
    on_grid = len(values[0]) * len(values[1]) <= len(x)
    edges_of = _edges_around if on_grid else _edges_between
    edges = edges_of(x), edges_of(y)
    if not on_grid:
        values = _middles(edges[0]), _middles(edges[1])
    places = _cell_of(x, edges[0]), _cell_of(y, edges[1])
    of_trial = np.ravel_multi_index(places, [len(axis) for axis in values])
    return Cells((x, y), edges, values, of_trial, on_grid)


def matrix_of(members: pd.DataFrame, metric: str, seeds: np.ndarray) -> ArmMatrix:
    """The rows of an arm as a matrix over the seeds."""
    trials = members.drop_duplicates(keys.TRIAL)
    row = pd.Index(trials[keys.TRIAL]).get_indexer(members[keys.TRIAL])
    column = pd.Index(seeds).get_indexer(members[keys.SEED])
    diverged = members[keys.DIVERGED].to_numpy(dtype=bool)
    known = (column >= 0) & ~diverged
    values = np.full((len(trials), len(seeds)), np.nan)
    values[row[known], column[known]] = members[metric].to_numpy(dtype=float)[known]
    sign = 1.0 if keys.higher_is_better(metric) else -1.0
    lost = np.bincount(row, weights=diverged, minlength=len(trials)) > 0
    return ArmMatrix(trials, sign * values, np.isfinite(values).all(axis=1), lost)


def compare_each(
    differences: np.ndarray, usable: np.ndarray, cells: Cells
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain, adjusted p and significance of each cell, (P, Q) each. The p values of trials count all
    trials of the map (see `sign_flips`): a cell gains if one of its trials does, and loses if all
    do.

    Args:
        differences: (K, n) oriented so that positive is a gain.
        usable: (K,) trials that can represent a cell.
        cells: the cells of the map.
    """
    differences, cell = differences[usable], cells.of_trial[usable]
    held = cells.count_of(usable).ravel()
    gains, loses = np.ones(len(held)), np.zeros(len(held))
    p = np.full(len(held), np.nan)
    filled = held > 0
    if filled.any():
        above, below = flipped_p(differences)
        np.minimum.at(gains, cell, above)
        np.maximum.at(loses, cell, below)
        p[filled] = np.minimum(1.0, 2 * np.minimum(gains, loses)[filled])
    gain = _cross_fitted(differences, cell, len(held))
    significant = filled & (p < _SIGNIFICANT)
    return gain.reshape(cells.shape), p.reshape(cells.shape), significant.reshape(cells.shape)


def best_of_each(differences: np.ndarray, usable: np.ndarray, cells: Cells) -> np.ndarray:
    """(P, Q) index of each cell's best usable trial on all seeds, the first if tied; -1: none."""
    rows = np.flatnonzero(usable)
    means = differences[rows].mean(axis=1)
    order = rows[np.lexsort((-means, cells.of_trial[rows]))]  # stable
    held, first = np.unique(cells.of_trial[order], return_index=True)
    best = np.full(cells.shape, -1)
    best.flat[held] = order[first]
    return best


def _cross_fitted(differences: np.ndarray, cell: np.ndarray, cells: int) -> np.ndarray:
    """(P Q,) mean over seeds of each cell's best trial, chosen for each seed on the other seeds."""
    n = differences.shape[1]
    others = (differences.sum(axis=1, keepdims=True) - differences) / (n - 1)  # (K, n)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(cells))
    stops = np.searchsorted(cell[order], np.arange(cells), side="right")
    gain = np.full(cells, np.nan)
    single = stops - starts == 1
    gain[single] = differences[order[starts[single]]].mean(axis=1)
    for index in np.flatnonzero(stops - starts > 1):
        places = order[starts[index] : stops[index]]
        chosen = places[others[places].argmax(axis=0)]  # (n,)
        gain[index] = differences[chosen, np.arange(n)].mean()
    return gain


def partners_of(trials: pd.DataFrame, against: ArmMatrix) -> np.ndarray:
    """(K,) index of the static trial without diverged networks that has each trial's learning rate,
    momentum and weight decay, the best if there are several; -1: none."""
    static, sound = against.trials, against.sound
    shared = [n for n in (keys.MOMENTUM, keys.WEIGHT_DECAY) if n in trials and n in static]
    order = np.argsort(-against.values.mean(axis=1), kind="stable")  # the best first; NaN last
    partner = np.full(len(trials), -1)
    rates, static_rates = (t[keys.LEARNING_RATE].to_numpy(dtype=float) for t in (trials, static))
    hyperparameters, static_hyperparameters = (
        t[shared].fillna(0.0).to_numpy(dtype=float) for t in (trials, static)
    )
    for values in np.unique(hyperparameters, axis=0) if shared else [np.empty(0)]:
        matching = (hyperparameters == values).all(axis=1)
        usable = order[(sound & (static_hyperparameters == values).all(axis=1))[order]]
        _, first = np.unique(static_rates[usable], return_index=True)
        usable = usable[np.sort(first)]
        if len(usable):
            candidates = np.zeros(len(static), dtype=bool)
            candidates[usable] = True
            partner[matching] = _same_rate(rates[matching], static_rates, candidates)
    return partner


def _same_rate(rates: np.ndarray, static_rates: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """(K,) index of the sound static trial at each trial's learning rate; -1: none."""
    usable = np.flatnonzero(sound)
    usable = usable[np.argsort(static_rates[usable], kind="stable")]
    sorted_rates = static_rates[usable]
    right = np.clip(np.searchsorted(sorted_rates, rates), 0, len(usable) - 1)
    left = np.maximum(right - 1, 0)
    nearer = np.abs(sorted_rates[left] - rates) < np.abs(sorted_rates[right] - rates)
    nearest = np.where(nearer, left, right)
    same = np.abs(sorted_rates[nearest] - rates) <= _SAME * rates
    return np.where(same, usable[nearest], -1)


def _edges_around(values: np.ndarray) -> np.ndarray:
    """Edges of cells around the values of a grid, halfway between them on a log scale."""
    logs = np.log(np.unique(values))
    middles = (logs[1:] + logs[:-1]) / 2
    first, last = logs[0] - (middles[0] - logs[0]), logs[-1] + (logs[-1] - middles[-1])
    edges: np.ndarray = np.exp(np.concatenate([[first], middles, [last]]))
    return edges


def _edges_between(values: np.ndarray) -> np.ndarray:
    """Edges of equal bins on a log scale over the range of scattered values."""
    return np.geomspace(values.min() * (1 - 1e-9), values.max() * (1 + 1e-9), _BINS + 1)


def _middles(edges: np.ndarray) -> np.ndarray:
    middles: np.ndarray = np.sqrt(edges[1:] * edges[:-1])
    return middles


def _cell_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The index of each value's cell along one axis."""
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
