"""How often verdicts err: `make calibrate`, see `tests/calibration/README.md`."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core.atomic import write_atomically
from studies.analysis.figures.files import save_figure
from studies.analysis.statistics.alpha_spending import share_of_look
from studies.analysis.statistics.comparison import compare_cells
from studies.analysis.statistics.failures import failures
from studies.definition.arms import Pair
from studies.definition.confirm_seeds import FEWEST_PAIRS
from tests.calibration import searches
from tests.calibration.figure import draw_rates
from tests.calibration.scenarios import Drawn, Population, Scenario, from_tables, simulated

__all__ = ["NOMINAL", "RESULTS", "Rates", "above", "judged", "rates"]

ALPHA = 0.05
NOMINAL = {
    "false_better": ALPHA / 2,
    "false_better_of_trained": ALPHA / 2,
    "false_equivalent": ALPHA,
    "false_equivalent_of_trained": ALPHA,
    "missed": ALPHA,
    "missed_with_unseen": ALPHA,
}
"""What each rate may be: `better` is one side of a two-sided test; `missed` is 1 - coverage."""

SIZES = (6, 12, 24, 30, 48, 100, 200)
LOOKS = 5
_SAME = 1e-9  # true differences are equal but for rounding
PAIR = Pair("arm", "reference")
RESULTS = Path(__file__).parents[2] / "studies" / "results"


@dataclass(frozen=True)
class Rates:
    """Of one scenario at one number of pairs.

    Args:
        scenario: its name.
        n: pairs of a round.
        repeats: simulated studies.
        false_better: `better` or `worse`, whichever is said more often, by the margin or by less, is
            claimed of all networks, whose true difference is 0.
        false_better_of_trained: likewise of networks that train, where theirs is 0. Which they are
            depends on the limit of each study: what is not true by that limit is false.
        false_equivalent: `equivalent`, or less than the margin, is claimed of all networks where
            their difference is the margin, in either direction, whichever is taken for it more
            often.
        false_equivalent_of_trained: likewise of networks that train.
        missed: with 30 pairs or more, the 95% interval does not hold the true difference that it is
            of: of all networks if one was seen to fail, else of those that train. None with fewer.
        missed_with_unseen: the interval with failures not yet seen does not hold the true difference
            of all networks.
        by_looks: `better` is claimed of networks that train in a round up to the k-th, of a true
            difference of 0, by whoever stops at the first that says so.
        t_better: `better` or `worse` is said by the paired t test of all pairs, of a true difference
            of 0, as verdicts once did.
        finds_equivalence: `equivalent` is claimed, of either, of a true difference of 0.
        finds_five_points: `better` is claimed of a gain of 0.05.
        finds_five_points_of_all: it is claimed of all networks.
    """

    scenario: str
    n: int
    repeats: int
    false_better: float
    false_better_of_trained: float
    false_equivalent: float
    false_equivalent_of_trained: float
    missed: float | None
    missed_with_unseen: float
    by_looks: tuple[float, ...]
    t_better: float
    finds_equivalence: float
    finds_five_points: float
    finds_five_points_of_all: float


@dataclass(frozen=True, eq=False)
class Judged:
    """What is said of R simulated studies; all arrays are (R,).

    Args:
        better: whether `better` is claimed of all networks, `worse` or neither: 1, -1 or 0.
        same: whether their difference is claimed to lie within the margin.
        better_of_trained: the same of networks that train, where nothing is claimed of all.
        same_of_trained: likewise.
        low: lower end of the interval.
        high: upper end.
        unseen_low: lower end of the interval with failures not yet seen.
        unseen_high: upper end.
        failed: whether a network was seen to fail.
        below: the accuracy below which it did.
    """

    better: np.ndarray
    same: np.ndarray
    better_of_trained: np.ndarray
    same_of_trained: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unseen_low: np.ndarray
    unseen_high: np.ndarray
    failed: np.ndarray
    below: np.ndarray


def judged(
    accuracies: tuple[np.ndarray, np.ndarray], margin: float, failure: Mapping[str, float]
) -> Judged:
    """What `evidence.claim_of` says of many studies at once, (R, n) each; written again, from its
    formulas, for speed and as a check."""
    arm, reference = accuracies
    difference = arm - reference
    unseen = [
        failures(pd.DataFrame(dict(zip(PAIR, pair, strict=True))), PAIR, **failure)[0]
        for pair in zip(arm, reference, strict=True)
    ]
    low, high, below = (
        np.array([getattr(one, name) for one in unseen]) for name in ("low", "high", "below")
    )
    trained = (arm >= below[:, np.newaxis]) & (reference >= below[:, np.newaxis])
    everyone = _tested(difference, margin)
    some = _tested(np.where(trained, difference, np.nan), margin)
    sign, same = np.sign(everyone.mean) * (everyone.p < ALPHA), everyone.p_same < ALPHA
    inside = np.maximum(-low, high) < margin
    sign_of_all = sign * np.where(everyone.mean > 0, low > 0, high < 0)
    claimed = (sign_of_all != 0) | (same & inside)
    few = trained.sum(axis=1) < FEWEST_PAIRS
    some_sign = np.sign(some.mean) * (some.p < ALPHA)
    return Judged(
        better=sign_of_all,
        same=same & inside,
        better_of_trained=np.where(claimed | few, 0, some_sign),
        same_of_trained=(some.p_same < ALPHA) & ~claimed & ~few,
        low=everyone.low,
        high=everyone.high,
        unseen_low=low,
        unseen_high=high,
        failed=np.asarray(~trained.all(axis=1)),
        below=below,
    )


class _Tested(NamedTuple):
    mean: np.ndarray
    p: np.ndarray
    p_same: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _tested(difference: np.ndarray, margin: float) -> _Tested:
    """The t test with its correction for skewness, of each row of (R, n), NaN where not known."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rows without a pair
        n = (~np.isnan(difference)).sum(axis=1)
        mean = np.nanmean(difference, axis=1)
        centred = difference - mean[:, np.newaxis]
        sd = np.sqrt(np.nansum(centred**2, axis=1) / (n - 1))
        skewness = np.nanmean(centred**3, axis=1) / sd**3 * n**2 / ((n - 1) * (n - 2))
        error, critical = np.sqrt(6 / n), stats.t.isf(ALPHA / 2, n - 1) / np.sqrt(n)

        def p(sign: int, edge: float) -> np.ndarray:
            size, g = sign * (mean - edge) / sd, sign * skewness - error
            least = np.minimum(size, critical)
            hall = ((1 + g * least / 3) ** 3 - 1) / g + g / (6 * n)
            hall = hall * np.maximum(size / critical, 1.0)
            return np.asarray(stats.t.sf(np.sqrt(n) * np.fmin(size, hall), n - 1))

        def reach(sign: int) -> np.ndarray:
            g = sign * skewness - error
            hall = ((1 + g * critical / 3) ** 3 - 1) / g + g / (6 * n)
            cubic = 3 / g * (np.cbrt(1 + g * (critical - g / (6 * n))) - 1)
            size = np.where((hall > 0) & (hall < critical), critical**2 / hall, cubic)
            return np.asarray(np.fmax(critical, size) * sd)

        differ = np.minimum(1.0, 2 * np.where(mean > 0, p(1, 0.0), p(-1, 0.0)))
        same = np.maximum(p(1, -margin), p(-1, margin))
        return _Tested(mean, differ, same, mean - reach(1), mean + reach(-1))


