"""The gain map: where, over two parameters, does the dynamical loss beat the static one?

Two baselines, both shown. `own best`: the static trial with the best mean objective, at whatever
learning rate. Where there are several, it is chosen on every second seed, and the map is made from
the other seeds: on the seeds that chose it, it would look better than it is, and of nearly tied
trials the luckiest would win. Fewer than 12 seeds are not split, and nothing is claimed. `same
learning rate`: the static trial at each dynamical trial's own rate.

A cell may hold several trials, which differ in the parameters the map does not show. It gains if
one of them does, and loses if all do. All trials of the map are tested together, by flipping the
signs of seeds (see `sign_flips`): the chance that any cell is called significant by mistake is at
most 5%. The gain shown is free of the winner's curse: for each seed, the trial is chosen on the
others (see `pairing`).

Symbols
    K      dynamical trials
    n      seeds
    P, Q   cells along x and y
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card, Drawing, Draws
from studies.analysis.gains.map_cells import (
    ArmMatrix,
    Cells,
    best_of_each,
    cells_of,
    compare_each,
    matrix_of,
    partners_of,
)
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair

__all__ = ["Baseline", "Gain", "GainMap", "cards", "gain_map", "maps_of"]

_FEWEST_TO_SPLIT = 12  # seeds: half of fewer could show nothing at 5% (see `sign_flips`)
MAPS = {"gain_map": keys.PERIOD, "learning_rate_map": keys.LEARNING_RATE}
Baseline = Literal["own best", "same learning rate"]


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
        n: seeds in each comparison.
    """

    baseline: Baseline
    gain: np.ndarray
    p: np.ndarray
    significant: np.ndarray
    best_x: np.ndarray
    best_y: np.ndarray
    static_mean: float | None
    static_learning_rate: float | None
    n: int

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
        pair: the arms.
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
        n: seeds of the search.
        binned: whether cells are bins of scattered trials rather than points of a grid.
        adaptive: whether an adaptive search placed the trials. Such a map is exploratory: its
            points gather where the search found them good.
    """

    pair: Pair
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
        """The largest number of trials in a cell."""
        return int(self.trials.max())

    @property
    def title(self) -> str:
        """What is mapped."""
        return f"Gain over {_words(self.x)} and {_words(self.y)}"

    @property
    def gain_name(self) -> str:
        """What the numbers are: `gain in validation accuracy`; for a loss, which way it goes."""
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
        counts = dict.fromkeys(gain.n for gain in self.gains)
        n = " and ".join(str(count) for count in counts)
        return f"Gain of {self.pair.losses[0]}, n = {n} seeds, paired"

    def caption(self) -> str:
        """What to read off the figure."""
        baselines = " (left) and ".join(_BASELINE_NAMES[gain.baseline] for gain in self.gains)
        text = f"{self.title}, over the {self.pair.reference} arm {baselines}"
        text += " (right)." if len(self.gains) > 1 else "."
        if any((np.isfinite(gain.gain) & ~gain.significant).any() for gain in self.gains):
            text += " Hatched cells are not significant."
        if self.diverged.any():
            text += " In black cells every trial diverged for some seed."
        if (missing := self.missing_name()) is not None:
            text += f" Grey: {missing}."
        return text

    def notes(self) -> list[str]:
        """Notes on how the map was made, one sentence each."""
        found = []
        if self.static_trials > 1:
            which = "the other half of the seeds"
            if self.n < _FEWEST_TO_SPLIT:
                which = "the same seeds, so no gain over it is claimed"
            found.append(f"The {self.pair.reference} trial at its own best was chosen on {which}.")
        if self.trials_a_cell > 1:
            found.append(
                f"A cell holds up to {self.trials_a_cell} trials: its gain is cross-fitted, its "
                "p value accounts for all of them."
            )
        if self.binned:
            found.append("Cells are bins of scattered trials.")
        if self.adaptive:
            found.append("Exploratory: an adaptive search placed the trials.")
        return found

    def sentences(self) -> list[str]:
        """How much of the map wins and loses, one sentence per baseline."""
        found = []
        arm, against = self.pair.losses[0], f"against the {self.pair.reference} arm"
        for gain in self.gains:
            cells = int(np.isfinite(gain.gain).sum())
            text = (
                f"Over {_words(self.x)} and {_words(self.y)}, {against} "
                f"{_BASELINE_NAMES[gain.baseline]}: {arm} wins in "
                f"{int(gain.wins.sum())} of {cells} cells and loses in {int(gain.losses.sum())}"
            )
            best = gain.best()
            if best is not None:
                size = gain.gain[best]
                which = "largest" if size > 0 else "least negative"
                text += f"; the {which} {self.gain_name} is {size:+.3f}, {self._place(gain, best)}"
            found.append(f"{text} (n = {gain.n} search seeds, sign flips, 5% over all cells).")
        return found

    def _place(self, gain: Gain, cell: tuple[int, int]) -> str:
        """A cell in words: its values; for a bin, its bounds and the best trial in it."""
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


def cards(tables: Tables, draw: Draws[GainMap]) -> Iterator[Card]:
    """The maps of a search; that of an adaptive search is exploratory and gives no findings."""
    for name, found in maps_of(tables).items():
        notes = [f"Paired over {found.n} seeds.", *found.notes()]
        notes.append("The chance that any cell is called significant by mistake is at most 5%.")
        yield Card(
            found.title,
            [Drawing(name, found.headline(), found.caption(), partial(draw, found))],
            paragraphs=[" ".join(notes)],
            files={f"{name}.csv": found.table()},
            sentences=[] if found.adaptive else found.sentences(),
        )


def maps_of(tables: Tables) -> dict[str, GainMap]:
    """The gain maps of a study, by the name of their files."""
    asked, search = tables.question, tables.search
    if refines := asked.refining.get(asked.pair.arm):  # near its best, and so no part of a map
        of_arm = search[keys.ARM] == asked.pair.arm
        search = search[~(of_arm & search[keys.TRIAL].isin(refines))]
    found = {
        name: gain_map(search, asked.objective, x, pair=asked.pair, adaptive=asked.adaptive)
        for name, x in MAPS.items()
    }
    return {name: each for name, each in found.items() if each is not None}


def gain_map(
    search: pd.DataFrame,
    metric: str,
    x: str = keys.PERIOD,
    y: str = keys.AMPLITUDE,
    pair: Pair = Pair(),  # noqa: B008  (frozen)
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
        pair: the arms.
        adaptive: whether proposals depended on results.
    """
    of_arm, of_reference = (search[search[keys.ARM] == arm] for arm in pair)
    seeds = np.intersect1d(of_arm[keys.SEED].unique(), of_reference[keys.SEED].unique())
    if len(seeds) < 2 or not _is_mapped(search, of_arm[[x, y]]):
        return None
    tried, against = (matrix_of(members, metric, seeds) for members in (of_arm, of_reference))
    if not tried.sound.any() or not against.sound.any():
        return None
    cells = cells_of(*(tried.trials[name].to_numpy(dtype=float) for name in (x, y)))
    gains = tuple(_gains(tried, against, cells, metric))
    trials, lost = cells.count_of(np.full(len(tried.sound), True)), cells.count_of(tried.diverged)
    return GainMap(
        pair,
        x,
        y,
        *cells.edges,
        *cells.values,
        gains=gains,
        trials=trials,
        diverged=(trials > 0) & (lost == trials),
        static_trials=int(np.count_nonzero(against.sound)),
        metric=metric,
        n=len(seeds),
        binned=not cells.on_grid,
        adaptive=adaptive,
    )


