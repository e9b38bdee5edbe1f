"""Where instabilities begin: threshold = k / learning rate, over learning rates, sizes, momenta.

The file is long because runs, fit and words of one claim stand together.

The claim to test (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793): an instability begins when the
largest Hessian eigenvalue of the dynamical loss crosses a threshold that falls as 1 / learning rate
(2 / learning rate on a quadratic) and does not depend on the width; the same threshold explains why
the static loss cannot learn where it fails. Without momentum, linear stability requires k = 2,
which can hardly fail; with momentum, the bound is different (see `landscape.stability_bound`).

Symbols
    k      lambda_max at the onset of an instability, times the learning rate then; for a run, the
           median over its instabilities; for a setting, the geometric mean over runs
    bound  value of k that linear stability requires for the optimiser

There is one number per run, because instabilities of one run are not independent. Only those are
used that begin while the class weights oscillate, after the first steps, with a known lambda_max.
Seeing no difference shows nothing: settings have the same threshold if the ratio of any two is
shown to lie within 10% (see `statistics.within_blocks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from dynloss_core import keys
from studies.analysis.card import Card, DrawFunction, Drawing
from studies.analysis.landscape.recorded_runs import RecordedRun, Recordings, recordings_of
from studies.analysis.statistics.within_blocks import (
    largest_difference,
    p_value_of_settings,
    power_law,
)
from studies.analysis.study_tables import Tables

__all__ = ["SettingThreshold", "Threshold", "cards", "threshold"]

RATIO_MARGIN = 0.1
"""Ratios of thresholds between 1 / (1 + this) and 1 + this count as equivalent."""

FAILING_SHARE = 0.9
"""A static run fails if its training accuracy ends below this share of the attainable one."""

LAST_SHARE = 0.1
"""Share of a static run, at its end, over which the median lambda_max is its level."""


@dataclass(frozen=True)
class SettingThreshold:
    """The threshold of one arm at one setting.

    Args:
        arm: the name of the arm.
        value: value of the parameter that sets it, the size or the momentum; None if there is only
            one setting.
        bound: the bound of the optimiser.
        k: geometric mean over runs.
        low: lower end of its 95% t interval, computed on the logarithm.
        high: upper end.
        equivalent: whether k is shown to equal the bound within 10% (90% interval).
        exponent: slope of log threshold over log learning rate; -1 if threshold = k / rate. None
            with a single learning rate.
        exponent_low: lower end of its 95% interval.
        exponent_high: upper end.
        runs: number of runs with an instability that is used.
        instabilities: number of instabilities used.
    """

    arm: str
    value: float | None
    bound: float
    k: float
    low: float
    high: float
    equivalent: bool
    exponent: float | None
    exponent_low: float | None
    exponent_high: float | None
    runs: int
    instabilities: int


@dataclass(frozen=True, eq=False)
class Threshold:
    """The threshold over learning rates and settings.

    Args:
        parameter: the parameter that defines a setting; None if there is only one setting.
        runs: one row per oscillating run with an instability that is used: arm, seed, learning
            rate, `value`, `bound`, `threshold` (median lambda_max at the onsets), k, and the number
            of instabilities.
        settings: the threshold of each arm at each setting.
        p_same: p value of an F test that k / bound is the same at all settings, within blocks of
            seed and learning rate; None with one setting.
        apart: the largest ratio (above 1) by which k / bound of any two settings may differ, from
            the ends of the 90% intervals of paired comparisons; None with one setting, or if two
            share fewer than two blocks.
        static: one row per static run: arm, seed, learning rate, `value`, `level` (median of
            lambda_max times the learning rate over its last tenth), `bound`, accuracy, `fails`.
    """

    parameter: str | None
    runs: pd.DataFrame
    settings: tuple[SettingThreshold, ...]
    p_same: float | None
    apart: float | None
    static: pd.DataFrame

    @property
    def name(self) -> str:
        """The last part of the parameter's name; empty if there is only one setting."""
        return "" if self.parameter is None else self.parameter.rpartition(".")[2]

    @property
    def arms(self) -> list[str]:
        """The arms with a threshold."""
        return list(dict.fromkeys(setting.arm for setting in self.settings))

    @property
    def bounds(self) -> list[float]:
        """The distinct bounds of the settings."""
        return sorted({setting.bound for setting in self.settings})

    @property
    def equivalent(self) -> bool:
        """Whether all settings are shown to have the same k / bound within 10%."""
        return self.apart is not None and self.apart <= 1 + RATIO_MARGIN

    @property
    def shows_static(self) -> bool:
        """Whether the level of a static run is known."""
        return bool(self.static["level"].notna().any())

    def headline(self) -> str:
        """What the figure shows."""
        ratio = len(self.bounds) > 1
        ks = [setting.k / setting.bound if ratio else setting.k for setting in self.settings]
        between = f"{min(ks):.2f}" if len(ks) == 1 else f"{min(ks):.2f} to {max(ks):.2f}"
        if ratio:
            return f"Instabilities begin at {between} times the stability bound"
        return f"Instabilities begin at λmax = k / learning rate, k = {between}"

    def caption(self) -> str:
        """How to read the figure."""
        over = f" and {self.name}" if self.name else ""
        static = "; and the final sharpness of static runs" if self.shows_static else ""
        return (
            "Where instabilities begin: the largest Hessian eigenvalue at their onset, against "
            f"learning rate{over}{static}."
        )

    def table(self) -> pd.DataFrame:
        """One row per arm and setting."""
        return pd.DataFrame([asdict(setting) for setting in self.settings])

    def sentences(self) -> list[str]:
        """What was found, in words."""
        lines = [self._at(setting) for setting in self.settings]
        if len(self.settings) > 1:
            lines.append(self._together())
        lines += [self._levels(fails=True), self._levels(fails=False)]
        return [line for line in lines if line]

    def _at(self, setting: SettingThreshold) -> str:
        where = "" if setting.value is None else f"at {self.name} {setting.value:g} "
        who = f"of {setting.arm} " if len(self.arms) > 1 else ""
        line = (
            f"{where}instabilities {who}begin at lambda_max = k / learning rate with k = "
            f"{setting.k:.2f} [{setting.low:.2f}, {setting.high:.2f}], where the bound is "
            f"{setting.bound:.3g} ({setting.instabilities} instabilities, n = {setting.runs} runs)"
        )
        line += "" if setting.equivalent else f"; agreement within {RATIO_MARGIN:.0%} is not shown"
        if setting.exponent is not None:
            line += (
                f"; the exponent of the learning rate is {setting.exponent:.2f} "
                f"[{setting.exponent_low:.2f}, {setting.exponent_high:.2f}]"
            )
        return line[0].upper() + line[1:] + "."

    def _together(self) -> str:
        quantity = "k / bound" if len(self.bounds) > 1 else "k"
        ks = [
            setting.k / (setting.bound if len(self.bounds) > 1 else 1.0)
            for setting in self.settings
        ]
        between = f"from {min(ks):.2f} to {max(ks):.2f}"
        which = f"at any two values of {self.name}" if self.name else "in any two arms"
        if len(self.arms) > 1 and self.name:
            which += " and arms"
        test = "" if self.p_same is None else f"; F test of no difference, p = {self.p_same:.2g}"
        if self.apart is None:
            return f"{quantity} is {between}{test}."
        verdict = "is the same within" if self.equivalent else "is not shown to be the same within"
        return (
            f"{quantity} {verdict} {RATIO_MARGIN:.0%} {which} ({between}; they differ by at most "
            f"{self.apart - 1:.1%}, 90% intervals in pairs of seed and learning rate{test})."
        )

    def _levels(self, *, fails: bool) -> str:
        rows = self.static[self.static["fails"] == fails]
        levels = (rows["level"] / rows["bound"]).dropna()
        diverged = int(rows[keys.ACCURACY].isna().sum())
        if levels.empty:
            return ""
        above = int((levels >= 1).sum())
        low, middle, high = levels.quantile([0.25, 0.5, 0.75])
        failing = f"fail (training accuracy below {FAILING_SHARE:g} of the attainable)"
        which = failing if fails else "learn"
        tail = f"; {diverged} more diverged" if diverged else ""
        by_rate = levels.groupby(rows[keys.LEARNING_RATE])
        if by_rate.ngroups > 1:
            tail += "; at learning rate " + ", ".join(
                f"{rate:g}: {int((group >= 1).sum())} of {len(group)}" for rate, group in by_rate
            )
        return (
            f"Of {len(levels)} static runs that {which}, {above} end with lambda_max times the "
            f"learning rate at or above the bound; its median is {middle:.2f} of the bound, its "
            f"middle half {low:.2f} to {high:.2f}{tail}."
        )