def rates(scenario: Scenario, n: int, repeats: int, seed: int = 0) -> Rates:
    """The rates of one scenario at n pairs."""
    draws, margin = np.random.default_rng([seed, n]), scenario.margin

    def drawn(mean: float, of: Population) -> tuple[Drawn, Judged]:
        pairs = scenario.draw((repeats, n), mean, draws, of)
        return pairs, judged(pairs[:2], margin, scenario.failure)

    nothing, said = drawn(0.0, "all")
    pairs, said_of_trained = drawn(0.0, "trained")
    wide = [drawn(mean, "all")[1].same for mean in (margin, -margin)]
    wide_of_trained = [drawn(mean, "trained") for mean in (margin, -margin)]
    gain = drawn(0.05, "all")[1]
    truth = np.where(said.failed, nothing.mean, nothing.trained(said.below))
    misses = (said.low > truth) | (said.high < truth)
    unseen = (said.unseen_low > nothing.mean) | (said.unseen_high < nothing.mean)
    before = compare_cells(nothing.arm - nothing.reference)
    return Rates(
        scenario=scenario.name,
        n=n,
        repeats=repeats,
        false_better=_either(said.better),
        false_better_of_trained=_false(
            said_of_trained.better_of_trained, pairs.trained(said_of_trained.below)
        ),
        false_equivalent=max(float(same.mean()) for same in wide),
        false_equivalent_of_trained=max(
            float(
                (one.same_of_trained & (np.abs(drawn.trained(one.below)) > margin - _SAME)).mean()
            )
            for drawn, one in wide_of_trained
        ),
        missed=float(misses.mean()) if n >= FEWEST_PAIRS else None,
        missed_with_unseen=float(unseen.mean()),
        by_looks=_by_looks(scenario, n, repeats, draws),
        t_better=_either(np.sign(before.mean) * (before.p < ALPHA)),
        finds_equivalence=float((said.same | said.same_of_trained).mean()),
        finds_five_points=float(((gain.better > 0) | (gain.better_of_trained > 0)).mean()),
        finds_five_points_of_all=float((gain.better > 0).mean()),
    )


