"""The luck of the search, and maps of nothing: how often each is taken for a gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from studies.analysis.statistics.comparison import compare_cells
from studies.analysis.statistics.sign_flips import flipped_p
from tests.calibration.scenarios import NOISE, Resampled, Scenario, Simulated

__all__ = ["MapRates", "SearchRates", "map_rates", "search_rates"]

_ALPHA = 0.05
_CELLS, _STATIC, _MAP_SEEDS = 200, 13, 20


@dataclass(frozen=True)
class SearchRates:
    """A study of R searches of n fresh seeds, whose winners differ by the luck of their search: the
    true difference of a search is normal around 0.

    Args:
        scenario: of the seeds.
        luck: standard deviation of that luck, over that of the noise of a seed.
        searches: R.
        n: fresh seeds of each.
        repeats: simulated studies.
        one_better: `better` is claimed by the seeds of the first search alone.
        one_missed: its 95% interval does not hold 0.
        better: `better` is claimed by the R searches.
        missed: their interval does not hold 0.
        finds_five_points: they claim `better` of a gain of 0.05.
    """

    scenario: str
    luck: float
    searches: int
    n: int
    repeats: int
    one_better: float
    one_missed: float
    better: float
    missed: float
    finds_five_points: float


def search_rates(
    scenario: Scenario, luck: float, searches: int, n: int, repeats: int, seed: int = 0
) -> SearchRates:
    """The rates of one case."""
    draws = np.random.default_rng([seed, searches, n, int(100 * luck)])

    def differences(mean: float) -> np.ndarray:  # (repeats, R, n)
        arm, reference = scenario.draw((repeats * searches, n), mean, draws)
        own = (arm - reference).reshape(repeats, searches, n)
        return own + luck * NOISE * draws.standard_normal((repeats, searches, 1))

    nothing = differences(0.0)
    one = compare_cells(nothing[:, 0])
    several, gain = (
        compare_cells(nothing.mean(axis=2)),
        compare_cells(differences(0.05).mean(axis=2)),
    )
    return SearchRates(
        scenario=scenario.name,
        luck=luck,
        searches=searches,
        n=n,
        repeats=repeats,
        one_better=float(((one.p < _ALPHA) & (one.mean > 0)).mean()),
        one_missed=float((one.p < _ALPHA).mean()),
        better=float(((several.p < _ALPHA) & (several.mean > 0)).mean()),
        missed=float((several.p < _ALPHA).mean()),
        finds_five_points=float(((gain.p < _ALPHA) & (gain.mean > 0)).mean()),
    )


@dataclass(frozen=True)
class MapRates:
    """Maps of 200 cells over the best of 13 static trials, 20 seeds, where nothing differs.

    Args:
        scenario: of the accuracies.
        repeats: maps.
        by_t: any cell is significant by t tests under Benjamini and Hochberg at 5%, over the trial
            that is best on the same seeds, as it was.
        by_flips: any is by sign flips, over the trial that is best on every second seed, as it is.
    """

    scenario: str
    repeats: int
    by_t: float
    by_flips: float


def map_rates(scenario: Scenario, repeats: int, seed: int = 0) -> MapRates:
    """The rates of one case."""
    draws = np.random.default_rng([seed, 7])
    by_t = by_flips = 0
    for _ in range(repeats):
        cells, static = _accuracies(scenario, draws)
        p = compare_cells(cells - static[static.mean(axis=1).argmax()]).p
        by_t += bool((stats.false_discovery_control(np.nan_to_num(p, nan=1.0)) < _ALPHA).any())
        chosen = static[static[:, ::2].mean(axis=1).argmax()]
        above, below = flipped_p((cells - chosen)[:, 1::2])
        by_flips += bool(2 * min(above.min(), below.min()) < _ALPHA)
    return MapRates(scenario.name, repeats, by_t / repeats, by_flips / repeats)


def _accuracies(scenario: Scenario, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cells (200, 20) and static trials (13, 20), all drawn from one distribution: the arm's."""
    if isinstance(scenario, Resampled):
        pool = scenario.pairs[draws.integers(len(scenario.pairs))][0]
        drawn = pool[draws.integers(len(pool), size=(_CELLS + _STATIC, _MAP_SEEDS))]
    else:
        drawn, _ = scenario.draw((_CELLS + _STATIC, _MAP_SEEDS), 0.0, draws)
    return drawn[:_CELLS], drawn[_CELLS:]


def summary(searches: Sequence[SearchRates], maps: Sequence[MapRates]) -> list[str]:
    """A line per case."""
    lines = [
        f"{each.scenario}, luck {each.luck:g}, R = {each.searches}: one search {each.one_better:.3f}"
        f" (missed {each.one_missed:.3f}), searches {each.better:.3f} (missed {each.missed:.3f})"
        for each in searches
    ]
    lines += [
        f"map, {each.scenario}: t {each.by_t:.3f}, flips {each.by_flips:.3f}" for each in maps
    ]
    return lines


def cases() -> list[tuple[Simulated, float, int]]:
    """Scenario, luck and R of every case."""
    shapes = [Simulated("normal", 0, 0), Simulated("skewed", 0, 0), Simulated("normal", 0.02, 0.02)]
    return [(shape, luck, r) for shape in shapes for luck in (0.0, 0.25, 1.0) for r in (5, 10)]
