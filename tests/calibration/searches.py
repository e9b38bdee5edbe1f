"""The luck of the search, and maps of nothing: how often each is taken for a gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from studies.analysis.statistics.comparison import compare_cells
from studies.analysis.statistics.evidence import Claim, Evidence, claim_of, evidence_of
from studies.analysis.statistics.sign_flips import flipped_p
from studies.definition.arms import Pair
from tests.calibration.scenarios import (
    NOISE,
    Drawn,
    Population,
    Resampled,
    Scenario,
    Simulated,
)

__all__ = [
    "CLUSTERED",
    "ClusteredRates",
    "MapRates",
    "SearchRates",
    "clustered_rates",
    "map_rates",
    "search_rates",
]

_ALPHA = 0.05
_EQUAL = 1e-9  # true differences are equal but for rounding
_PAIR = Pair("arm", "reference")
_POPULATIONS: tuple[Population, ...] = ("all", "trained")
_BETTER, _WORSE = ("better", "better_within_margin"), ("worse", "worse_within_margin")
_SAME = ("equivalent", "better_within_margin", "worse_within_margin")
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
        one_better: `better` or `worse`, whichever is said more often, is said by the t test of the
            seeds of the first search alone.
        better: likewise it is claimed of all networks by the R searches, where their difference is
            0.
        better_of_trained: likewise of networks that train, where theirs is 0.
        same: less than the margin is claimed of all networks, of a difference of the margin.
        same_of_trained: likewise of networks that train.
        missed: the interval does not hold the true difference that it is of: of all networks if one
            was seen to fail, else of those that train.
        finds_five_points: `better` is claimed of a gain of 0.05, of either.
    """

    scenario: str
    luck: float
    searches: int
    n: int
    repeats: int
    one_better: float
    better: float
    better_of_trained: float
    same: float
    same_of_trained: float
    missed: float
    finds_five_points: float


def search_rates(
    scenario: Scenario, luck: float, searches: int, n: int, repeats: int, seed: int = 0
) -> SearchRates:
    """The rates of one case, by the suite's own functions."""
    draws = np.random.default_rng([seed, searches, n, int(100 * luck)])
    number = np.repeat(np.arange(searches), n)
    margin = NOISE / 2 if isinstance(scenario, Simulated) else scenario.margin / n**0.5 * 2

    def said(mean: float, of: Population) -> tuple[list[Claim], list[Evidence], Drawn]:
        pairs = scenario.draw((repeats, searches * n), mean, draws, of)
        own = luck * NOISE * draws.standard_normal((repeats, searches))
        arms = pairs.arm + np.repeat(own, n, axis=1)
        evidence = [
            evidence_of(
                pd.DataFrame({"arm": arm, "reference": reference}),
                _PAIR,
                is_accuracy=True,
                compared=(arm - reference).reshape(searches, n).mean(axis=1),
                searches=number,
                **scenario.failure,
            )
            for arm, reference in zip(arms, pairs.reference, strict=True)
        ]
        claims = [claim_of(one, margin, higher_is_better=True, plans=False) for one in evidence]
        return claims, evidence, pairs._replace(arm=arms)

    def true_of(of: Population, drawn: Drawn, evidence: Sequence[Evidence]) -> np.ndarray:
        below = np.array([one.failures.below for one in evidence if one.failures is not None])
        return drawn.mean if of == "all" else drawn.trained(below)

    def wrong(of: Population) -> float:
        claims, evidence, drawn = said(0.0, of)
        truth = true_of(of, drawn, evidence)
        better, worse = (_claims(claims, names, of) for names in (_BETTER, _WORSE))
        return max(
            float((better & (truth < _EQUAL)).mean()), float((worse & (truth > -_EQUAL)).mean())
        )

    def wrongly_same(of: Population) -> float:
        rates = []
        for mean in (margin, -margin):
            claims, evidence, drawn = said(mean, of)
            wide = np.abs(true_of(of, drawn, evidence)) > margin - _EQUAL
            rates.append(float((_claims(claims, _SAME, of) & wide).mean()))
        return max(rates)

    _, evidence, drawn = said(0.0, "all")
    gain, _, _ = said(0.05, "all")
    one = compare_cells((drawn.arm - drawn.reference)[:, :n])
    failed = [each.trained is not each.everyone for each in evidence]
    truth = np.where(failed, drawn.mean, true_of("trained", drawn, evidence))
    low, high = (
        np.array([getattr(each.everyone, end) for each in evidence]) for end in ("low", "high")
    )
    return SearchRates(
        scenario=scenario.name,
        luck=luck,
        searches=searches,
        n=n,
        repeats=repeats,
        one_better=max(float(((one.p < _ALPHA) & (s * one.mean > 0)).mean()) for s in (1, -1)),
        better=wrong("all"),
        better_of_trained=wrong("trained"),
        same=wrongly_same("all"),
        same_of_trained=wrongly_same("trained"),
        missed=float(((low > truth) | (high < truth)).mean()),
        finds_five_points=float(sum(_claims(gain, _BETTER, of).mean() for of in _POPULATIONS)),
    )


