"""Where instabilities begin: threshold = k / learning rate, over learning rates and sizes.

The claim to test (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793): an instability begins when the
largest Hessian eigenvalue of the dynamical loss crosses a threshold that falls as 1 / learning rate
(2 / learning rate on a quadratic) and does not depend on the width; the same threshold explains why
the static loss cannot learn where it fails.

Symbols
    k      lambda_max before an instability times the learning rate then; of a run, the median over
           its instabilities; of a size, the geometric mean over runs

One number a run: instabilities of one run are not independent. Only those of the dynamical arm
count that begin while the class weights oscillate, after the first steps, and whose lambda_max is
known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from dynloss_core import keys
from studies.analysis.card import Card, Drawing, Draws
from studies.analysis.landscape.recorded_runs import RecordedRun, Recordings, recordings_of
from studies.analysis.study_tables import Tables

__all__ = ["SizeThreshold", "Threshold", "cards", "threshold"]

BOUND = 2.0
"""Of lambda_max times the learning rate, for plain gradient descent on a quadratic."""

FAILS = 0.9
"""A static run fails if its training accuracy ends below this share of the attainable one."""

LAST = 0.1
"""Share of a static run, at its end, whose median lambda_max is its level."""


@dataclass(frozen=True)
class SizeThreshold:
    """The threshold at one size.

    Args:
        size: value of the parameter that sets it; None if the study has one size.
        k: geometric mean over runs.
        low: the lower end of its 95% t interval, on the logarithm.
        high: the upper end of the same.
        exponent: slope of log threshold over log learning rate; -1 if threshold = k / rate. None
            with a single learning rate.
        exponent_low: the lower end of its 95% interval.
        exponent_high: the upper end of the same.
        runs: with an instability that counts.
        instabilities: in them.
    """

    size: float | None
    k: float
    low: float
    high: float
    exponent: float | None
    exponent_low: float | None
    exponent_high: float | None
    runs: int
    instabilities: int


@dataclass(frozen=True, eq=False)
class Threshold:
    """The threshold over learning rates and sizes.

    Args:
        parameter: that sets the size; None if there is one size.
        runs: one row per dynamical run with an instability that counts: seed, learning rate, size,
            `threshold` (median lambda_max before), k, and how many.
        sizes: the threshold at each size.
        p_size: the p value of an F test that k is the same at all sizes, within blocks of seed and
            learning rate; None with one size.
        static: one row per static run: seed, learning rate, size, `level` (median of lambda_max
            times the learning rate over its last tenth), accuracy, `fails`.
    """

    parameter: str | None
    runs: pd.DataFrame
    sizes: tuple[SizeThreshold, ...]
    p_size: float | None
    static: pd.DataFrame

    @property
    def name(self) -> str:
        """Of the parameter that sets the size, without its owner; empty if there is one size."""
        return "" if self.parameter is None else self.parameter.rpartition(".")[2]

    @property
    def shows_static(self) -> bool:
        """Whether the level of a static run is known."""
        return bool(self.static["level"].notna().any())

    def headline(self) -> str:
        """What the figure shows."""
        ks = [each.k for each in self.sizes]
        between = f"{min(ks):.2f}" if len(ks) == 1 else f"{min(ks):.2f} to {max(ks):.2f}"
        return f"Instabilities begin at λmax = k / learning rate, k = {between}"

    def caption(self) -> str:
        """What to read off the figure."""
        over = f" and {self.name}" if self.name else ""
        static = "; and how sharp static runs end" if self.shows_static else ""
        return (
            "Where instabilities begin: the largest Hessian eigenvalue before them, over learning "
            f"rate{over}{static}."
        )

    def table(self) -> pd.DataFrame:
        """One row per size."""
        return pd.DataFrame([asdict(each) for each in self.sizes])

    def sentences(self) -> list[str]:
        """What was found, in words."""
        name, found = self.name, []
        for each in self.sizes:
            where = "" if each.size is None else f"At {name} {each.size:g} "
            line = (
                f"{where}instabilities begin at lambda_max = k / learning rate with k = "
                f"{each.k:.2f} [{each.low:.2f}, {each.high:.2f}] ({each.instabilities} "
                f"instabilities, n = {each.runs} runs)"
            )
            if each.exponent is not None:
                line += (
                    f"; the power of the learning rate is {each.exponent:.2f} "
                    f"[{each.exponent_low:.2f}, {each.exponent_high:.2f}]"
                )
            found.append(line[0].upper() + line[1:] + ".")
        if self.p_size is not None:
            ks = [each.k for each in self.sizes]
            verdict = "depends on" if self.p_size < 0.05 else "is not seen to depend on"
            found.append(
                f"k {verdict} {name} (F test within seed and learning rate, "
                f"p = {self.p_size:.2g}): from {min(ks):.2f} to {max(ks):.2f}."
            )
        found += [self._levels(fails=True), self._levels(fails=False)]
        return [each for each in found if each]

    def _levels(self, *, fails: bool) -> str:
        rows = self.static[self.static["fails"] == fails]
        levels = rows["level"].dropna()
        diverged = int(rows[keys.ACCURACY].isna().sum())
        if levels.empty:
            return ""
        above = int((levels >= BOUND).sum())
        low, middle, high = levels.quantile([0.25, 0.5, 0.75])
        which = f"fail (training accuracy below {FAILS:g} of the attainable)" if fails else "learn"
        tail = f"; {diverged} more diverged" if diverged else ""
        by_rate = levels.groupby(rows[keys.LEARNING_RATE])
        if by_rate.ngroups > 1:
            tail += "; at learning rate " + ", ".join(
                f"{rate:g}: {int((group >= BOUND).sum())} of {len(group)}"
                for rate, group in by_rate
            )
        return (
            f"Of {len(levels)} static runs that {which}, {above} end with lambda_max times the "
            f"learning rate at {BOUND:g} or above; median {middle:.2f}, middle half {low:.2f} to "
            f"{high:.2f}{tail}."
        )


def cards(tables: Tables, draw: Draws[Threshold]) -> Iterator[Card]:
    """The threshold over learning rates and sizes."""
    recorded, attainable = tables.once(recordings_of), tables.question.attainable
    found = None if recorded is None else threshold(recorded, tables.size, attainable)
    if found is not None:
        table = found.table()
        yield Card(
            "The threshold of the instabilities",
            [Drawing("threshold", found.headline(), found.caption(), partial(draw, found))],
            table=table,
            table_caption=f"One row per {found.name}." if found.name else "",
            files={"threshold.csv": table},
            sentences=found.sentences(),
            subject="landscape",
        )


def threshold(
    recorded: Recordings, parameter: str | None, attainable: float = 1.0
) -> Threshold | None:
    """The threshold of a study's recorded runs.

    Args:
        recorded: the runs, with instabilities and curvature.
        parameter: dotted name of what sets the size; None if the study has one size.
        attainable: the best training accuracy that the data allow.

    Returns:
        None unless instabilities were found at several learning rates or sizes, in more than one
        run of a size.
    """
    rows = [row for run in recorded.of(keys.DYNAMICAL) if (row := _unstable(run, parameter))]
    runs = pd.DataFrame(rows)
    if runs.empty:
        return None
    runs["k"] = runs["threshold"] * runs[keys.LEARNING_RATE]
    runs = runs[runs.groupby("size")["k"].transform("size") > 1]  # one run has no interval
    if max(runs[keys.LEARNING_RATE].nunique(), runs["size"].nunique()) < 2:
        return None
    sizes = tuple(
        _at_size(None if parameter is None else float(str(size)), group)
        for size, group in runs.groupby("size", sort=True)
    )
    static = [_level(run, parameter, attainable) for run in recorded.of(keys.STATIC)]
    columns = [keys.SEED, keys.LEARNING_RATE, "size", "level", keys.ACCURACY, "fails"]
    return Threshold(
        parameter=parameter,
        runs=runs,
        sizes=sizes,
        p_size=_same_at_all_sizes(runs) if len(sizes) > 1 else None,
        static=pd.DataFrame(static, columns=columns),
    )


def _unstable(run: RecordedRun, parameter: str | None) -> dict[str, object] | None:
    """A run's threshold; None if none of its instabilities counts."""
    rows = run.instabilities
    if rows.empty:
        return None
    counts = rows["period_number"].notna() & ~rows["begins_before"].astype(bool)
    rows = rows[counts & rows["hessian_before"].notna()]
    if rows.empty:
        return None
    rates = rows[keys.LEARNING_RATE]
    k = float((rows["hessian_before"] * rates).median())
    return {
        keys.SEED: run.seed,
        keys.LEARNING_RATE: float(rates.median()),
        "size": _size(run, parameter),
        "threshold": k / float(rates.median()),
        "instabilities": len(rows),
    }


