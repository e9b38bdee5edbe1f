"""How often verdicts err: `make calibrate`, see `tests/calibration/README.md`."""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core.atomic import write_atomically
from studies.analysis.figures.files import save_figure
from studies.analysis.statistics.alpha_spending import share_of_look
from studies.analysis.statistics.comparison import compare_cells
from studies.analysis.statistics.failures import failures
from studies.definition.arms import Pair
from tests.calibration import searches
from tests.calibration.figure import draw_rates
from tests.calibration.scenarios import Scenario, from_tables, simulated

__all__ = ["NOMINAL", "RESULTS", "Rates", "above", "judged", "rates"]

ALPHA = 0.05
NOMINAL = {
    "false_better": ALPHA / 2,
    "false_equivalent": ALPHA,
    "missed": ALPHA,
    "unwarned_better": ALPHA / 2,
    "unwarned_equivalent": ALPHA,
    "missed_with_unseen": ALPHA,
}
"""What each rate may be: `better` is one side of a two-sided test; `missed` is 1 - coverage."""

SIZES = (6, 12, 24, 48, 100, 200)
LOOKS = 5
PAIR = Pair("arm", "reference")
RESULTS = Path(__file__).parents[2] / "studies" / "results"


@dataclass(frozen=True)
class Rates:
    """Of one scenario at one number of pairs.

    Args:
        scenario: its name.
        n: pairs of a round.
        repeats: simulated studies.
        false_better: `better` is claimed, by the margin or by less, of a true difference of 0.
        false_equivalent: `equivalent`, or less than the margin, is claimed of one of the margin, in
            either direction, whichever is taken for it more often.
        missed: the 95% interval does not hold the true difference of 0.
        unwarned_better: `better` is claimed of a true difference of 0, and no warning says that
            failures not yet seen could undo it.
        unwarned_equivalent: likewise `equivalent` of a difference of the margin.
        missed_with_unseen: the interval with failures not yet seen does not hold 0.
        by_looks: `better` is claimed in a round up to the k-th, of a true difference of 0, by
            whoever stops at the first that says so.
        finds_equivalence: `equivalent` is claimed of a true difference of 0.
        finds_five_points: `better` is claimed, without that warning, of a gain of 0.05.
    """

    scenario: str
    n: int
    repeats: int
    false_better: float
    false_equivalent: float
    missed: float
    unwarned_better: float
    unwarned_equivalent: float
    missed_with_unseen: float
    by_looks: tuple[float, ...]
    finds_equivalence: float
    finds_five_points: float


@dataclass(frozen=True, eq=False)
class Judged:
    """What is said of R simulated studies.

    Args:
        better: (R,) whether `better` is claimed.
        same: (R,) whether the difference is claimed to lie within the margin.
        holds: (R,) whether the interval holds 0.
        low: (R,) lower end of the interval with failures not yet seen.
        high: (R,) upper end.
    """

    better: np.ndarray
    same: np.ndarray
    holds: np.ndarray
    low: np.ndarray
    high: np.ndarray


def judged(
    accuracies: tuple[np.ndarray, np.ndarray], margin: float, failure: Mapping[str, float]
) -> Judged:
    """What `equivalence.decide` and `failures` say of many studies at once, (R, n) each."""
    found = compare_cells(accuracies[0] - accuracies[1], level=1 - ALPHA)
    room = margin - np.abs(found.mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.t.sf(room / found.sem, found.n - 1)
    p = np.where(found.sem > 0, p, np.where(room > 0, 2.0**-found.n, 1.0))
    unseen = [
        failures(pd.DataFrame(dict(zip(PAIR, each, strict=True))), PAIR, **failure)
        for each in zip(*accuracies, strict=True)
    ]
    return Judged(
        better=(found.p < ALPHA) & (found.mean > 0),
        same=p < ALPHA,
        holds=(found.low <= 0) & (found.high >= 0),
        low=np.array([each.low for each in unseen]),
        high=np.array([each.high for each in unseen]),
    )


def rates(scenario: Scenario, n: int, repeats: int, seed: int = 0) -> Rates:
    """The rates of one scenario at n pairs."""
    draws, margin = np.random.default_rng([seed, n]), scenario.margin
    nothing = scenario.draw((repeats, n), 0.0, draws)
    rounds = [judged(nothing, margin, scenario.failure)]
    better, seen = [rounds[0].better], [nothing[0] - nothing[1]]
    for look in range(2, LOOKS + 1):  # each with the seeds of all before it
        arm, reference = scenario.draw((repeats, n), 0.0, draws)
        seen.append(arm - reference)
        later = compare_cells(np.concatenate(seen, axis=1))
        better.append((later.p < ALPHA * share_of_look(look)) & (later.mean > 0))
    first, ever = rounds[0], np.logical_or.accumulate(better)
    wide, (gain,) = (
        [judged(scenario.draw((repeats, n), m, draws), margin, scenario.failure) for m in means]
        for means in ([margin, -margin], [0.05])
    )
    inside = [each.same & (each.low > -margin) & (each.high < margin) for each in wide]
    return Rates(
        scenario=scenario.name,
        n=n,
        repeats=repeats,
        false_better=float(first.better.mean()),
        false_equivalent=max(float(each.same.mean()) for each in wide),
        missed=float(1 - first.holds.mean()),
        unwarned_better=float((first.better & (first.low > 0)).mean()),
        unwarned_equivalent=max(float(each.mean()) for each in inside),
        missed_with_unseen=float(((first.low > 0) | (first.high < 0)).mean()),
        by_looks=tuple(float(each.mean()) for each in ever),
        finds_equivalence=float((first.same & ~first.better).mean()),
        finds_five_points=float((gain.better & (gain.low > 0)).mean()),
    )


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
            values = [getattr(each, key) for each in own]
            count = sum(above(getattr(each, key), nominal, each.repeats) for each in own)
            parts.append(f"{key} {max(values):.3f} ({count}/{len(own)})")
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
            searches.search_rates(scenario, luck, r, 20, 10 * arguments.repeats)
            for scenario, luck, r in searches.cases()
        ]
        simple = [
            each
            for each in simulated()
            if each.of == "accuracies" and each.shape != "skewed" and not each.reference_dies
        ]
        maps = [searches.map_rates(each, arguments.repeats) for each in [*simple, *tables]]
        print(*searches.summary(searched, maps), sep="\n", flush=True)  # noqa: T201
        content["searches"] = [asdict(each) for each in searched]
        content["maps"] = [asdict(each) for each in maps]
        write_atomically(out, json.dumps(content, indent=1) + "\n")
    save_figure(draw_rates(content), out.parent, out.stem, ("png",))


if __name__ == "__main__":
    main()
