"""The tidy tables of a study, their columns, and how checkpoints hold them.

`members`: one row per network, at the end of its training. `curves`: one row per network and
evaluation. Column names are those of `dynloss_core.keys`; parameters of the problem keep their
dotted names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from dynloss_core import keys
from dynloss_core.config import config_hash, to_hashed
from dynloss_core.training import (
    CurvatureSeries,
    Evaluation,
    HeldOut,
    Member,
    Problem,
    Setup,
    Trace,
    ValleySeries,
)

__all__ = [
    "curvature_rows",
    "curve_rows",
    "mean_curves",
    "member_hashes",
    "member_rows",
    "pack",
    "trace_rows",
    "unpack",
    "valley_rows",
]

IDENTITY = [keys.STUDY, keys.PHASE, keys.ARM, keys.BLOCK, keys.TRIAL, keys.SEED]
TRIAL_IDENTITY = [keys.PHASE, keys.ARM, keys.TRIAL]


def curve_rows(identity: pd.DataFrame, evaluation: Evaluation) -> pd.DataFrame:
    """One evaluation of an ensemble as rows of the curves table, with the curvature last measured;
    members that are not probed have none."""
    rows = identity[IDENTITY].copy()
    rows[keys.STEP] = evaluation.step
    for metric in keys.EVALUATION_METRICS:
        rows[metric] = getattr(evaluation, metric).numpy()
    if (series := evaluation.curvature) is not None:
        for metric in keys.CURVE_CURVATURE_METRICS:
            if getattr(series, metric) is None:
                continue
            values = np.full(len(rows), np.nan)
            values[series.members.numpy()] = getattr(series, metric)[-1].numpy()
            rows[metric] = values
    return rows


def trace_rows(identity: pd.DataFrame, trace: Trace) -> pd.DataFrame:
    """Every step of the traced members as rows, member by member."""
    members, steps = trace.members.numpy(), trace.steps.numpy()
    rows = _repeated(identity, members, len(steps))
    rows[keys.STEP] = np.tile(steps, len(members))
    for name in (keys.WEIGHTED_LOSS, keys.LOSS, keys.ACCURACY):
        rows[name] = getattr(trace, name).T.flatten().numpy()
    for c, weights in enumerate(trace.class_weights.unbind(-1)):
        rows[f"{keys.CLASS_WEIGHT}_{c}"] = weights.T.flatten().numpy()
    return rows


def curvature_rows(identity: pd.DataFrame, series: CurvatureSeries) -> pd.DataFrame:
    """Every measurement of the probed members as rows, member by member."""
    members, steps = series.members.numpy(), series.steps.numpy()
    rows = _repeated(identity, members, len(steps))
    rows[keys.STEP] = np.tile(steps, len(members))
    for name in keys.CURVATURE_METRICS:
        rows[name] = getattr(series, name).T.flatten().numpy()
    if series.hessian_trace is not None:
        for name in keys.TRACE_METRICS:
            rows[name] = getattr(series, name).T.flatten().numpy()
    return rows


def valley_rows(identity: pd.DataFrame, series: ValleySeries) -> pd.DataFrame:
    """Every valley as rows, one row per offset, member by member and moment by moment. What
    describes the moment is repeated in each of its rows."""
    members, steps, offsets = (
        getattr(series, name).numpy() for name in ("members", "steps", "offsets")
    )
    rows = _repeated(identity, members, len(steps) * len(offsets))
    rows[keys.STEP] = np.tile(np.repeat(steps, len(offsets)), len(members))
    rows[keys.OFFSET] = np.tile(offsets, len(members) * len(steps))
    for name in (keys.WEIGHTED_LOSS, keys.LOSS):
        rows[name] = getattr(series, name).transpose(0, 1).flatten().numpy()
    of_moment = {name: getattr(series, name) for name in keys.VALLEY_METRICS}
    for c, weights in enumerate(series.class_weights.unbind(-1)):
        of_moment[f"{keys.CLASS_WEIGHT}_{c}"] = weights
    for name, values in of_moment.items():
        rows[name] = np.repeat(values.T.flatten().numpy(), len(offsets))
    return rows


def _repeated(identity: pd.DataFrame, members: np.ndarray, times: int) -> pd.DataFrame:
    """The identifying rows of some members, each repeated `times` times."""
    return identity[IDENTITY].iloc[np.repeat(members, times)].reset_index(drop=True)


def mean_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, one row per trial and step; a trial with a diverged member has NaN.
    Curvature is averaged over the probed seeds. So is the standard error of a trace, which stays
    that of one seed."""
    grouped = curves.groupby([*TRIAL_IDENTITY, keys.STEP], sort=False)
    means = grouped[list(keys.EVALUATION_METRICS)].mean(skipna=False)
    for metric in keys.OPTIONAL_CURVE_METRICS:
        if metric in curves:
            means[metric] = grouped[metric].mean()
    return means.reset_index()


def member_rows(
    identity: pd.DataFrame,
    members: Sequence[Member],
    setup: Setup,
    last: Evaluation,
    held_out: HeldOut | None,
) -> pd.DataFrame:
    """The end of an ensemble's training as rows of the members table.

    The period is in steps, and missing for the static arm. Test metrics are missing in the search.
    Every metric of a diverged member is missing.
    """
    rows = identity.copy()
    for name in keys.MEMBER_PARAMETERS:
        rows[name] = [getattr(member, name) for member in members]
    rows[keys.PERIOD] = rows[keys.PERIOD].astype("Int64")
    rows[keys.STEPS] = setup.problem.steps
    rows[keys.PARAMETERS] = [_size(network) for network in setup.networks]
    rows[keys.TRAIN_SAMPLES] = [len(splits.train) for splits in setup.splits]
    rows[keys.DIVERGED_STEP] = last.diverged_step.numpy()
    rows[keys.DIVERGED] = rows[keys.DIVERGED_STEP] >= 0
    for metric in keys.EVALUATION_METRICS:
        rows[metric] = getattr(last, metric).numpy()
    for metric in keys.TEST_METRICS:
        values = np.nan if held_out is None else getattr(held_out, metric).numpy()
        rows[metric] = values
        rows.loc[rows[keys.DIVERGED], metric] = np.nan
    rows[keys.CONFIG_HASH] = member_hashes(setup.problem, members)
    return rows


def member_hashes(problem: Problem, members: Sequence[Member]) -> list[str]:
    """Digest of what each member is trained on and how, down to its seed."""
    base = to_hashed(problem)
    return [config_hash({**base, "member": to_hashed(member)}) for member in members]


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def pack(frame: pd.DataFrame) -> dict[str, Any]:
    """A frame as tensors, or lists for columns that are not plain numbers, so that loading the
    checkpoint executes no code."""
    return {
        "dtypes": {name: str(dtype) for name, dtype in frame.dtypes.items()},
        "columns": {name: _pack_column(frame[name]) for name in frame.columns},
    }


def _pack_column(column: pd.Series) -> Any:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "fib":
        return torch.from_numpy(column.to_numpy(copy=True))
    return column.astype(object).where(column.notna(), None).tolist()


def unpack(packed: dict[str, Any]) -> pd.DataFrame:
    """The frame that `pack` packed."""
    columns = {
        name: values.numpy() if isinstance(values, torch.Tensor) else values
        for name, values in packed["columns"].items()
    }
    return pd.DataFrame(columns).astype(packed["dtypes"])
