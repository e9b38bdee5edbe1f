"""How sharp the minima are that training ends in, and whether that goes with validation accuracy.

The claim to test (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793): in the end the valley is wider
with the dynamical loss. Both arms are measured on the *static* loss, on the training set, after the
last step; pairs share the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core import keys
from studies.analysis.card import Card, Drawing, Draws
from studies.analysis.statistics.pairing import paired_by_seed
from studies.analysis.study_tables import Tables

__all__ = ["Correlation", "Minima", "MinimaAtSize", "Ratio", "cards", "minima"]

_NAMES = {
    keys.FINAL_HESSIAN_LAMBDA_MAX: "largest eigenvalue",
    keys.FINAL_HESSIAN_TRACE: "trace",
}
_SMALLEST_SAMPLE = 4  # a rank correlation of three can be 1 by chance, one time in three


@dataclass(frozen=True)
class Ratio:
    """Dynamical over static, in pairs.

    Args:
        metric: that is compared.
        dynamical: geometric mean.
        static: likewise, over the same seeds.
        value: geometric mean of the ratio within pairs.
        low: the lower end of its 95% t interval, on the logarithm.
        high: the upper end of the same.
        p: the p value of the t test that it is 1.
        n: pairs.
    """

    metric: str
    dynamical: float
    static: float
    value: float
    low: float
    high: float
    p: float
    n: int


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of the final lambda_max with validation accuracy, in one arm.

    Args:
        arm: which.
        rho: the correlation over seeds.
        low: the lower end of its 95% interval (Fisher's z with the variance of Bonett and Wright,
            2000).
        high: the upper end of the same.
        n: runs.
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
        size: value of the parameter that sets it; None if there is one size.
        ratios: the ratios of lambda_max and of the trace.
        correlations: one an arm.
        left_out: pairs with a diverged run or a lambda_max or trace that is not positive.
    """

    size: float | None
    ratios: tuple[Ratio, ...]
    correlations: tuple[Correlation, ...]
    left_out: int


@dataclass(frozen=True, eq=False)
class Minima:
    """The minima of a study.

    Args:
        parameter: that sets the size; None if there is one size.
        sizes: what was found at each.
        runs: rows of the members table that were measured.
    """

    parameter: str | None
    sizes: tuple[MinimaAtSize, ...]
    runs: pd.DataFrame

    @property
    def name(self) -> str:
        """Of the parameter that sets the size, without its owner; empty if there is one size."""
        return "" if self.parameter is None else self.parameter.rpartition(".")[2]

    @property
    def pairs(self) -> str:
        """How many pairs a ratio rests on: `n = 31 to 32 pairs`."""
        return _pairs([ratio for each in self.sizes for ratio in each.ratios])

    def headline(self) -> str:
        """What the figure shows."""
        ratios = [each.ratios[0] for each in self.sizes]
        lower = sum(ratio.high < 1 for ratio in ratios)
        higher = sum(ratio.low > 1 for ratio in ratios)
        if self.parameter is None:
            found = "lower" if lower else "higher" if higher else "neither lower nor higher"
            return f"λmax ends {found} with the dynamical loss"
        return (
            f"λmax ends lower with the dynamical loss at {lower} of {len(ratios)} sizes, "
            f"higher at {higher}"
        )

    def caption(self) -> str:
        """What to read off the figure."""
        return (
            "How sharp the networks end: largest eigenvalue and trace of the Hessian of the static "
            "loss in both arms, and what that has to do with validation accuracy."
        )

    def table(self) -> pd.DataFrame:
        """One row per size and metric."""
        rows = []
        for each in self.sizes:
            found = {f"rho_{c.arm}": c.rho for c in each.correlations}
            rows += [{"size": each.size, **vars(ratio), **found} for ratio in each.ratios]
        return pd.DataFrame(rows)

    def sentences(self) -> list[str]:
        """What was found, in words."""
        name, found = self.name, []
        for each in self.sizes:
            where = "At the end" if each.size is None else f"At {name} {each.size:g}, at the end,"
            parts = [
                f"the {_NAMES[ratio.metric]} of the Hessian "
                f"is {ratio.dynamical:.3g} with the dynamical loss and {ratio.static:.3g} with the "
                f"static one, a ratio of {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
                for ratio in each.ratios
            ]
            line = f"{where} {'; '.join(parts)} ({_pairs(each.ratios)}"
            line += f", {each.left_out} left out)." if each.left_out else ")."
            if each.correlations:
                line += " Rank correlation of lambda_max with validation accuracy: " + ", ".join(
                    f"{c.rho:+.2f} [{c.low:+.2f}, {c.high:+.2f}] ({c.arm})"
                    for c in each.correlations
                )
                line += "."
            found.append(line)
        return found


