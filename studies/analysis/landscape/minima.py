"""The sharpness of the minima in which training ends, and its correlation with validation accuracy.

The claim to test (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793): the final valley is wider with
the dynamical loss. Both arms are measured on the *static* loss, on the training set, after the last
step; pairs share the seed.

A network that has trained further lies in a different valley for that reason alone. So if curvature
was measured along the runs, pairs are also compared at equal training loss: the larger of their two
final losses, which both runs have passed. From an oscillating run only the moments are used at
which all class weights are 1, so that F is the static loss: the starts of its periods and its
static tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.landscape.equal_loss import ALONG, curvature_at_rest, value_at_loss
from studies.analysis.statistics.pairing import paired_by_seed
from studies.analysis.study_tables import Tables
from studies.definition.arms import Pair

__all__ = ["Correlation", "Minima", "MinimaAtSize", "Ratio", "cards", "minima"]

_NAMES = {
    keys.FINAL_HESSIAN_LAMBDA_MAX: "largest eigenvalue",
    keys.FINAL_HESSIAN_TRACE: "trace",
}
_MIN_SAMPLE_SIZE = 4  # with three, a rank correlation is ±1 by chance one time in three


@dataclass(frozen=True)
class Ratio:
    """The ratio of an arm to its reference, within pairs.

    Args:
        metric: what is compared.
        arm: geometric mean of the arm.
        reference: geometric mean of the reference, over the same seeds.
        value: geometric mean of the ratio within pairs.
        low: lower end of its 95% t interval, computed on the logarithm.
        high: upper end.
        p: p value of the t test that the ratio is 1.
        n: number of pairs.
    """

    metric: str
    arm: float
    reference: float
    value: float
    low: float
    high: float
    p: float
    n: int


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of the final lambda_max with validation accuracy, in one arm.

    Args:
        arm: the arm.
        rho: the correlation over seeds.
        low: lower end of its 95% interval (Fisher's z with the variance of Bonett and Wright,
            2000).
        high: upper end.
        n: number of runs.
    """

    arm: str
    rho: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class MinimaAtSize:
    """The minima at one size.

    Args:
        size: value of the parameter that sets it; None if there is only one size.
        ratios: the ratios of lambda_max and of the trace.
        correlations: one per arm.
        left_out: number of pairs left out: one run diverged, or a lambda_max or trace is not
            positive.
        at_equal_loss: the ratios at equal training loss; empty if too little was measured.
    """

    size: float | None
    ratios: tuple[Ratio, ...]
    correlations: tuple[Correlation, ...]
    left_out: int
    at_equal_loss: tuple[Ratio, ...] = ()


@dataclass(frozen=True, eq=False)
class Minima:
    """The minima of a study.

    Args:
        parameter: the parameter that sets the size; None if there is only one size.
        sizes: the minima at each size.
        runs: rows of the members table that were measured.
        pair: the arms.
    """

    parameter: str | None
    sizes: tuple[MinimaAtSize, ...]
    runs: pd.DataFrame
    pair: Pair

    @property
    def name(self) -> str:
        """The last part of the name of the parameter that sets the size; empty if there is only one
        size."""
        return "" if self.parameter is None else self.parameter.rpartition(".")[2]

    @property
    def pairs(self) -> str:
        """How many pairs a ratio is based on: `n = 31 to 32 pairs`."""
        return _pairs([ratio for size in self.sizes for ratio in size.ratios])

    def headline(self) -> str:
        """What the figure shows."""
        ratios = [size.ratios[0] for size in self.sizes]
        lower = sum(ratio.high < 1 for ratio in ratios)
        higher = sum(ratio.low > 1 for ratio in ratios)
        if self.parameter is None:
            direction = "lower" if lower else "higher" if higher else "neither lower nor higher"
            return f"λmax ends {direction} in {self.pair.arm} than in {self.pair.reference}"
        return (
            f"λmax ends lower in {self.pair.arm} than in {self.pair.reference} at {lower} of "
            f"{len(ratios)} sizes, higher at {higher}"
        )

    def caption(self) -> str:
        """How to read the figure."""
        return (
            "Final sharpness: the largest eigenvalue and the trace of the Hessian of the static "
            "loss in both arms, and how sharpness relates to validation accuracy."
        )

    def table(self) -> pd.DataFrame:
        """One row per size and metric."""
        rows = []
        for size in self.sizes:
            correlations = {f"rho_{c.arm}": c.rho for c in size.correlations}
            for at, ratios in (("end", size.ratios), ("equal_loss", size.at_equal_loss)):
                rows += [{"size": size.size, "at": at, **vars(r), **correlations} for r in ratios]
        return pd.DataFrame(rows)

    def sentences(self) -> list[str]:
        """What was found, in words."""
        name, lines = self.name, []
        for size in self.sizes:
            where = "At the end" if size.size is None else f"At {name} {size.size:g}, at the end,"
            parts = [
                f"the {_NAMES[ratio.metric]} of the Hessian "
                f"is {ratio.arm:.3g} in {self.pair.arm} and {ratio.reference:.3g} in "
                f"{self.pair.reference}, a ratio of {ratio.value:.2f} "
                f"[{ratio.low:.2f}, {ratio.high:.2f}]"
                for ratio in size.ratios
            ]
            line = f"{where} {'; '.join(parts)} ({_pairs(size.ratios)}"
            line += f", {size.left_out} left out)." if size.left_out else ")."
            if size.at_equal_loss:
                line += " At equal training loss, the ratio is " + " and ".join(
                    f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}] for the {_NAMES[r.metric]}"
                    for r in size.at_equal_loss
                )
                line += f" ({_pairs(size.at_equal_loss)})."
            if size.correlations:
                line += " Rank correlation of lambda_max with validation accuracy: " + ", ".join(
                    f"{c.rho:+.2f} [{c.low:+.2f}, {c.high:+.2f}] ({c.arm})"
                    for c in size.correlations
                )
                line += "."
            lines.append(line)
        return lines