def _claims(claims: Sequence[Claim], outcomes: Sequence[str], of: Population) -> np.ndarray:
    """Whether each claim is one of these, and about these networks."""
    of_trained = of == "trained"
    return np.array(
        [one.of_trained == of_trained and one.decision.outcome in outcomes for one in claims]
    )


@dataclass(frozen=True)
class ClusteredRates:
    """A study of R searches, of which some have a winner of the arm that fails often; the others are
    better by as much as makes the difference over searches 0. Few searches do not see what one
    winner in ten is like.

    Args:
        bad: share of searches whose winner is such a one; 1: all winners fail alike.
        fails: share of its networks that fail.
        searches: R.
        n: fresh seeds of each.
        repeats: simulated studies.
        better: `better` is claimed of all networks.
        worse: `worse` is.
    """

    bad: float
    fails: float
    searches: int
    n: int
    repeats: int
    better: float
    worse: float


def clustered_rates(
    bad: float, fails: float, searches: int, n: int, repeats: int, seed: int = 0
) -> ClusteredRates:
    """The rates of one case: accuracies of 0.9 with a spread of 0.01, and 0.1 where they fail."""
    draws = np.random.default_rng([seed, searches, n, int(1000 * bad), int(1000 * fails)])
    learnt, chance, spread, share = 0.9, 0.1, 0.01, bad * fails
    gain = share * (learnt - chance) / (1 - share)
    claims = []
    for _ in range(repeats):
        fail = draws.random((searches, n)) < fails * (draws.random((searches, 1)) < bad)
        luck = draws.normal(0, spread, (searches, 1))
        arm = np.where(fail, chance, learnt + gain + luck) + draws.normal(0, spread, (searches, n))
        reference = learnt + draws.normal(0, spread, (searches, n))
        evidence = evidence_of(
            pd.DataFrame({"arm": arm.ravel(), "reference": reference.ravel()}),
            _PAIR,
            is_accuracy=True,
            compared=(arm - reference).mean(axis=1),
            searches=np.repeat(np.arange(searches), n),
            chance=chance,
        )
        claims.append(claim_of(evidence, higher_is_better=True, plans=False))
    better, worse = (float(_claims(claims, names, "all").mean()) for names in (_BETTER, _WORSE))
    return ClusteredRates(bad, fails, searches, n, repeats, better, worse)


CLUSTERED = [
    (bad, fails, searches, 20)
    for bad, fails in ((1.0, 0.06), (0.2, 0.3), (0.1, 0.6))
    for searches in (5, 10, 20)
]
"""Share of bad winners, how often their networks fail, R and n of every case."""


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
        drawn = scenario.draw((_CELLS + _STATIC, _MAP_SEEDS), 0.0, draws).arm
    return drawn[:_CELLS], drawn[_CELLS:]


def summary(
    searches: Sequence[SearchRates],
    clustered: Sequence[ClusteredRates],
    maps: Sequence[MapRates],
) -> list[str]:
    """A line per case."""
    lines = [
        f"{each.scenario}, luck {each.luck:g}, R = {each.searches} of {each.n}: one search "
        f"{each.one_better:.3f}, all {each.better:.3f}, trained {each.better_of_trained:.3f}, same "
        f"{each.same:.3f} and {each.same_of_trained:.3f}, missed {each.missed:.3f}"
        for each in searches
    ]
    lines += [
        f"{each.bad:.0%} of winners fail in {each.fails:.0%}, R = {each.searches} of {each.n}: "
        f"better {each.better:.3f}, worse {each.worse:.3f}"
        for each in clustered
    ]
    lines += [
        f"map, {each.scenario}: t {each.by_t:.3f}, flips {each.by_flips:.3f}" for each in maps
    ]
    return lines


def cases(tables: Sequence[Resampled]) -> list[tuple[Scenario, float, int, int]]:
    """Scenario, luck, R and n of every case."""
    shapes = [
        Simulated(shape, *dies)
        for shape in ("normal", "skewed", "bimodal")
        for dies in ((0.0, 0.0), (0.02, 0.0), (0.02, 0.02), (0.1, 0.0), (0.1, 0.1))
    ]
    simulated: list[tuple[Scenario, float, int, int]] = [
        (shape, luck, r, 20) for shape in shapes for luck in (0.0, 0.25) for r in (5, 10)
    ]
    simulated += [(shapes[0], 1.0, r, 20) for r in (5, 10)]
    return [*simulated, *((table, 0.0, 5, 10) for table in tables)]