def cards(tables: Tables, draw: DrawFunction[Threshold]) -> Iterator[Card]:
    """The threshold over learning rates and sizes, or over momenta if those differ instead."""
    recorded, attainable = tables.cached(recordings_of), tables.question.attainable
    result = None if recorded is None else threshold(recorded, tables.size, attainable)
    if result is not None:
        table = result.table()
        yield Card(
            "The instability threshold",
            [Drawing("threshold", result.headline(), result.caption(), partial(draw, result))],
            table=table,
            table_caption=f"One row per arm and {result.name}." if result.name else "",
            files={"threshold.csv": table},
            sentences=result.sentences(),
            subject="landscape",
        )


def threshold(
    recorded: Recordings, parameter: str | None, attainable: float = 1.0
) -> Threshold | None:
    """The threshold of a study's recorded runs.

    Args:
        recorded: the runs, with instabilities and curvature.
        parameter: dotted name of what sets the size; None if the study has one size. The momentum
            then defines settings, if the runs differ in it.
        attainable: the best training accuracy that the data allow.

    Returns:
        The threshold; None unless instabilities were found at several learning rates or settings,
        in more than one run of a setting.
    """
    momenta = {run.point.get(keys.MOMENTUM) for run in recorded.runs}
    if parameter is None and len(momenta) > 1:
        parameter = keys.MOMENTUM
    runs = pd.DataFrame([row for run in recorded.oscillating if (row := _unstable(run, parameter))])
    if runs.empty:
        return None
    runs["k"] = runs["threshold"] * runs[keys.LEARNING_RATE]
    by = [keys.ARM, "value"]
    runs = runs[runs.groupby(by)["k"].transform("size") > 1]  # one run has no interval
    groups = [group for _, group in runs.groupby(by, sort=True)]
    if max(runs[keys.LEARNING_RATE].nunique(), len(groups)) < 2:
        return None
    static = [_level(run, parameter, attainable) for run in recorded.static]
    p_same, apart = _compared(groups)
    columns = [
        keys.ARM, keys.SEED, keys.LEARNING_RATE, "value", "level", "bound", keys.ACCURACY, "fails",
    ]  # fmt: skip
    return Threshold(
        parameter=parameter,
        runs=runs,
        settings=tuple(_at_setting(group, alone=parameter is None) for group in groups),
        p_same=p_same,
        apart=apart,
        static=pd.DataFrame(static, columns=columns),
    )


