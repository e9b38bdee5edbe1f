"""What a study found as numbers by name, as a tracker sorts and compares studies by them.

The ends of the interval of `x` are `x_low` and `x_high`.
"""

from __future__ import annotations

import numpy as np

from studies.analysis.gains.gain_map import GainMap
from studies.analysis.gains.regimes import Regimes
from studies.analysis.setting_verdicts import SettingVerdict
from studies.analysis.study_analysis import Analysis

__all__ = ["metrics_of"]


def metrics_of(analysis: Analysis) -> dict[str, float]:
    """The trials of each arm, the verdicts, and the gains at each size and over each map."""
    found: dict[str, float] = {}
    for arm, (tried, diverged) in analysis.trials.items():
        if not tried:
            continue  # its point was given
        found |= {f"trials_{arm}": float(tried), f"trials_{arm}_diverged": float(diverged)}
    for verdict in analysis.verdicts:
        found |= _of_verdict(verdict)
    for name, regimes in analysis.regimes.items():
        found |= _of_regimes(name, regimes)
    for name, gains in analysis.maps.items():
        found |= _of_map(name, gains)
    return found


def _of_verdict(setting: SettingVerdict) -> dict[str, float]:
    verdict, where = setting.test, [setting.label]
    if setting.pairs > 1:
        where += verdict.pair
    named = {
        **_with_interval("difference", verdict.difference, verdict.low, verdict.high),
        "n": float(verdict.n),
        "p_wilcoxon": verdict.p_wilcoxon,
        f"{verdict.pair.arm}_mean": verdict.arm.mean,
        f"{verdict.pair.reference}_mean": verdict.reference.mean,
    }
    return {_named("verdict", *where, name): value for name, value in named.items()}


def _of_regimes(name: str, regimes: Regimes) -> dict[str, float]:
    found: dict[str, float] = {}
    for size in regimes.sizes:
        for gain in size.gains:
            metric, gap = _named("gain", gain.metric, name, f"{size.value:g}"), gain.comparison
            found |= _with_interval(metric, gap.mean, gap.low, gap.high)
    return found


def _of_map(name: str, gains: GainMap) -> dict[str, float]:
    """How many cells win and lose, if that was tested, and the largest gain."""
    found: dict[str, float] = {}
    for gain in gains.gains:
        best = gain.best()
        counted = {} if best is None else {"largest": gain.gain[best]}
        if gains.is_tested and not gains.adaptive:
            cells = np.isfinite(gain.gain)
            counted |= {"wins": gain.wins.sum(), "losses": gain.losses.sum(), "cells": cells.sum()}
        found |= {_named(name, gain.baseline, key): float(n) for key, n in counted.items()}
    return found


def _with_interval(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _named(*words: str) -> str:
    """The name of a metric, of words that say what it is."""
    return "_".join(word.replace(" ", "_").replace(",", "") for word in words if word)
