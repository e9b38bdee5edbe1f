"""The gain map: where, over two parameters, does the dynamical loss beat the static one?

The file is long because cells, words and table of a map are one thing.

Two baselines, both shown. `own best`: the static trial with the best mean objective, at any
learning rate. If there are several static trials, it is chosen on every second seed, and the map is
made from the other seeds: on the seeds that chose it, it would look better than it is, because of
nearly tied trials the luckiest wins. Fewer than 12 seeds are not split, and nothing is claimed.
`same learning rate`: the static trial at each dynamical trial's own rate.

A cell can hold several trials, which differ in parameters that the map does not show. It gains if
one of them does, and loses if all do. All trials of the map are tested together, by flipping the
signs of seeds (see `sign_flips`): the chance that any cell is called significant by mistake is at
most 5%. The gain shown is free of the winner's curse: for each seed, the trial is chosen on the
others (see `pairing`).

If there are several searches, each is mapped on the same cells, with its own seeds and against its
own static trials. The map is the mean over the searches that tried a cell, and nothing is claimed
about it: few searches try the same cell, and their verdict is about their winners.

Symbols
    K      dynamical trials
    n      seeds
    P, Q   cells along x and y
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.gains.map_cells import (
    ArmMatrix,
    Cells,
    best_of_each,
    cells_of,
    compare_each,
    matrix_of,
    partners_of,
)
from studies.analysis.question import Question
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair
from studies.definition.early_stopping import is_stopped

__all__ = ["ReferenceChoice", "Gain", "GainMap", "cards", "gain_map", "maps_of"]

_MIN_SEEDS_TO_SPLIT = 12  # seeds; half of fewer can show nothing at 5% (see `sign_flips`)
MAPS = {"gain_map": keys.PERIOD, "learning_rate_map": keys.LEARNING_RATE}
ReferenceChoice = Literal["own best", "same learning rate"]


@dataclass(frozen=True, eq=False)
class Gain:
    """Gain over one baseline, P x Q cells.

    Args:
        baseline: the baseline.
        gain: (P, Q) mean paired difference, oriented so that positive is a gain; NaN: no trial.
        p: (P, Q) two-sided p values, adjusted over the cells.
        significant: (P, Q) p < 0.05.
        best_x: (P, Q) x of the cell's best trial over all seeds; NaN: no trial.
        best_y: (P, Q) likewise along y.
        static_mean: mean objective of the static trial, if it is the same for all cells.
        static_learning_rate: its learning rate, likewise.
        n: seeds in each comparison.
    """

    baseline: ReferenceChoice
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
        y: parameter along the second axis.
        x_edges: (P + 1,) edges of the cells along x.
        y_edges: (Q + 1,) edges of the cells along y.
        x_values: (P,) values of the grid, or geometric middles of bins.
        y_values: (Q,) likewise.
        gains: the gain over each baseline that most trials can be compared with.
        trials: (P, Q) number of trials in each cell.
        diverged: (P, Q) whether a cell has trials and each of them diverged for some seed.
        static_trials: number of static trials that the best was chosen from, in one search.
        metric: what is compared.
        n: seeds of a search.
        binned: whether cells are bins of scattered trials rather than points of a grid.
        adaptive: whether an adaptive search placed the trials. Such a map is exploratory: its
            points gather where the search found good ones.
        searches: the number of searches that the map is a mean of.
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
    searches: int = 1

    @property
    def is_tested(self) -> bool:
        """Whether anything can be claimed about a cell."""
        return self.searches == 1

    @property
    def max_trials_per_cell(self) -> int:
        """The largest number of trials in a cell."""
        return int(self.trials.max())

    @property
    def title(self) -> str:
        """What is mapped."""
        return f"Gain over {_words(self.x)} and {_words(self.y)}"

    @property
    def gain_name(self) -> str:
        """What the numbers are, such as `gain in validation accuracy`; a loss falls."""
        better = "gain in" if keys.higher_is_better(self.metric) else "fall of"
        return f"{better} {_words(self.metric)}"

    def unclear(self, gain: Gain) -> np.ndarray:
        """(P, Q) cells that were tested over this baseline and are not significant."""
        unclear: np.ndarray = np.isfinite(gain.gain) & ~gain.significant & self.is_tested
        return unclear

    def missing(self, gain: Gain) -> np.ndarray:
        """(P, Q) cells without a gain over this baseline."""
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
        seeds = f"n = {n} seeds, paired"
        if self.searches > 1:
            seeds = f"{self.searches} searches of {n} seeds"
        return f"Gain of {self.pair.losses[0]}, {seeds}"

    def caption(self) -> str:
        """How to read the figure."""
        baselines = " (first panel) and ".join(
            _BASELINE_NAMES[gain.baseline] for gain in self.gains
        )
        text = f"{self.title}, over the {self.pair.reference} arm {baselines}"
        text += " (second)." if len(self.gains) > 1 else "."
        if any(self.unclear(gain).any() for gain in self.gains):
            text += " Hatched cells are not significant."
        if self.diverged.any():
            text += " In cells with crosses every trial diverged for some seed."
        if (missing := self.missing_name()) is not None:
            text += f" Dotted: {missing}."
        return text

    def notes(self) -> list[str]:
        """Notes on how the map was made, one sentence each."""
        notes = []
        if not self.is_tested:
            notes.append(f"Means over {self.searches} searches, of which nothing is claimed.")
        if self.static_trials > 1:
            which = "the other half of the seeds"
            if self.n < _MIN_SEEDS_TO_SPLIT:
                which = "the same seeds"
                which += ", so no gain over it is claimed" if self.is_tested else ""
            notes.append(f"The {self.pair.reference} trial at its own best was chosen on {which}.")
        if self.max_trials_per_cell > 1:
            tests = ", its p value accounts for all of them" if self.is_tested else ""
            notes.append(
                f"A cell holds up to {self.max_trials_per_cell} trials: "
                f"its gain is cross-fitted{tests}."
            )
        if self.binned:
            notes.append("Cells are bins of scattered trials.")
        if self.adaptive:
            notes.append("Exploratory: an adaptive search placed the trials.")
        return notes

    def cell_in_words(self, gain: Gain, cell: tuple[int, int]) -> str:
        """Where a cell is, and what it holds."""
        row, column = cell
        where = f"{_words(self.x)} {self.x_values[row]:,.4g}, "
        where += f"{_words(self.y)} {self.y_values[column]:,.4g}"
        if self.diverged[cell]:
            return f"{where}: every trial diverged for some seed"
        if not np.isfinite(gain.gain[cell]):
            return f"{where}: {self.missing_name()}"
        count = int(self.trials[cell])
        text = f"{where}: {self.gain_name} {gain.gain[cell]:+.3f}"
        text += f", {count} trials" if count > 1 else ""
        return text + (f", p = {gain.p[cell]:.2g} over all cells" if self.is_tested else "")

    def sentences(self) -> list[str]:
        """How much of the map wins and loses, one sentence per baseline."""
        sentences = []
        arm, against = self.pair.losses[0], f"against the {self.pair.reference} arm"
        for gain in self.gains:
            cells = int(np.isfinite(gain.gain).sum())
            wins, losses = int(gain.wins.sum()), int(gain.losses.sum())
            counts = f"{arm} wins in {wins} of {cells} cells and loses in {losses}"
            if not self.is_tested:
                counts = f"{arm} is ahead in {int((gain.gain > 0).sum())} of {cells} cells"
            text = (
                f"Over {_words(self.x)} and {_words(self.y)}, {against} "
                f"{_BASELINE_NAMES[gain.baseline]}: {counts}"
            )
            best = gain.best()
            if best is not None:
                size = gain.gain[best]
                which = "largest" if size > 0 else "least negative"
                text += f"; the {which} {self.gain_name} is {size:+.3f}, {self._place(gain, best)}"
            how = f"n = {gain.n} search seeds, sign flips, 5% over all cells"
            if not self.is_tested:
                how = f"means over {self.searches} searches of {gain.n} seeds, none tested"
            sentences.append(f"{text} ({how}).")
        return sentences

    def _place(self, gain: Gain, cell: tuple[int, int]) -> str:
        """A cell in words: its values or, for a bin, its bounds and its best trial."""
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


_BASELINE_NAMES: dict[ReferenceChoice, str] = {
    "own best": "at its own best learning rate",
    "same learning rate": "at the same learning rate",
}


def _words(name: str) -> str:
    return name.replace("_", " ")


def cards(tables: Tables, draw: DrawFunction[GainMap]) -> Iterator[Card]:
    """The maps of a search; that of an adaptive search is exploratory and gives no findings."""
    for name, result in tables.cached(maps_of).items():
        notes = [f"Paired over {result.n} seeds.", *result.notes()]
        if result.is_tested:
            notes.append("The chance that any cell is called significant by mistake is at most 5%.")
        yield Card(
            result.title,
            [Drawing(name, result.headline(), result.caption(), partial(draw, result))],
            paragraphs=[" ".join(notes)],
            files={f"{name}.csv": result.table()},
            sentences=[] if result.adaptive else result.sentences(),
        )


def maps_of(tables: Tables) -> dict[str, GainMap]:
    """The gain maps of a study, by the name of their files."""
    question = tables.question
    searches = [_mapped(rows[~is_stopped(rows)], question) for rows in tables.rows_by_search]
    maps = {
        name: gain_map(
            searches, question.objective, x, pair=question.pair, adaptive=question.adaptive
        )
        for name, x in MAPS.items()
    }
    return {name: result for name, result in maps.items() if result is not None}


def _mapped(search: pd.DataFrame, question: Question) -> pd.DataFrame:
    """The rows of a search without its refinement, whose points lie near the best."""
    refines = question.refining.get(question.pair.arm)
    if not refines:
        return search
    return search[(search[keys.ARM] != question.pair.arm) | ~search[keys.TRIAL].isin(refines)]


def gain_map(
    searches: Sequence[pd.DataFrame],
    metric: str,
    x: str = keys.PERIOD,
    y: str = keys.AMPLITUDE,
    pair: Pair = Pair(),  # noqa: B008  (frozen)
    *,
    adaptive: bool = False,
) -> GainMap | None:
    """The gain map of searches; None if `x` or `y` does not vary, if every trial of an arm has a
    diverged network, or if the problem itself varies: its sizes are compared by `regimes`.

    Args:
        searches: rows of the members table of each search.
        metric: static validation metric to compare.
        x: parameter along the first axis.
        y: parameter along the second.
        pair: the arms.
        adaptive: whether proposals depended on results.
    """
    matrices = [
        both for rows in searches if (both := _arms_of(rows, metric, pair, x, y)) is not None
    ]
    if not matrices:
        return None
    of_all = pd.concat([tried.trials[[x, y]] for tried, _ in matrices]).to_numpy(dtype=float)
    cells = cells_of(*of_all.T)
    stops = np.cumsum([len(tried.trials) for tried, _ in matrices])
    own_cells = [cells.of(slice(a, b)) for a, b in pairwise([0, *stops])]
    gains = [
        {gain.baseline: gain for gain in _gains(*arms, own, metric)}
        for arms, own in zip(matrices, own_cells, strict=True)
    ]
    shared = [name for name in gains[0] if all(name in by_baseline for by_baseline in gains)]
    diverged = np.concatenate([tried.diverged for tried, _ in matrices])
    trials, lost = cells.count_of(np.full(len(diverged), True)), cells.count_of(diverged)
    return GainMap(
        pair,
        x,
        y,
        *cells.edges,
        *cells.values,
        gains=tuple(_mean_of([by_baseline[name] for by_baseline in gains]) for name in shared),
        trials=trials,
        diverged=(trials > 0) & (lost == trials),
        static_trials=max(int(np.count_nonzero(against.sound)) for _, against in matrices),
        metric=metric,
        n=min(against.values.shape[1] for _, against in matrices),
        binned=not cells.on_grid,
        adaptive=adaptive,
        searches=len(matrices),
    )


def _arms_of(
    search: pd.DataFrame, metric: str, pair: Pair, x: str, y: str
) -> tuple[ArmMatrix, ArmMatrix] | None:
    """Both arms of a search over their common seeds; None if there is nothing to map."""
    of_arm, of_reference = (search[search[keys.ARM] == arm] for arm in pair)
    seeds = np.intersect1d(of_arm[keys.SEED].unique(), of_reference[keys.SEED].unique())
    if len(seeds) < 2 or not _is_mapped(search, of_arm[[x, y]]):
        return None
    tried, against = (matrix_of(members, metric, seeds) for members in (of_arm, of_reference))
    return (tried, against) if tried.sound.any() and against.sound.any() else None


def _mean_of(gains: Sequence[Gain]) -> Gain:
    """The mean over the searches that tried each cell; for one search, its own map."""
    if len(gains) == 1:
        return gains[0]
    maps = np.stack([gain.gain for gain in gains])  # (R, P, Q)
    tried = np.isfinite(maps)
    total, count = np.where(tried, maps, 0.0).sum(axis=0), tried.sum(axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    of_best = np.where(tried, maps, -np.inf).argmax(axis=0)[np.newaxis]
    best_x, best_y = (
        np.take_along_axis(np.stack([getattr(gain, name) for gain in gains]), of_best, axis=0)[0]
        for name in ("best_x", "best_y")
    )
    nothing = np.zeros(mean.shape, dtype=bool)
    n = min(gain.n for gain in gains)
    p = np.full(mean.shape, np.nan)
    return Gain(gains[0].baseline, mean, p, nothing, best_x, best_y, None, None, n)


def _is_mapped(search: pd.DataFrame, along: pd.DataFrame) -> bool:
    """Whether both parameters vary, and the problem itself does not."""
    problem = [name for name in search.columns if "." in name]
    return bool((search[problem].nunique() <= 1).all() and (along.nunique() > 1).all())


def _gains(tried: ArmMatrix, against: ArmMatrix, cells: Cells, metric: str) -> Iterator[Gain]:
    """The map over each baseline that most trials can be compared with; a map over any other would
    be mostly empty."""
    sign = 1.0 if keys.higher_is_better(metric) else -1.0
    n = against.values.shape[1]
    splits = np.count_nonzero(against.sound) > 1 and n >= _MIN_SEEDS_TO_SPLIT
    chooses = np.arange(n) % 2 == 0 if splits else np.full(n, True)
    read = ~chooses if splits else chooses
    best = int(np.where(against.sound, against.values[:, chooses].mean(axis=1), -np.inf).argmax())
    partners: dict[ReferenceChoice, np.ndarray] = {
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
        if len(distinct := np.unique(partner[usable])) == 1:
            mean = sign * float(against.values[distinct[0], seeds].mean())
            rate = float(against.trials[keys.LEARNING_RATE].iloc[distinct[0]])
        average, p, significant = compare_each(differences, usable, cells)
        if baseline == "own best" and np.count_nonzero(against.sound) > 1 and not splits:
            p, significant = np.where(np.isnan(p), p, 1.0), np.zeros_like(significant)
        yield Gain(baseline, average, p, significant, best_x, best_y, mean, rate, int(seeds.sum()))