def _pairs(ratios: Sequence[Ratio]) -> str:
    counts = [ratio.n for ratio in ratios]
    few, many = min(counts), max(counts)
    return f"n = {few} pairs" if few == many else f"n = {few} to {many} pairs"


def cards(tables: Tables, draw: Draws[Minima]) -> Iterator[Card]:
    """How sharp the networks of the latest round ended, or of the search where there was none."""
    found = minima(tables.search if tables.confirm.empty else tables.confirm, tables.size)
    if found is not None:
        table = found.table()
        size = f"{found.name} and " if found.name else ""
        yield Card(
            "Sharpness of the minima",
            [Drawing("minima", found.headline(), found.caption(), partial(draw, found))],
            table=table,
            table_caption=f"One row per {size}measure.",
            files={"minima.csv": table},
            sentences=found.sentences(),
            subject="landscape",
        )


def minima(members: pd.DataFrame, parameter: str | None) -> Minima | None:
    """The minima of the networks whose final curvature was measured.

    Args:
        members: rows of the members table, of one phase.
        parameter: dotted name of what sets the size; None if the study has one size.

    Returns:
        None if there is no pair of them.
    """
    if keys.FINAL_HESSIAN_LAMBDA_MAX not in members:
        return None
    runs = members[members[keys.RECORDED]]
    groups = [(None, runs)] if parameter is None else list(runs.groupby(parameter, sort=True))
    sizes = [found for size, rows in groups if (found := _at_size(size, rows)) is not None]
    return Minima(parameter, tuple(sizes), runs) if sizes else None


def _at_size(size: object, rows: pd.DataFrame) -> MinimaAtSize | None:
    ratios, left_out = [], 0
    by_arm = rows.groupby(keys.ARM)[keys.TRIAL].nunique()
    if len(by_arm) < 2 or (by_arm > 1).any():  # no pair, or no saying which
        return None
    for metric in _NAMES:
        pairs = paired_by_seed(rows, metric)
        good = pairs[(pairs > 0).all(axis=1)]
        left_out = max(left_out, rows[keys.SEED].nunique() - len(good))
        if len(good) < 2:
            return None
        ratios.append(_ratio(metric, good))
    return MinimaAtSize(
        size=None if size is None else float(str(size)),
        ratios=tuple(ratios),
        correlations=tuple(
            found
            for arm in (keys.DYNAMICAL, keys.STATIC)
            if (found := _correlation(arm, rows[rows[keys.ARM] == arm])) is not None
        ),
        left_out=left_out,
    )


def _ratio(metric: str, pairs: pd.DataFrame) -> Ratio:
    logs = np.log(pairs[[keys.DYNAMICAL, keys.STATIC]].to_numpy(dtype=float))
    difference = logs[:, 0] - logs[:, 1]
    half = float(stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(difference))
    middle = float(difference.mean())
    return Ratio(
        metric=metric,
        dynamical=float(np.exp(logs[:, 0].mean())),
        static=float(np.exp(logs[:, 1].mean())),
        value=float(np.exp(middle)),
        low=float(np.exp(middle - half)),
        high=float(np.exp(middle + half)),
        p=float(stats.ttest_1samp(difference, 0.0).pvalue),
        n=len(pairs),
    )


def _correlation(arm: str, rows: pd.DataFrame) -> Correlation | None:
    pair = rows[[keys.FINAL_HESSIAN_LAMBDA_MAX, keys.VALIDATION_ACCURACY]].dropna()
    if len(pair) < _SMALLEST_SAMPLE or (pair.nunique() < 2).any():
        return None
    rho = float(stats.spearmanr(pair.iloc[:, 0], pair.iloc[:, 1]).statistic)
    z = np.arctanh(np.clip(rho, -0.999999, 0.999999))
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / (len(pair) - 3))
    return Correlation(arm, rho, float(np.tanh(z - half)), float(np.tanh(z + half)), len(pair))
