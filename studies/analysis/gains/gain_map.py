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

from dynloss_core import keys
from studies.analysis.gains.map_cells import (
    best_of_each,
    cell_of,
    compare_each,
    edges_around,
    edges_between,
    matrix_of,
    partners_of,
)

__all__ = ["BASELINES", "Baseline", "Gain", "GainMap", "gain_map"]

Baseline = Literal["own best", "same learning rate"]
BASELINES: tuple[Baseline, ...] = ("own best", "same learning rate")


@dataclass(frozen=True, eq=False)
class Gain:
    """Gain over one baseline, P x Q cells.

    Args:
        baseline: which.
        gain: (P, Q) mean paired difference, oriented so that positive is a gain; NaN: no trial.
        p: (P, Q) two-sided p values, adjusted over the cells.
        significant: (P, Q) p < 0.05.
        best_x: (P, Q) where along x the cell's best trial lies, all seeds counted; NaN: no trial.
        best_y: (P, Q) likewise along y.
        static_mean: mean objective of the static trial, if it is the same for all cells.
        static_learning_rate: its learning rate, likewise.
    """

    baseline: Baseline
    gain: np.ndarray
    p: np.ndarray
    significant: np.ndarray
    best_x: np.ndarray
    best_y: np.ndarray
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
        trials: (P, Q) how many each cell holds.
        diverged: (P, Q) there are some, and every one diverged for some seed.
        static_trials: how many the best static one was chosen from.
        metric: what is compared.
        n: seeds in each comparison.
        binned: whether cells are bins of scattered trials rather than points of a grid.
        adaptive: whether an adaptive search placed the trials. Such a map is exploratory: its
            points gather where the search found them good.
    """

    x: str
    y: str
    x_edges: np.ndarray
    y_edges: np.ndarray
    x_values: np.ndarray
    y_values: np.ndarray
    gains: tuple[Gain, ...]
    trials: np.ndarray
    diverged: np.ndarray
    static_trials: int
    metric: str
    n: int
    binned: bool
    adaptive: bool

    @property
    def trials_a_cell(self) -> int:
        """The most trials that a cell holds."""
        return int(self.trials.max())

    @property
    def title(self) -> str:
        """What is mapped."""
        return f"Gain over {_words(self.x)} and {_words(self.y)}"

    @property
    def gain_name(self) -> str:
        """What the numbers are: `gain in validation accuracy`; of a loss, which way it goes."""
        better = "gain in" if keys.higher_is_better(self.metric) else "fall of"
        return f"{better} {_words(self.metric)}"

    def missing(self, gain: Gain) -> np.ndarray:
        """(P, Q) cells of which nothing can be said over this baseline."""
        missing: np.ndarray = ~np.isfinite(gain.gain) & ~self.diverged
        return missing

    def missing_name(self) -> str | None:
        """Why cells are missing; None if none is."""
        missing = np.any([self.missing(gain) for gain in self.gains], axis=0)
        if not missing.any():
            return None
        return "no trial" if not self.trials[missing].any() else "no trial, or none to compare with"

    def headline(self) -> str:
        """What the figure shows."""
        return f"Gain of the dynamical loss, n = {self.n} seeds, paired"

    def caption(self) -> str:
        """What to read off the figure."""
        baselines = " (left) and ".join(_BASELINE_NAMES[gain.baseline] for gain in self.gains)
        text = f"{self.title}, over the static arm {baselines}"
        text += " (right)." if len(self.gains) > 1 else "."
        if any((np.isfinite(gain.gain) & ~gain.significant).any() for gain in self.gains):
            text += " Hatched cells are not significant."
        if self.diverged.any():
            text += " In black cells every trial diverged for some seed."
        if (missing := self.missing_name()) is not None:
            text += f" Grey: {missing}."
        return text

    def notes(self) -> list[str]:
        """How the map was made, a sentence each."""
        found = []
        if self.static_trials > 1:
            found.append(
                "The static trial at its own best was chosen on the same seeds, which leans "
                "against a gain."
            )
        if self.trials_a_cell > 1:
            found.append(
                f"A cell holds up to {self.trials_a_cell} trials: its gain is cross-fitted, its p "
                "value counts them all."
            )
        if self.binned:
            found.append("Cells are bins of scattered trials.")
        if self.adaptive:
            found.append("Exploratory: an adaptive search placed the trials.")
        return found

    def sentences(self) -> list[str]:
        """How much of the map wins and loses, one sentence a baseline."""
        found = []
        for gain in self.gains:
            cells = int(np.isfinite(gain.gain).sum())
            text = (
                f"Over {_words(self.x)} and {_words(self.y)}, against the static arm "
                f"{_BASELINE_NAMES[gain.baseline]}: the dynamical loss wins in "
                f"{int(gain.wins.sum())} of {cells} cells and loses in {int(gain.losses.sum())}"
            )
            best = gain.best()
            if best is not None:
                size = gain.gain[best]
                which = "largest" if size > 0 else "least negative"
                text += f"; the {which} {self.gain_name} is {size:+.3f}, {self._place(gain, best)}"
            found.append(f"{text} (n = {self.n} search seeds, false discovery rate 5%).")
        return found

    def _place(self, gain: Gain, cell: tuple[int, int]) -> str:
        """A cell in words: its values; of a bin its bounds, and the trial that is best in it."""
        row, column = cell
        x, y = _words(self.x), _words(self.y)
        best = f"{x} {gain.best_x[cell]:,.4g} and {y} {gain.best_y[cell]:,.4g}"
        if not self.binned:
            return f"at {best}"
        bounds = [*self.x_edges[row : row + 2], *self.y_edges[column : column + 2]]
        x_low, x_high, y_low, y_high = (f"{bound:,.4g}" for bound in bounds)
        return (
            f"in the cell of {x} {x_low} to {x_high} and {y} {y_low} to {y_high}, whose best trial "
            f"is at {best}"
        )

    def table(self) -> pd.DataFrame:
        """One row per cell and baseline."""
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


_BASELINE_NAMES: dict[Baseline, str] = {
    "own best": "at its own best learning rate",
    "same learning rate": "at the same learning rate",
}


def _words(name: str) -> str:
    return name.replace("_", " ")


def gain_map(
    search: pd.DataFrame,
    metric: str,
    x: str = keys.PERIOD,
    y: str = keys.AMPLITUDE,
    *,
    adaptive: bool = False,
) -> GainMap | None:
    """The gain map of a search; None if `x` or `y` does not vary, if an arm has no sound trial, or
    if the problem itself varies: its sizes are compared by `regimes`.

    Args:
        search: rows of the members table with phase `search`.
        metric: static validation metric to compare.
        x: parameter along the first axis.
        y: parameter along the second.
        adaptive: whether proposals depended on results.
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
    trials, values, sound = matrix_of(dynamical, metric, seeds)
    static_trials, static_values, static_sound = matrix_of(static, metric, seeds)
    if not sound.any() or not static_sound.any():
        return None
    sign = 1.0 if keys.higher_is_better(metric) else -1.0
    values, static_values = sign * values, sign * static_values
    along_x, along_y = (trials[name].to_numpy(dtype=float) for name in (x, y))
    on_grid = len(np.unique(along_x)) * len(np.unique(along_y)) <= len(trials)
    make_edges = edges_around if on_grid else edges_between
    x_edges, y_edges = make_edges(along_x), make_edges(along_y)
    x_values, y_values = (
        np.unique(values) if on_grid else np.sqrt(edges[1:] * edges[:-1])
        for values, edges in ((along_x, x_edges), (along_y, y_edges))
    )
    shape = (len(x_edges) - 1, len(y_edges) - 1)
    cell = np.ravel_multi_index((cell_of(along_x, x_edges), cell_of(along_y, y_edges)), shape)
    best = int(np.where(static_sound, static_values.mean(axis=1), -np.inf).argmax())
    static_rates = static_trials[keys.LEARNING_RATE].to_numpy(dtype=float)
    partner = partners_of(trials, static_trials, static_values, static_sound)

    def gain(baseline: Baseline, partner: np.ndarray, usable: np.ndarray) -> Gain:
        """Over the static trial that each trial is compared with, where it can be compared."""
        differences = values - static_values[partner]
        at = best_of_each(differences, usable, cell, shape)
        one = np.unique(partner[usable])
        alone = int(one[0]) if len(one) == 1 else None
        return Gain(
            baseline,
            *compare_each(differences, usable, cell, shape),
            best_x=np.where(at < 0, np.nan, along_x[at]),
            best_y=np.where(at < 0, np.nan, along_y[at]),
            static_mean=None if alone is None else sign * float(static_values[alone].mean()),
            static_learning_rate=None if alone is None else float(static_rates[alone]),
        )

    gains = [gain("own best", np.full(len(trials), best), sound)]
    comparable = sound & (partner >= 0)
    if 2 * np.count_nonzero(comparable) >= np.count_nonzero(sound):  # else a map of holes
        gains.append(gain("same learning rate", partner, comparable))
    held = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    by_trial = dynamical.groupby(keys.TRIAL, sort=False)[keys.DIVERGED].any()
    gone = by_trial.loc[trials[keys.TRIAL]].to_numpy(dtype=float)
    lost = np.bincount(cell, weights=gone, minlength=held.size).reshape(shape)
    return GainMap(
        x=x,
        y=y,
        x_edges=x_edges,
        y_edges=y_edges,
        x_values=x_values,
        y_values=y_values,
        gains=tuple(gains),
        trials=held,
        diverged=(held > 0) & (lost == held),
        static_trials=int(np.count_nonzero(static_sound)),
        metric=metric,
        n=len(seeds),
        binned=not on_grid,
        adaptive=adaptive,
    )