def _either(said: np.ndarray) -> float:
    """How often the one side is said, or the other, whichever is said more often."""
    return max(float((said > 0).mean()), float((said < 0).mean()))


def _false(said: np.ndarray, truth: np.ndarray) -> float:
    """How often `better` is said where it is not true, or `worse`, whichever is more often."""
    better, worse = (said > 0) & (truth < _SAME), (said < 0) & (truth > -_SAME)
    return max(float(better.mean()), float(worse.mean()))


def _by_looks(
    scenario: Scenario, n: int, repeats: int, draws: np.random.Generator
) -> tuple[float, ...]:
    """How often networks that train are called better where they are not, in one of the first k
    rounds, each with the seeds of all before it."""
    pairs = scenario.draw((repeats, LOOKS * n), 0.0, draws, "trained")
    said = []
    for look in range(1, LOOKS + 1):
        arm, reference = pairs.arm[:, : look * n], pairs.reference[:, : look * n]
        below = np.array(
            [
                failures(pd.DataFrame(dict(zip(PAIR, one, strict=True))), PAIR, **scenario.failure)[
                    0
                ].below
                for one in zip(arm, reference, strict=True)
            ]
        )
        trained = np.minimum(arm, reference) >= below[:, np.newaxis]
        tested = _tested(np.where(trained, arm - reference, np.nan), scenario.margin)
        claimed = (tested.p < ALPHA * share_of_look(look)) & (trained.sum(axis=1) >= FEWEST_PAIRS)
        said.append(claimed & (tested.mean > 0) & (pairs.trained(below) < _SAME))
    return tuple(float(ever.mean()) for ever in np.logical_or.accumulate(said))


def above(rate: float, nominal: float, repeats: int) -> bool:
    """Whether a rate is above its nominal one by more than the simulation's own error."""
    return rate > nominal + 3 * math.sqrt(nominal * (1 - nominal) / repeats)


def summary(found: Sequence[Rates]) -> list[str]:
    """For each scenario the worst of each rate, and how many sizes have it above nominal."""
    lines = []
    for name in dict.fromkeys(each.scenario for each in found):
        own = [each for each in found if each.scenario == name]
        parts = []
        for key, nominal in NOMINAL.items():
            values = [value for each in own if (value := getattr(each, key)) is not None]
            count = sum(above(value, nominal, own[0].repeats) for value in values)
            parts.append(f"{key} {max(values):.3f} ({count}/{len(values)})")
        looks = max(each.by_looks[-1] for each in own)
        lines.append(f"{name:<42} {', '.join(parts)}, after {LOOKS} looks {looks:.3f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000, help="simulated studies of a case")
    parser.add_argument(
        "--only", choices=("rounds", "searches"), help="leave the others as they are"
    )
    parser.add_argument("--match", default="", help="of rounds, only scenarios with this text")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rates.json"))
    arguments = parser.parse_args()
    out = arguments.out
    content = json.loads(out.read_text()) if out.exists() else {}
    content["nominal"] = NOMINAL
    tables = list(from_tables(RESULTS))
    if arguments.only != "searches":
        scenarios: list[Scenario] = [*simulated(), *tables]
        rows = {each["scenario"]: [] for each in content.get("rates", [])}
        for row in content.get("rates", []):
            rows[row["scenario"]].append(row)
        for scenario in scenarios:
            if arguments.match in scenario.name:
                found = [rates(scenario, n, arguments.repeats) for n in SIZES]
                rows[scenario.name] = [asdict(each) for each in found]
                print(*summary(found), flush=True)  # noqa: T201
            known = [rows[each.name] for each in scenarios if each.name in rows]
            content["rates"] = list(itertools.chain.from_iterable(known))
            write_atomically(out, json.dumps(content, indent=1) + "\n")
    if arguments.only != "rounds":
        searched = [
            searches.search_rates(scenario, luck, r, n, 2 * arguments.repeats)
            for scenario, luck, r, n in searches.cases(tables)
        ]
        simple = [
            each
            for each in simulated()
            if each.of == "accuracies" and each.shape != "skewed" and not each.reference_dies
        ]
        maps = [searches.map_rates(each, arguments.repeats) for each in [*simple, *tables]]
        clustered = [
            searches.clustered_rates(*case, 2 * arguments.repeats) for case in searches.CLUSTERED
        ]
        lines = searches.summary(searched, clustered, maps)
        print(*lines, sep="\n", flush=True)  # noqa: T201
        content["searches"] = [asdict(each) for each in searched]
        content["clustered"] = [asdict(each) for each in clustered]
        content["maps"] = [asdict(each) for each in maps]
        write_atomically(out, json.dumps(content, indent=1) + "\n")
    if {"rates", "searches", "maps"} <= set(content):
        save_figure(draw_rates(content), out.parent, out.stem, ("png",))


if __name__ == "__main__":
    main()