def _pairs(ratios: Sequence[Ratio]) -> str:
    counts = [ratio.n for ratio in ratios]
    few, many = min(counts), max(counts)
    return f"n = {few} pairs" if few == many else f"n = {few} to {many} pairs"


def cards(tables: Tables, draw: DrawFunction[Minima]) -> Iterator[Card]:
    """The final sharpness of the networks of the latest round, or of the search without one."""
    members = tables.search if tables.fresh_networks.empty else tables.fresh_networks
    along = curvature_at_rest(members, tables)
    result = minima(members, tables.size, tables.question.pair, along)
    if result is not None:
        table = result.table()
        size = f"{result.name} and " if result.name else ""
        yield Card(
            "Sharpness of the minima",
            [Drawing("minima", result.headline(), result.caption(), partial(draw, result))],
            table=table,
            table_caption=f"One row per {size}measure.",
            files={"minima.csv": table},
            sentences=result.sentences(),
            subject="landscape",
        )


def minima(
    members: pd.DataFrame,
    parameter: str | None,
    pair: Pair = Pair(),  # noqa: B008, a tuple of two names
    along: pd.DataFrame | None = None,
) -> Minima | None:
    """The minima of the networks whose final curvature was measured.

    Args:
        members: rows of the members table, of one phase.
        parameter: dotted name of what sets the size; None if the study has one size.
        pair: the arms to compare.
        along: curvature and training loss along these runs, at moments when F is the static loss:
            identity, step, `train_loss` and the measured curvature.

    Returns:
        The minima; None without a pair.
    """
    if keys.FINAL_HESSIAN_LAMBDA_MAX not in members:
        return None
    runs = members[members[keys.RECORDED] & members[keys.ARM].isin(pair)]
    groups = [(None, runs)] if parameter is None else list(runs.groupby(parameter, sort=True))
    sizes = []
    for size, rows in groups:
        at_size = _at_size(size, rows, pair)
        if at_size is not None:
            at_equal_loss = () if along is None else _at_equal_loss(rows, along, pair)
            sizes.append(replace(at_size, at_equal_loss=at_equal_loss))
    return Minima(parameter, tuple(sizes), runs, pair) if sizes else None


def _at_size(size: object, rows: pd.DataFrame, pair: Pair) -> MinimaAtSize | None:
    ratios, left_out = [], 0
    by_arm = rows.groupby(keys.ARM)[keys.TRIAL].nunique()
    if len(by_arm) < 2 or (by_arm > 1).any():  # no pair, or ambiguous pairs
        return None
    for metric in _NAMES:
        pairs = paired_by_seed(rows, metric)
        good = pairs[(pairs > 0).all(axis=1)]
        left_out = max(left_out, rows[keys.SEED].nunique() - len(good))
        if len(good) < 2:
            return None
        ratios.append(_ratio(metric, good, pair))
    return MinimaAtSize(
        size=None if size is None else float(str(size)),
        ratios=tuple(ratios),
        correlations=tuple(
            correlation
            for arm in pair
            if (correlation := _correlation(arm, rows[rows[keys.ARM] == arm])) is not None
        ),
        left_out=left_out,
    )


def _at_equal_loss(rows: pd.DataFrame, along: pd.DataFrame, pair: Pair) -> tuple[Ratio, ...]:
    """The ratios at the larger final training loss of each pair."""
    final = paired_by_seed(rows, keys.TRAIN_LOSS)
    runs = dict(iter(along.groupby([keys.ARM, keys.SEED])))
    ratios = []
    for name, metric in ALONG.items():
        if name not in along:
            continue
        values = {
            seed: [
                value_at_loss(loss, runs[arm, seed], name) if (arm, seed) in runs else np.nan
                for arm in pair
            ]
            for seed, loss in final.max(axis=1).items()
        }
        table = pd.DataFrame.from_dict(values, orient="index", columns=list(pair))
        good = table[(table > 0).all(axis=1)]
        if len(good) > 1:
            ratios.append(_ratio(metric, good, pair))
    return tuple(ratios)


def _ratio(metric: str, pairs: pd.DataFrame, pair: Pair) -> Ratio:
    logs = np.log(pairs[list(pair)].to_numpy(dtype=float))
    difference = logs[:, 0] - logs[:, 1]
    half = float(stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(difference))
    middle = float(difference.mean())
    return Ratio(
        metric=metric,
        arm=float(np.exp(logs[:, 0].mean())),
        reference=float(np.exp(logs[:, 1].mean())),
        value=float(np.exp(middle)),
        low=float(np.exp(middle - half)),
        high=float(np.exp(middle + half)),
        p=float(stats.ttest_1samp(difference, 0.0).pvalue),
        n=len(pairs),
    )


def _correlation(arm: str, rows: pd.DataFrame) -> Correlation | None:
    pair = rows[[keys.FINAL_HESSIAN_LAMBDA_MAX, keys.VALIDATION_ACCURACY]].dropna()
    if len(pair) < _MIN_SAMPLE_SIZE or (pair.nunique() < 2).any():
        return None
    rho = float(stats.spearmanr(pair.iloc[:, 0], pair.iloc[:, 1]).statistic)
    z = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / (len(pair) - 3))
    return Correlation(arm, rho, float(np.tanh(z - half)), float(np.tanh(z + half)), len(pair))