def _is_mapped(search: pd.DataFrame, along: pd.DataFrame) -> bool:
    """Whether both parameters vary, and the problem itself does not."""
    problem = [name for name in search.columns if "." in name]
    return bool((search[problem].nunique() <= 1).all() and (along.nunique() > 1).all())


def _gains(tried: ArmMatrix, against: ArmMatrix, cells: Cells, metric: str) -> Iterator[Gain]:
    """The map over each baseline that most trials can be compared with: others would be mostly
    empty."""
    sign = 1.0 if keys.higher_is_better(metric) else -1.0
    n = against.values.shape[1]
    splits = np.count_nonzero(against.sound) > 1 and n >= _FEWEST_TO_SPLIT
    chooses = np.arange(n) % 2 == 0 if splits else np.full(n, True)
    read = ~chooses if splits else chooses
    best = int(np.where(against.sound, against.values[:, chooses].mean(axis=1), -np.inf).argmax())
    partners: dict[Baseline, np.ndarray] = {
        "own best": np.full(len(tried.sound), best),
        "same learning rate": partners_of(tried.trials, against),
    }
    for baseline, partner in partners.items():
        usable = tried.sound & (partner >= 0)
        if 2 * np.count_nonzero(usable) < np.count_nonzero(tried.sound):
            continue
        seeds = read if baseline == "own best" else np.full(n, True)
        differences = (tried.values - against.values[partner])[:, seeds]
        at = best_of_each(differences, usable, cells)
        best_x, best_y = (np.where(at < 0, np.nan, along[at]) for along in cells.along)
        mean = rate = None
        if len(one := np.unique(partner[usable])) == 1:
            mean = sign * float(against.values[one[0], seeds].mean())
            rate = float(against.trials[keys.LEARNING_RATE].iloc[one[0]])
        average, p, significant = compare_each(differences, usable, cells)
        if baseline == "own best" and np.count_nonzero(against.sound) > 1 and not splits:
            p, significant = np.where(np.isnan(p), p, 1.0), np.zeros_like(significant)
        yield Gain(baseline, average, p, significant, best_x, best_y, mean, rate, int(seeds.sum()))
