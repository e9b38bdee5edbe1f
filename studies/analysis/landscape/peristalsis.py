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
from studies.analysis.landscape.recorded_runs import RecordedRun, Recordings

__all__ = ["Peristalsis", "peristalsis"]


@dataclass(frozen=True, eq=False)
class Peristalsis:
    """The middle of each period against its end.

    Args:
        periods: one row per run and whole period: `seed`, `period_number`, `lambda_ratio` (largest
            Hessian eigenvalue at the end over that in the middle) and `loss_ratio` (F likewise).
    """

    periods: pd.DataFrame

    def sentences(self) -> list[str]:
        """How much the valley narrows and rises from the middle of a period to its end: geometric
        mean over the periods of a run, mean and standard deviation over runs."""
        rows = self.periods
        logs = rows.set_index(keys.SEED)[["lambda_ratio", "loss_ratio"]].transform(np.log)
        means = logs.groupby(level=0).mean()
        grow = int((logs > 0).all(axis=1).sum())
        return [
            "From the middle of a period of the dynamical loss to its end lambda_max is multiplied "
            f"by {_spread(np.exp(means['lambda_ratio']))} and F by "
            f"{_spread(np.exp(means['loss_ratio']))} (geometric means over the periods of a run, "
            f"mean ± sd over n = {len(means)} runs): the valley narrows and rises in {grow} of "
            f"{len(rows)} periods."
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


def _spread(factors: pd.Series[float]) -> str:
    """`5.3 ± 0.7`: mean and standard deviation."""
    mean = f"{factors.mean():.1f}"
    return mean if len(factors) < 2 else f"{mean} ± {factors.std(ddof=1):.1f}"
