"""How the valley moves within a period of the dynamical loss: does it deepen and widen, and then
rise and narrow again?

The claim to test (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793): the oscillation moves the
landscape like a peristaltic wave. In the middle of a period, where the active class weighs most,
the network lies in a wide valley, low in F; at its end, where all weights return to 1, the valley
is narrow and has risen. The largest Hessian eigenvalue measures its width, F its height.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card
from studies.analysis.landscape.recorded_runs import RecordedRun, Recordings, recordings_of
from studies.analysis.study_tables import Tables

__all__ = ["cards", "peristalsis", "sentence"]


def cards(tables: Tables) -> Iterator[Card]:
    """How the valley moves within the periods of the recorded runs."""
    recorded = tables.cached(recordings_of)
    periods = None if recorded is None else peristalsis(recorded)
    if periods is not None:
        yield Card("Peristalsis", sentences=[sentence(periods)], subject="landscape")


def peristalsis(recorded: Recordings) -> pd.DataFrame | None:
    """The end of each period relative to its middle, in dynamical runs with curvature at both. One
    row per run and whole period: `seed`, `period_number`, `lambda_ratio` (largest Hessian
    eigenvalue at the end divided by that in the middle) and `loss_ratio` (F likewise). None without
    any."""
    rows = [row for run in recorded.oscillating for row in _periods(run)]
    return pd.DataFrame(rows) if recorded.one_point and rows else None


def sentence(periods: pd.DataFrame) -> str:
    """How much the valley narrows and rises from the middle of a period to its end: geometric means
    over the periods of each run, then mean and standard deviation over runs."""
    logs = periods.set_index(keys.SEED)[["lambda_ratio", "loss_ratio"]].transform(np.log)
    means = logs.groupby(level=0).mean()
    grow = int((logs > 0).all(axis=1).sum())
    return (
        "From the middle of a period of the dynamical loss to its end, lambda_max is multiplied "
        f"by {_spread(np.exp(means['lambda_ratio']))} and F by "
        f"{_spread(np.exp(means['loss_ratio']))} (geometric means over the periods of a run, "
        f"mean ± sd over n = {len(means)} runs): the valley narrows and rises in {grow} of "
        f"{len(periods)} periods."
    )


def _periods(run: RecordedRun) -> list[dict[str, float]]:
    """The whole oscillating periods of a run that were measured at the middle and at the end."""
    if run.period is None or run.curvature.empty or run.trace.empty:
        return []
    trace = run.trace.set_index(keys.STEP)
    weights = trace.filter(regex=f"^{keys.CLASS_WEIGHT}")
    loss = trace[keys.WEIGHTED_LOSS]
    lambda_max = run.curvature.set_index(keys.STEP)[keys.HESSIAN_LAMBDA_MAX]
    known = set(loss.index) & set(lambda_max.index)
    rows = []
    for number in range(int(trace.index[-1]) // run.period):
        middle, end = number * run.period + run.period // 2, (number + 1) * run.period
        if not {middle, end} <= known or not np.ptp(weights.loc[middle].to_numpy(float)):
            continue
        rise = [float(series[end] / series[middle]) for series in (lambda_max, loss)]
        if min(rise) > 0 and np.isfinite(rise).all():
            ratios = dict(zip(("lambda_ratio", "loss_ratio"), rise, strict=True))
            rows.append({keys.SEED: run.seed, "period_number": number, **ratios})
    return rows


def _spread(factors: pd.Series[float]) -> str:
    """`5.3 ± 0.7`: mean and standard deviation."""
    mean = f"{factors.mean():.1f}"
    return mean if len(factors) < 2 else f"{mean} ± {factors.std(ddof=1):.1f}"
