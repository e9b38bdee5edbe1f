"""The gain map: where, over two parameters, does the dynamical loss beat the static one?

Two baselines, both shown. `own best`: the static trial with the best mean objective, at whatever
learning rate. It was chosen to be the best on the seeds it is compared on, which leans against the
dynamical arm. `same learning rate`: the static trial at each dynamical trial's own learning rate.

A cell may hold several trials, which differ in the parameters the map does not show. That its best
one gains is then a claim about the smallest of k p values, which counts k times (Bonferroni); that
even its best one loses is a claim about all of them, and takes the largest p value (Berger 1982,
Technometrics 24:295). The gain shown is free of the winner's curse: for each seed, the trial is
chosen on the others (see `pairing`). Over the cells, false discoveries are controlled (Benjamini
and Hochberg 1995).

Symbols
    K      dynamical trials
    n      seeds
    P, Q   cells along x and y
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core import keys
from studies.analysis.comparison import compare_cells

__all__ = ["BASELINES", "Baseline", "Gain", "GainMap", "gain_map"]

Baseline = Literal["own best", "same learning rate"]
BASELINES: tuple[Baseline, ...] = ("own best", "same learning rate")

FALSE_DISCOVERY_RATE = 0.05
_BINS = 6
_SAME = 1e-6  # relative: learning rates of both arms that came from other sides of one grid


@dataclass(frozen=True, eq=False)
class Gain:
    """Gain over one baseline, P x Q cells.

    Args:
        baseline: which.
        gain: (P, Q) mean paired difference, oriented so that positive is a gain; NaN: no trial.
        p: (P, Q) two-sided p values, adjusted over the cells.
        significant: (P, Q) p < 0.05.
        static_mean: mean objective of the static trial, if it is the same for all cells.
        static_learning_rate: its learning rate, likewise.
    """

    baseline: Baseline
    gain: np.ndarray
    p: np.ndarray
    significant: np.ndarray
    static_mean: float | None
    static_learning_rate: float | None

    @property
    def wins(self) -> np.ndarray:
        """(P, Q) where the dynamical loss wins."""
        return self.significant & (self.gain > 0)

    @property
    def losses(self) -> np.ndarray:
        """(P, Q) where it loses."""
        return self.significant & (self.gain < 0)

    def best(self) -> tuple[int, int] | None:
        """The cell with the largest gain; None if no cell has one."""
        if not np.isfinite(self.gain).any():
            return None
        row, column = np.unravel_index(np.nanargmax(self.gain), self.gain.shape)
        return int(row), int(column)


@dataclass(frozen=True, eq=False)
class GainMap:
    """Gain over two parameters.

    Args:
        x: parameter along the first axis.
        y: parameter along the second.
        x_edges: (P + 1,) of the cells.
        y_edges: (Q + 1,).
        x_values: (P,) the grid's values; the geometric middle of a bin.
        y_values: (Q,).
        gains: over each baseline that most trials could be compared with.
        diverged: (P, Q) every trial in the cell diverged for some seed.
        metric: what is compared.
        n: seeds in each comparison.
        trials_a_cell: the most trials that a cell holds.
        binned: whether cells are bins of scattered trials rather than points of a grid. The map of
            an adaptive search is exploratory: its points gather where the search found them good.
    """

    x: str
    y: str
    x_edges: np.ndarray
    y_edges: np.ndarray
    x_values: np.ndarray
    y_values: np.ndarray
    gains: tuple[Gain, ...]
    diverged: np.ndarray
    metric: str
    n: int
    trials_a_cell: int
    binned: bool

    def sentences(self) -> list[str]:
        """How much of the map wins and loses, one sentence a baseline."""
        x_name, metric = self.x.replace("_", " "), self.metric.replace("_", " ")
        found = []
        for gain in self.gains:
            cells = int(np.isfinite(gain.gain).sum())
            whose = "its own best" if gain.baseline == "own best" else "the same"
            text = (
                f"Over {x_name} and {self.y}, against the static arm at {whose} learning rate: the "
                f"dynamical loss wins in {int(gain.wins.sum())} of {cells} cells and loses in "
                f"{int(gain.losses.sum())}"
            )
            best = gain.best()
            if best is not None:
                x, y = self.x_values[best[0]], self.y_values[best[1]]
                text += (
                    f"; the largest gain in {metric} is {gain.gain[best]:+.3f}, at {x_name} "
                    f"{x:,.4g} and {self.y} {y:,.4g}"
                )
            found.append(f"{text} (n = {self.n} search seeds, false discovery rate 5%).")
        return found

    def table(self) -> pd.DataFrame:
        """A row a cell and baseline."""
        rows = []
        for gain in self.gains:
            for row, column in np.ndindex(gain.gain.shape):
                rows.append(
                    {
                        "baseline": gain.baseline,
                        self.x: self.x_values[row],
                        self.y: self.y_values[column],
                        "gain": gain.gain[row, column],
                        "p_adjusted": gain.p[row, column],
                        "significant": gain.significant[row, column],
                        keys.DIVERGED: self.diverged[row, column],
                    }
                )
        return pd.DataFrame(rows)


def gain_map(
    search: pd.DataFrame, metric: str, x: str = keys.PERIOD, y: str = keys.AMPLITUDE
) -> GainMap | None:
    """The gain map of a search; None if `x` or `y` does not vary, if an arm has no sound trial, or
    if the problem itself varies: its sizes are compared by `regimes`.

    Args:
        search: rows of the members table with phase `search`.
        metric: static validation metric to compare.
        x: parameter along the first axis.
        y: parameter along the second.
    """
    dynamical = search[search[keys.ARM] == keys.DYNAMICAL]
    static = search[search[keys.ARM] == keys.STATIC]
    dotted = [name for name in search.columns if "." in name]
    if any(search[name].nunique() > 1 for name in dotted) or any(
        dynamical[name].nunique() < 2 for name in (x, y)
    ):
        return None
    seeds = np.intersect1d(dynamical[keys.SEED].unique(), static[keys.SEED].unique())
    if len(seeds) < 2:
        return None
    trials, values, sound = _matrix(dynamical, metric, seeds)
    static_trials, static_values, static_sound = _matrix(static, metric, seeds)
    if not sound.any() or not static_sound.any():
        return None
    sign = 1.0 if keys.higher_is_better(metric) else -1.0
    values, static_values = sign * values, sign * static_values
    along_x, along_y = (trials[name].to_numpy(dtype=float) for name in (x, y))
    on_grid = len(np.unique(along_x)) * len(np.unique(along_y)) <= len(trials)
    make_edges = _edges_around if on_grid else _edges_between
    x_edges, y_edges = make_edges(along_x), make_edges(along_y)
    x_values, y_values = (
        np.unique(values) if on_grid else np.sqrt(edges[1:] * edges[:-1])
        for values, edges in ((along_x, x_edges), (along_y, y_edges))
    )
    shape = (len(x_edges) - 1, len(y_edges) - 1)
    cell = np.ravel_multi_index((_cell(along_x, x_edges), _cell(along_y, y_edges)), shape)
    best = int(np.where(static_sound, static_values.mean(axis=1), -np.inf).argmax())
    static_rates = static_trials[keys.LEARNING_RATE].to_numpy(dtype=float)
    partner = _partners(trials, static_trials, static_values, static_sound)
    gains = [
        Gain(
            "own best",
            *_cells(values - static_values[best], sound, cell, shape),
            static_mean=sign * float(static_values[best].mean()),
            static_learning_rate=float(static_rates[best]),
        )
    ]
    there = sound & (partner >= 0)
    if 2 * np.count_nonzero(there) >= np.count_nonzero(sound):  # else it would be a map of holes
        one = np.unique(partner[there])
        at = int(one[0]) if len(one) == 1 else None
        gains.append(
            Gain(
                "same learning rate",
                *_cells(values - static_values[partner], there, cell, shape),
                static_mean=None if at is None else sign * float(static_values[at].mean()),
                static_learning_rate=None if at is None else float(static_rates[at]),
            )
        )
    held = np.bincount(cell, minlength=shape[0] * shape[1])
    found_sound = np.bincount(cell, weights=sound, minlength=len(held))
    return GainMap(
        x=x,
        y=y,
        x_edges=x_edges,
        y_edges=y_edges,
        x_values=x_values,
        y_values=y_values,
        gains=tuple(gains),
        diverged=((held > 0) & (found_sound == 0)).reshape(shape),
        metric=metric,
        n=len(seeds),
        trials_a_cell=int(held.max()),
        binned=not on_grid,
    )


def _matrix(
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


def _cells(
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
    significant = there & (p < FALSE_DISCOVERY_RATE)
    return gain.reshape(shape), p.reshape(shape), significant.reshape(shape)


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


def _partners(
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
