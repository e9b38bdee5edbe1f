"""Curvature along runs at steps where F is the static loss, and its value at a training loss."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.question import stop_of
from studies.analysis.study_tables import Tables

__all__ = ["ALONG", "curvature_at_rest", "value_at_loss"]

ALONG = {
    keys.HESSIAN_LAMBDA_MAX: keys.FINAL_HESSIAN_LAMBDA_MAX,
    keys.HESSIAN_TRACE: keys.FINAL_HESSIAN_TRACE,
}
"""Quantities measured along a run, and their names at its end."""


def curvature_at_rest(members: pd.DataFrame, tables: Tables) -> pd.DataFrame | None:
    """Curvature and training loss at steps where F is the static loss; None if not measured."""
    curvature, curves = tables.recorded.get("curvature", pd.DataFrame()), tables.curves
    if curvature.empty or curves.empty or keys.STEPS not in members:
        return None
    by, member = [*keys.MEMBER_IDENTITY], [keys.PERIOD, keys.STEPS]
    names = [name for name in ALONG if name in curvature]
    along = curvature[[*by, keys.STEP, *names]].merge(
        curves[[*by, keys.STEP, keys.TRAIN_LOSS]], on=[*by, keys.STEP]
    )
    known = members.reindex(columns=[*by, *member])
    along = along.merge(known, on=by)
    if along.empty:
        return None
    rests = [
        pd.isna(period) or not step % period or step >= stop_of(steps, tables.question.tail, period)
        for step, period, steps in zip(
            along[keys.STEP], along[keys.PERIOD], along[keys.STEPS], strict=True
        )
    ]
    return along[rests].sort_values(keys.STEP)


def value_at_loss(loss: float, run: pd.DataFrame, name: str) -> float:
    """A quantity when a run first reaches this training loss or less, interpolated linearly in the
    logarithms between the moments around it; NaN if the run never reaches it, or starts there."""
    losses = run[keys.TRAIN_LOSS].to_numpy(dtype=float)
    values = run[name].to_numpy(dtype=float)
    reached = np.flatnonzero(losses <= loss * (1 + 1e-9))
    if not len(reached) or reached[0] == 0:
        return float("nan")
    after = int(reached[0])
    ends = slice(after - 1, after + 1)
    if not (losses[ends] > 0).all() or not (values[ends] > 0).all():
        return float("nan")
    (high, low), (early, late) = np.log(losses[ends]), np.log(values[ends])
    share = 1.0 if high == low else (high - np.log(loss)) / (high - low)
    return float(np.exp(early + min(1.0, max(0.0, share)) * (late - early)))
