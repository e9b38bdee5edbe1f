"""How the valley moves within a period of the dynamical loss: does it deepen and widen, and then
rise and narrow again?

The claim to test (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793): the oscillation moves the
landscape like a peristaltic wave. In the middle of a period, where the active class weighs most,
the network lies in a wide valley, low in F; at its end, where all weights return to 1, the valley
is narrow and has risen. Width is told by the largest Hessian eigenvalue, height by F.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.instabilities import RecordedRun, Recordings

__all__ = ["Peristalsis", "peristalsis"]


@dataclass(frozen=True, eq=False)
class Peristalsis:
    """The middle of each period against its end.

    Args:
        periods: a row a run and whole period: `seed`, `period_number`, `lambda_ratio` (largest
            Hessian eigenvalue at the end over that in the middle) and `loss_ratio` (F likewise).
    """

    periods: pd.DataFrame

    def sentences(self) -> list[str]:
        """How much the valley narrows and rises from the middle of a period to its end: geometric
        mean over the periods of a run, mean and standard deviation over runs."""
        rows = self.periods
        names = ["lambda_ratio", "loss_ratio"]
        logs = rows[[keys.SEED]].join(rows[names].map(np.log))
        means = logs.groupby(keys.SEED)[names].mean().map(np.exp)
        narrows, rises = means["lambda_ratio"], means["loss_ratio"]
        both = int(((rows["lambda_ratio"] > 1) & (rows["loss_ratio"] > 1)).sum())
        return [
            "The valley is wide and low in the middle of a period, narrow and high at its end: "
            f"from the middle to the end lambda_max grows {_times(narrows)} and F {_times(rises)} "
            f"(geometric means over the periods of a run, mean ± sd over n = {len(means)} runs); "
            f"both grow in {both} of {len(rows)} periods."
        ]


def peristalsis(recorded: Recordings) -> Peristalsis | None:
    """The movement in the dynamical runs whose curvature was recorded; None if it was in none, or
    not in the middles and at the ends of their periods."""
    if not recorded.one_point:
        return None
    found = [row for run in recorded.of(keys.DYNAMICAL) for row in _periods(run)]
    return Peristalsis(pd.DataFrame(found)) if found else None


def _periods(run: RecordedRun) -> list[dict[str, float]]:
    """The whole periods that oscillate of a run, both of whose moments were measured."""
    if run.period is None or run.curvature.empty or run.trace.empty:
        return []
    weights = [name for name in run.trace.columns if name.startswith(keys.CLASS_WEIGHT)]
    trace = run.trace.set_index(keys.STEP)
    loss, lambda_max = (
        trace[keys.WEIGHTED_LOSS],
        run.curvature.set_index(keys.STEP)[keys.HESSIAN_LAMBDA_MAX],
    )
    rows = []
    for number in range(int(trace.index[-1]) // run.period):
        middle, end = number * run.period + run.period // 2, (number + 1) * run.period
        there = all(at in loss.index and at in lambda_max.index for at in (middle, end))
        if not there or np.ptp(trace.loc[middle, weights].to_numpy(dtype=float)) == 0:
            continue
        ratios = (lambda_max[end] / lambda_max[middle], loss[end] / loss[middle])
        if all(np.isfinite(ratio) and ratio > 0 for ratio in ratios):
            rows.append(
                {
                    keys.SEED: run.seed,
                    "period_number": number,
                    "lambda_ratio": float(ratios[0]),
                    "loss_ratio": float(ratios[1]),
                }
            )
    return rows


def _times(factors: pd.Series[float]) -> str:
    """`2.1 ± 0.3-fold`."""
    spread = f" ± {factors.std(ddof=1):.2g}" if len(factors) > 1 else ""
    return f"{factors.mean():.1f}{spread}-fold"