def _unstable(run: RecordedRun, parameter: str | None) -> dict[str, object] | None:
    """A run's threshold; None if none of its instabilities is used."""
    rows = run.instabilities
    if rows.empty or "hessian_at_onset" not in rows:
        return None
    counts = rows["period_number"].notna() & ~rows["begins_before"].astype(bool)
    rows = rows[counts & rows["hessian_at_onset"].notna()]
    if rows.empty:
        return None
    rates = rows[keys.LEARNING_RATE]
    k = float((rows["hessian_at_onset"] * rates).median())
    return {
        keys.ARM: run.arm,
        keys.SEED: run.seed,
        keys.LEARNING_RATE: float(rates.median()),
        "value": _value(run, parameter),
        "bound": run.bound,
        "threshold": k / float(rates.median()),
        "instabilities": len(rows),
    }


def _level(run: RecordedRun, parameter: str | None, attainable: float) -> dict[str, object]:
    level = float("nan")
    if not run.curvature.empty and np.isfinite(run.final_accuracy):
        steps = run.curvature[keys.STEP]
        last = run.curvature[steps >= (1 - LAST_SHARE) * steps.max()]
        level = float((last[keys.HESSIAN_LAMBDA_MAX] * last[keys.LEARNING_RATE]).median())
    return {
        keys.ARM: run.arm,
        keys.SEED: run.seed,
        keys.LEARNING_RATE: run.learning_rate,
        "value": _value(run, parameter),
        "level": level,
        "bound": run.bound,
        keys.ACCURACY: run.final_accuracy,
        "fails": not run.final_accuracy >= FAILING_SHARE * attainable,
    }


def _value(run: RecordedRun, parameter: str | None) -> float:
    return 0.0 if parameter is None else float(run.point[parameter])


def _at_setting(runs: pd.DataFrame, *, alone: bool) -> SettingThreshold:
    logs = np.log(runs["k"].to_numpy(dtype=float))
    bound, error = float(runs["bound"].iloc[0]), float(stats.sem(logs))
    half, half_90 = (float(stats.t.ppf(level, len(logs) - 1)) * error for level in (0.975, 0.95))
    slope: tuple[float, float, float] | tuple[None, None, None] = (None, None, None)
    if runs[keys.LEARNING_RATE].nunique() > 1 and len(runs) > 2:
        slope = power_law(runs[keys.LEARNING_RATE], runs["threshold"])
    away = abs(logs.mean() - np.log(bound)) + half_90
    return SettingThreshold(
        arm=str(runs[keys.ARM].iloc[0]),
        value=None if alone else float(runs["value"].iloc[0]),
        bound=bound,
        k=float(np.exp(logs.mean())),
        low=float(np.exp(logs.mean() - half)),
        high=float(np.exp(logs.mean() + half)),
        equivalent=bool(away <= np.log1p(RATIO_MARGIN)),
        exponent=slope[0],
        exponent_low=slope[1],
        exponent_high=slope[2],
        runs=len(runs),
        instabilities=int(runs["instabilities"].sum()),
    )


def _compared(groups: Sequence[pd.DataFrame]) -> tuple[float | None, float | None]:
    """`p_same` and `apart` of a `Threshold`."""
    if len(groups) < 2:
        return None, None
    blocks = [keys.SEED, keys.LEARNING_RATE]
    logs = [
        np.log(group.set_index(blocks)["k"] / float(group["bound"].iloc[0])) for group in groups
    ]
    joined = pd.concat(logs)
    p = p_value_of_settings(
        joined.to_numpy(dtype=np.float64),
        joined.groupby(level=blocks).ngroup().to_numpy(dtype=np.intp),
        np.repeat(np.arange(len(logs)), [len(log) for log in logs]),
    )
    apart = largest_difference(logs)
    return p, None if apart is None else float(np.exp(apart))
