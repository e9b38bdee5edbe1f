"""Regimes: what an arm, such as the dynamical loss, gains from under- to overparametrized networks.

The file is long because sizes, words and table of the regimes are one thing.

At each size, each arm is at its own best setting, chosen on the validation objective. The arms are
compared seed by seed, on seeds that did not choose it: the fresh seeds of a confirmation if there
was one, else the half of the search's seeds that took no part in the choice (see `pairing`).

An arm interpolates at a size if at least 90% of the networks compared there reach the best training
accuracy that the data allow (see `interpolation`). The interpolation threshold is the smallest size
such that the reference interpolates there and at every larger size.

The paper's two claims: underparametrized networks *train* better with the dynamical loss, and
overparametrized ones *generalise* better (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import NamedTuple

import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.gains.interpolation import INTERPOLATION_SHARE, interpolation_of
from studies.analysis.gains.size_gains import FALSE_DISCOVERY_RATE, MetricGain, Size, metric_gain
from studies.analysis.statistics.equivalence import Outcome
from studies.analysis.statistics.evidence import counted_p
from studies.analysis.statistics.judge import evidence_of_rows
from studies.analysis.statistics.pairing import at_own_best, paired_by_seed
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair

__all__ = ["MetricGain", "Regimes", "Size", "cards", "regimes", "regimes_of"]


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
    """

    parameter: str
    pair: Pair
    sizes: tuple[Size, ...]
    attainable: float
    n: int
    most: int
    fresh: bool
    searches: bool = False

    def sentences(self) -> list[str]:
        """Which claims of the paper hold here, each with its evidence."""
        below = [s for s in self.sizes if self.threshold is None or s.value < self.threshold]
        above = [s for s in self.sizes if s not in below]
        name = self.name
        return [
            f"{self._where()} Intervals are 95%, paired, {self.seeds} per {name}, each arm at its "
            "own best setting; differences are claimed at a false discovery rate of "
            f"{FALSE_DISCOVERY_RATE:.0%} over the sizes.",
            _claim("Underparametrized networks train better", below, 0, name),
            _claim("Overparametrized networks generalise better", above, 1, name),
        ]

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
    """Both arms over each parameter that sets a size."""
    for result in tables.cached(regimes_of).values():
        name, sentences, table = f"regimes_{result.name}", result.sentences(), result.table()
        yield Card(
            "From under- to overparametrized",
            [Drawing(name, result.headline(), result.caption(), partial(draw, result))],
            paragraphs=sentences[:1],
            table=table,
            table_caption=f"Both arms at each {result.name}, in both metrics.",
            files={f"{name}.csv": table},
            sentences=sentences,
        )


def regimes_of(tables: Tables) -> dict[str, Regimes]:
    """The regimes of a study, by the parameter that sets the size."""
    question = tables.question
    by_parameter = {
        name: regimes(
            tables.search,
            tables.compared,
            name,
            question.objective,
            question.pair,
            attainable=question.attainable,
            margin=question.margin,
            look=1 if tables.latest_look is None else tables.number_of(tables.latest_look),
            networks=tables.fresh_networks if tables.searches > 1 else None,
            below=question.fails_below,
            chance=question.chance,
        )
        for name in tables.sizes
    }
    return {name: result for name, result in by_parameter.items() if result is not None}


def regimes(
    search: pd.DataFrame,
    confirm: pd.DataFrame,
    parameter: str,
    objective: str,
    pair: Pair = Pair(),  # noqa: B008  (frozen)
    *,
    attainable: float = 1.0,
    margin: float | None = None,
    look: int = 1,
    networks: pd.DataFrame | None = None,
    below: float | None = None,
    chance: float = 0.0,
) -> Regimes | None:
    """The regimes of a study over the sizes of its network; None without both arms at two sizes.

    Args:
        search: rows of the members table with phase `search`.
        confirm: rows of a confirmation; empty if there was none.
        parameter: the parameter that sets the size, such as `model.width`.
        objective: static validation metric that chose the settings.
        pair: the arms.
        attainable: the best training accuracy that the data allow.
        margin: the margin of equivalence in the objective, set beforehand.
        look: number of the look at fresh seeds, which enters the p values (see `looks`).
        networks: rows of the networks behind `confirm`, if its rows stand for searches.
        below: accuracy below which a network failed; None: see `failures`.
        chance: accuracy of guessing.
    """
    searched = networks is not None
    chosen, fresh = _chosen(search, confirm, parameter, objective)
    metrics = (keys.TRAIN_ACCURACY, keys.on_test_set(objective) if fresh else objective)
    networks = networks if fresh else None
    paired = [] if chosen is None else _paired(chosen, parameter, metrics, pair, networks)
    if len(paired) < 2:
        return None
    sizes = []
    by_size = _gains(paired, metrics, pair, objective, margin, look if fresh else 1, below, chance)
    for paired_size, gains in zip(paired, by_size, strict=True):
        rows = paired_size.rows
        trained = rows if paired_size.networks is None else paired_size.networks
        fit = {arm: interpolation_of(trained[trained[keys.ARM] == arm], attainable) for arm in pair}
        of_reference = search[
            (search[parameter] == paired_size.value) & (search[keys.ARM] == pair.reference)
        ]
        best = _best_fit(
            of_reference if len(of_reference) else rows[rows[keys.ARM] == pair.reference]
        )
        parameters, samples = _whole(rows, keys.PARAMETERS), _whole(rows, keys.TRAIN_SAMPLES)
        sizes.append(Size(paired_size.value, parameters, samples, fit, best, gains))
    counts = [gain.comparison.n for size in sizes for gain in size.gains]
    return Regimes(
        parameter=parameter,
        pair=pair,
        sizes=tuple(sizes),
        attainable=attainable,
        n=min(counts),
        most=max(counts),
        fresh=fresh,
        searches=searched,
    )