def _level(run: RecordedRun, parameter: str | None, attainable: float) -> dict[str, object]:
    level = float("nan")
    if not run.curvature.empty and np.isfinite(run.final_accuracy):
        steps = run.curvature[keys.STEP]
        last = run.curvature[steps >= (1 - LAST) * steps.max()]
        level = float((last[keys.HESSIAN_LAMBDA_MAX] * last[keys.LEARNING_RATE]).median())
    return {
        keys.SEED: run.seed,
        keys.LEARNING_RATE: run.learning_rate,
        "size": _size(run, parameter),
        "level": level,
        keys.ACCURACY: run.final_accuracy,
        "fails": not run.final_accuracy >= FAILS * attainable,
    }


def _size(run: RecordedRun, parameter: str | None) -> float:
    return 0.0 if parameter is None else float(run.point[parameter])


def _at_size(size: float | None, runs: pd.DataFrame) -> SizeThreshold:
    logs = np.log(runs["k"].to_numpy(dtype=float))
    half = float(stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs))
    exponent = _exponent(runs) if runs[keys.LEARNING_RATE].nunique() > 1 and len(runs) > 2 else None
    return SizeThreshold(
        size=size,
        k=float(np.exp(logs.mean())),
        low=float(np.exp(logs.mean() - half)),
        high=float(np.exp(logs.mean() + half)),
        exponent=None if exponent is None else exponent[0],
        exponent_low=None if exponent is None else exponent[1],
        exponent_high=None if exponent is None else exponent[2],
        runs=len(runs),
        instabilities=int(runs["instabilities"].sum()),
    )


