"""Regimes: what an arm, such as the dynamical loss, gains from under- to overparametrized networks.

At each size, each arm is at its own best setting, chosen on the validation objective. The arms are
compared seed by seed, on seeds that did not choose it: the fresh seeds of a confirmation if there
was one, else the half of the search's seeds that took no part in the choice (see `pairing`). A
claim counts all sizes and all pairs of arms, as a verdict does, so that what is claimed of test
accuracy here is what the verdict at that size says.

An arm interpolates at a size if at least 90% of the networks compared there reach the best training
accuracy that the data allow (see `interpolation`). The interpolation threshold is the smallest size
such that the reference interpolates there and at every larger size.

The paper's two claims: underparametrized networks *train* better with the dynamical loss, and
overparametrized ones *generalise* better (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Literal

import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.gains.interpolation import INTERPOLATION_SHARE
from studies.analysis.gains.size_gains import ERROR, Size
from studies.analysis.gains.swept_sizes import Sweep, judged_sizes, sweeps_of
from studies.analysis.statistics.equivalence import Outcome
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair

__all__ = ["Regimes", "cards", "regimes", "regimes_of"]


@dataclass(frozen=True)
class Regimes:
    """Both arms at all sizes.

    Args:
        parameter: the parameter that sets the size.
        pair: the arms.
        sizes: the sizes, in ascending order.
        attainable: the best training accuracy that the data allow.
        n: the fewest pairs at a size.
        most: the most pairs at a size.
        fresh: whether the seeds are fresh.
        searches: whether a pair is a search, with its seeds averaged, rather than a seed.
        compared: number of comparisons of each metric that the claims count.
        pairs: number of pairs of arms among them.
    """

    parameter: str
    pair: Pair
    sizes: tuple[Size, ...]
    attainable: float
    n: int
    most: int
    fresh: bool
    searches: bool = False
    compared: int = 1
    pairs: int = 1

    def sentences(self) -> list[str]:
        """Which claims of the paper hold here, each with its evidence."""
        below = [s for s in self.sizes if self.threshold is None or s.value < self.threshold]
        above = [s for s in self.sizes if s not in below]
        name = self.name
        return [
            f"{self._where()} Intervals are 95%, paired, {self.seeds} per {name}, each arm at its "
            f"own best setting; differences are claimed at {self.level}.",
            _claim("Underparametrized networks train better", below, 0, name),
            _claim("Overparametrized networks generalise better", above, 1, name),
        ]

    @property
    def level(self) -> str:
        """How often claims may err."""
        if self.pairs < 2:
            return f"a false discovery rate of {ERROR:.0%} over the sizes"
        return f"a level of {ERROR:.0%} over {self.compared} comparisons (Holm)"

    @property
    def name(self) -> str:
        """The name of the parameter, without its owner."""
        return self.parameter.rpartition(".")[2]

    @property
    def seeds(self) -> str:
        """Number and kind of seeds: `12 held-out seeds`."""
        n = f"{self.n}" if self.n == self.most else f"{self.n} to {self.most}"
        if self.searches and self.fresh:
            return f"{n} searches"
        return f"{n} {'fresh' if self.fresh else 'held-out'} seeds"

    @property
    def metrics(self) -> tuple[str, str]:
        """What is compared: training accuracy, and the metric of generalisation."""
        train, general = self.sizes[0].gains
        return train.metric, general.metric

    @property
    def threshold(self) -> float | None:
        """The interpolation threshold; None if it is not reached."""
        return self._interpolates_from(self.pair.reference)

    def _interpolates_from(self, arm: str) -> float | None:
        """The smallest size such that an arm interpolates there and at every larger size."""
        above = list(takewhile(lambda size: size.interpolation[arm].holds, reversed(self.sizes)))
        return above[-1].value if above else None

    def _where(self) -> str:
        """Where each arm interpolates."""
        criterion = (
            f"fit their training data, of which {INTERPOLATION_SHARE:.0%} make interpolation"
        )
        if self.attainable < 1:
            criterion += f" (accuracy {self.attainable:.4f} is attainable)"
        return (
            f"{self._where_of(self.pair.reference)} {criterion}. {self._where_of(self.pair.arm)}."
        )

    def _where_of(self, arm: str) -> str:
        threshold, largest = self._interpolates_from(arm), self.sizes[-1]
        if threshold is not None:
            (at,) = (size for size in self.sizes if size.value == threshold)
            below = [size for size in self.sizes if size.value < threshold]
            where = f"from {self.name} {threshold:g} on: {at.interpolation[arm]}"
            if below:
                where += f" there, {below[-1].interpolation[arm]} at {below[-1].value:g}"
            return f"The {arm} arm interpolates {where}"
        smaller = [f"{size.value:g}" for size in self.sizes if size.interpolation[arm].holds]
        if smaller:
            where = (
                f"at {self.name} {', '.join(smaller)}, but not at {largest.value:g}, the largest"
            )
            return f"The {arm} arm interpolates {where}: {largest.interpolation[arm]}"
        most = max(self.sizes, key=lambda size: size.interpolation[arm].share)
        where = f"at no {self.name} up to {largest.value:g}"
        return (
            f"The {arm} arm interpolates {where}: at most {most.interpolation[arm]}"
            f" (at {most.value:g})"
        )

    def headline(self) -> str:
        """What the figure shows."""
        return "From under- to overparametrized, each arm at its own best setting"

    def caption(self) -> str:
        """How to read the figure."""
        train, general = (metric.replace("_", " ") for metric in self.metrics)
        text = (
            f"{train.capitalize()} and {general} of both arms, and the gain of "
            f"{self.pair.losses[0]}, against the {self.name} of the network; {self.seeds} per "
            f"{self.name}."
        )
        if self.threshold is not None:
            text += " The dashed line is the interpolation threshold."
        return text

    def table(self) -> pd.DataFrame:
        """One row per size and metric."""
        rows = [
            {
                self.parameter: size.value,
                keys.PARAMETERS: size.parameters,
                "parameters_per_sample": size.ratio,
                **_interpolation_columns(size),
                "static_best_train_accuracy": size.static_train_best,
                "metric": gain.metric,
                self.pair.reference: gain.reference_mean,
                self.pair.arm: gain.arm_mean,
                **dict(zip(("gain", "low", "high"), gain.gain, strict=True)),
                "n": gain.comparison.n,
                "p_adjusted": gain.p_adjusted,
                "outcome": gain.decision.outcome,
                "of_trained": gain.claim.of_trained,
            }
            for size in self.sizes
            for gain in size.gains
        ]
        return pd.DataFrame(rows)


def cards(tables: Tables, draw: DrawFunction[Regimes]) -> Iterator[Card]:
    """Both arms of each pair over each parameter that sets a size."""
    for result in tables.cached(regimes_of).values():
        name, sentences, table = f"regimes_{result.name}", result.sentences(), result.table()
        card = Card(
            "From under- to overparametrized",
            [Drawing(name, result.headline(), result.caption(), partial(draw, result))],
            paragraphs=sentences[:1],
            table=table,
            table_caption=f"Both arms at each {result.name}, in both metrics.",
            files={f"{name}.csv": table},
            sentences=sentences,
        )
        yield card if len(tables.question.pairs) < 2 else card.of_pair(*result.pair)


def regimes_of(tables: Tables) -> dict[str, Regimes]:
    """The regimes of a study, by the parameter that sets the size, and by pair of arms if there are
    several: those of the reference that the first pair has."""
    pairs = len(tables.question.pairs)
    shown = [of_pair.question.pair for of_pair in tables.against_reference]
    return {
        f"{name}, {result.pair}" if pairs > 1 else name: result
        for name in tables.network_sizes
        for result in regimes(sweeps_of(tables, name))
        if result.pair in shown
    }


def regimes(sweeps: Sequence[Sweep]) -> list[Regimes]:
    """The regimes of pairs of arms over the same sizes, whose claims count each other."""
    compared = sum(len(sweep.sizes) for sweep in sweeps)
    results = []
    for sweep, sizes in zip(sweeps, judged_sizes(sweeps), strict=True):
        counts = [gain.comparison.n for size in sizes for gain in size.gains]
        results.append(
            Regimes(
                parameter=sweep.parameter,
                pair=sweep.pair,
                sizes=sizes,
                attainable=sweep.attainable,
                n=min(counts),
                most=max(counts),
                fresh=sweep.fresh,
                searches=sweep.searches,
                compared=compared,
                pairs=len(sweeps),
            )
        )
    return results


def _interpolation_columns(size: Size) -> dict[str, object]:
    """How many networks of each arm interpolate, as columns of the table."""
    return {
        f"{arm}_{name}": value
        for arm, fit in size.interpolation.items()
        for name, value in {
            "interpolates": fit.holds,
            "interpolating": fit.share,
            "interpolating_low": fit.low,
            "interpolating_high": fit.high,
            "networks": fit.n,
        }.items()
    }


def _claim(claim: str, sizes: list[Size], which: int, name: str) -> str:
    if not sizes:
        return f"{claim}: not tested; no size lies on that side of the threshold."
    by_outcome: dict[Outcome | Literal["withheld"], list[Size]] = {}
    for size in sizes:
        claimed = size.gains[which].claim
        outcome = claimed.decision.outcome if claimed.withheld is None else "withheld"
        by_outcome.setdefault(outcome, []).append(size)
    won, little = by_outcome.get("better", []), by_outcome.get("better_within_margin", [])
    margin = f"{sizes[0].gains[which].decision.margin or 0:g}"
    if len(won) == len(sizes):
        verdict = "holds"
    elif won:
        verdict = "holds in part"
    elif little:
        verdict = f"holds by less than the margin of {margin}"
        verdict += " in part" if len(little) < len(sizes) else ""
    else:
        is_open = {"undecided", "withheld"} & set(by_outcome)
        verdict = "is not shown" if is_open else "does not hold"
    parts = [
        f"{word} at {name} {_listed(by_outcome[outcome], which)}"
        for outcome, word in (
            ("better", "gain"),
            ("better_within_margin", f"gain of less than {margin}"),
            ("worse", "loss"),
            ("worse_within_margin", f"loss of less than {margin}"),
            ("equivalent", f"equivalent within ±{margin}"),
            ("withheld", "a difference that networks not seen could undo"),
            ("undecided", "no difference shown"),
        )
        if outcome in by_outcome
    ]
    metric = sizes[0].gains[which].metric
    up = keys.higher_is_better(metric)
    metric = f"{'' if up else 'fall of '}{metric.replace('_', ' ')}"
    return f"{claim}: {verdict} here ({metric}: {'; '.join(parts)})."


def _listed(sizes: list[Size], which: int) -> str:
    """`20 (+0.053 [0.031, 0.075]), 50 (...)`."""
    parts = []
    for size in sizes:
        mean, low, high = size.gains[which].gain
        decimals = 3 if high - low > 0.01 else 4
        ends = ", ".join(f"{v:+.{decimals}f}" for v in (low, high))
        of = "; of networks that train" if size.gains[which].claim.of_trained else ""
        parts.append(f"{size.value:g} ({mean:+.{decimals}f} [{ends}]{of})")
    return ", ".join(parts)