class _PairedSize(NamedTuple):
    """One size at which both arms can be compared.

    Args:
        value: the value of the parameter that sets it.
        rows: rows of both arms at their chosen settings.
        networks: the networks behind them, if rows stand for searches.
        pairs: each metric by seed, with one column per arm.
    """

    value: float
    rows: pd.DataFrame
    networks: pd.DataFrame | None
    pairs: dict[str, pd.DataFrame]


def _chosen(
    search: pd.DataFrame, confirm: pd.DataFrame, parameter: str, objective: str
) -> tuple[pd.DataFrame | None, bool]:
    """Each arm at its own best setting for each size, and whether on fresh seeds; None without a
    confirmation and without enough seeds to hold some out."""
    both = confirm.groupby(parameter)[keys.ARM].nunique() if len(confirm) else pd.Series(dtype=int)
    if int((both == 2).sum()) >= 2:
        return confirm, True
    if search[keys.SEED].nunique() >= 2 * 2:
        return at_own_best(search, objective, [parameter, keys.ARM], choosing="half"), False
    return None, False


def _paired(
    chosen: pd.DataFrame,
    parameter: str,
    metrics: tuple[str, str],
    pair: Pair,
    networks: pd.DataFrame | None,
) -> list[_PairedSize]:
    """The sizes at which both arms have at least two seeds in common, ascending."""
    sizes = []
    for value, rows in chosen.groupby(parameter):
        pairs = {metric: paired_by_seed(rows, metric) for metric in metrics}
        enough = all(len(by_seed) >= 2 for by_seed in pairs.values())
        if set(rows[keys.ARM]) == set(pair) and enough:
            own = None if networks is None else networks[networks[parameter] == value]
            sizes.append(_PairedSize(float(str(value)), rows, own, pairs))
    return sizes


def _gains(
    paired: list[_PairedSize],
    metrics: tuple[str, str],
    pair: Pair,
    objective: str,
    margin: float | None,
    look: int,
    below: float | None,
    chance: float,
) -> Iterator[tuple[MetricGain, MetricGain]]:
    """The gains at each size, their p values adjusted over the sizes."""
    by_metric = []
    for metric in metrics:
        evidence = [
            evidence_of_rows(
                size.rows, metric, pair, networks=size.networks, below=below, chance=chance
            )
            for size in paired
        ]
        own = margin if _kind(metric) == _kind(objective) else None
        counted = counted_p(evidence, own, method="benjamini-hochberg", look=look)
        by_metric.append(
            [
                metric_gain(
                    metric,
                    pair,
                    size.pairs[metric],
                    of_size,
                    p,
                    own,
                    diverged=bool(size.rows[keys.DIVERGED].any()),
                )
                for size, of_size, p in zip(paired, evidence, counted, strict=True)
            ]
        )
    yield from zip(*by_metric, strict=True)


def _kind(metric: str) -> str:
    """`accuracy` or `loss`: a margin is in the unit of one of the two."""
    return metric.rpartition("_")[2]


def _best_fit(of_arm: pd.DataFrame) -> float:
    """The best mean training accuracy of a setting; NaN if every setting has a diverged network."""
    sound = of_arm[~of_arm.groupby(keys.TRIAL)[keys.DIVERGED].transform("any").astype(bool)]
    return float(sound.groupby(keys.TRIAL)[keys.TRAIN_ACCURACY].mean().max())


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


def _whole(rows: pd.DataFrame, name: str) -> int | None:
    return int(rows[name].iloc[0]) if name in rows.columns and rows[name].notna().all() else None


def _claim(claim: str, sizes: list[Size], which: int, name: str) -> str:
    if not sizes:
        return f"{claim}: not tested; no size lies on that side of the threshold."
    by_outcome: dict[Outcome, list[Size]] = {}
    for size in sizes:
        by_outcome.setdefault(size.gains[which].decision.outcome, []).append(size)
    won, little = by_outcome.get("better", []), by_outcome.get("better_within_margin", [])
    margin = f"{sizes[0].gains[which].decision.margin or 0:g}"
    if len(won) == len(sizes):
        verdict = "holds"
    elif won:
        verdict = "holds in part"
    else:
        verdict = f"holds by less than the margin of {margin}" if little else "does not hold"
        verdict += " in part" if 0 < len(little) < len(sizes) else ""
    parts = [
        f"{word} at {name} {_listed(by_outcome[outcome], which)}"
        for outcome, word in (
            ("better", "gain"),
            ("better_within_margin", f"gain of less than {margin}"),
            ("worse", "loss"),
            ("worse_within_margin", f"loss of less than {margin}"),
            ("equivalent", f"equivalent within ±{margin}"),
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