def _exponent(runs: pd.DataFrame) -> tuple[float, float, float]:
    """Slope of log threshold over log learning rate, with its 95% interval."""
    fit = stats.linregress(np.log(runs[keys.LEARNING_RATE]), np.log(runs["threshold"]))
    half = float(stats.t.ppf(0.975, len(runs) - 2) * fit.stderr)
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def _same_at_all_sizes(runs: pd.DataFrame) -> float | None:
    """p of an F test between nested least-squares fits of log k: blocks of seed and learning rate
    alone, and with sizes added. Blocks need not be complete."""
    logs = np.log(runs["k"].to_numpy(dtype=float))
    blocks = runs.groupby([keys.SEED, keys.LEARNING_RATE]).ngroup().to_numpy(dtype=np.intp)
    sizes = runs.groupby("size").ngroup().to_numpy(dtype=np.intp)
    small, large = _indicators([blocks]), _indicators([blocks, sizes])
    (less, few), (more, many) = _residual(small, logs), _residual(large, logs)
    left = len(logs) - many
    if left < 1 or many == few or more <= 0:
        return None
    return float(stats.f.sf(((less - more) / (many - few)) / (more / left), many - few, left))


def _indicators(factors: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([np.eye(factor.max() + 1)[factor] for factor in factors], axis=1)


def _residual(design: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, int]:
    """Sum of squares that a least-squares fit leaves, and the rank of the design."""
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return float(((values - design @ solution) ** 2).sum()), int(rank)
