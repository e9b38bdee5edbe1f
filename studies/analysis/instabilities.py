"""Instabilities of recorded runs: when they come, how sharp the valley is then, what they cost.

The claims to test (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793): instabilities start when the
largest Hessian eigenvalue of the dynamical loss crosses 2 / learning rate, at the ends of periods,
where the class weights return to 1; they double their period; the tangent kernel's largest
eigenvalue falls across each; and the valley in the end is wider than the static loss's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dynloss_core import keys
from dynloss_core.landscape.instabilities import (
    CurvatureSamples,
    Instability,
    find_instabilities,
)
from dynloss_core.schedules import oscillation_stop

__all__ = ["RecordedRun", "Recordings", "recordings"]

_IDENTITY = [keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """One network, every step of it.

    Args:
        arm: `dynamical` or `static`.
        seed: of the network.
        learning_rate: its learning rate.
        period: T in steps; None for the static arm.
        trace: rows of the traces table, ascending steps.
        curvature: rows of the curvature table; empty if it was not measured.
        instabilities: found in the trace.
        final_accuracy: training accuracy at the end.
    """

    arm: str
    seed: int
    learning_rate: float
    period: int | None
    trace: pd.DataFrame
    curvature: pd.DataFrame
    instabilities: tuple[Instability, ...]
    final_accuracy: float

    @property
    def final_lambda_max(self) -> float | None:
        """Largest Hessian eigenvalue at the end; None if it was not measured."""
        if self.curvature.empty:
            return None
        return float(self.curvature[keys.HESSIAN_LAMBDA_MAX].iloc[-1])


@dataclass(frozen=True, eq=False)
class Recordings:
    """All recorded runs of a study, dynamical ones first."""

    runs: tuple[RecordedRun, ...]

    def of(self, arm: str) -> list[RecordedRun]:
        """The runs of one arm."""
        return [run for run in self.runs if run.arm == arm]

    def table(self) -> pd.DataFrame:
        """A row an instability."""
        rows = [
            {
                keys.ARM: run.arm,
                keys.SEED: run.seed,
                keys.LEARNING_RATE: run.learning_rate,
                "period_number": each.period_number,
                "onset": each.onset,
                "duration": each.duration,
                "boundary_offset": each.boundary_offset,
                "relative_amplitude": each.relative_amplitude,
                "cascade": " ".join(str(r.period or "aperiodic") for r in each.cascade),
                "hessian_before": each.hessian_before.value if each.hessian_before else None,
                "ntk_before": each.ntk_before.value if each.ntk_before else None,
                "ntk_after": each.ntk_after.value if each.ntk_after else None,
            }
            for run in self.runs
            for each in run.instabilities
        ]
        return pd.DataFrame(rows)

    def sentences(self) -> list[str]:
        """What the runs show of the paper's claims, with the spread over seeds."""
        found = []
        dynamical, static = self.of(keys.DYNAMICAL), self.of(keys.STATIC)
        first = [run.instabilities[0] for run in dynamical if run.instabilities]
        if first:
            found.append(
                f"First instability of the dynamical loss at step "
                f"{_spread([each.onset for each in first], 0)}, {len(first)} of {len(dynamical)} "
                f"runs; {_spread([len(run.instabilities) for run in dynamical], 1)} a run."
            )
        sharp = [
            each.hessian_before.value * run.learning_rate
            for run in dynamical
            for each in run.instabilities
            if each.hessian_before is not None
        ]
        if sharp:
            low, middle, high = np.quantile(sharp, [0.25, 0.5, 0.75])
            found.append(
                "Before an instability lambda_max times the learning rate has the median "
                f"{middle:.2f}, its middle half lies within {low:.2f} and {high:.2f} "
                f"(n = {len(sharp)} instabilities; gradient descent on a quadratic is stable below "
                "2)."
            )
        drops = [
            1 - each.ntk_after.value / each.ntk_before.value
            for run in dynamical
            for each in run.instabilities
            if each.ntk_before is not None and each.ntk_after is not None
        ]
        if drops:
            fell = sum(drop > 0 for drop in drops)
            found.append(
                f"The tangent kernel's lambda_max falls across {fell} of {len(drops)} "
                f"instabilities, by {_spread(drops, 2)} of its value."
            )
        ends = [_ends(runs) for runs in (dynamical, static)]
        if all(ends):
            found.append(
                "At the end lambda_max is "
                f"{_spread(ends[0], 2)} with the dynamical loss and {_spread(ends[1], 2)} with the "
                f"static one; training accuracy "
                f"{_spread([run.final_accuracy for run in dynamical], 3)} and "
                f"{_spread([run.final_accuracy for run in static], 3)} (mean ± sd, n = "
                f"{len(dynamical)} and {len(static)} runs)."
            )
        return found


def recordings(
    members: pd.DataFrame, traces: pd.DataFrame, curvature: pd.DataFrame, tail: float
) -> Recordings | None:
    """The recorded runs of a study; None if none was traced.

    Args:
        members: the members table.
        traces: the traces table.
        curvature: the curvature table; may be empty.
        tail: share of the run at its end that trains statically.
    """
    if traces.empty:
        return None
    known = members.set_index(_IDENTITY)
    measured = {} if curvature.empty else dict(iter(curvature.groupby(_IDENTITY)))
    runs = []
    for name, trace in traces.groupby(_IDENTITY, sort=True):
        identity = tuple(np.atleast_1d(np.array(name, dtype=object)))
        member = known.loc[identity]
        rows = measured.get(identity, curvature.iloc[:0])
        period = None if pd.isna(member[keys.PERIOD]) else int(member[keys.PERIOD])
        steps = int(member[keys.STEPS])
        samples = None
        if not rows.empty:
            samples = CurvatureSamples(
                rows[keys.STEP].to_numpy(),
                rows[keys.HESSIAN_LAMBDA_MAX].to_numpy(),
                rows[keys.NTK_LAMBDA_MAX].to_numpy(),
            )
        found = find_instabilities(
            trace[keys.WEIGHTED_LOSS].to_numpy(),
            first_step=int(trace[keys.STEP].iloc[0]),
            period=period,
            stop=None if period is None else oscillation_stop(steps, round(tail * steps), period),
            curvature=samples,
        )
        runs.append(
            RecordedRun(
                arm=str(identity[1]),
                seed=int(str(identity[3])),
                learning_rate=float(member[keys.LEARNING_RATE]),
                period=period,
                trace=trace,
                curvature=rows,
                instabilities=found,
                final_accuracy=float(member[keys.TRAIN_ACCURACY]),
            )
        )
    return Recordings(tuple(sorted(runs, key=lambda run: (run.arm, run.seed))))


def _ends(runs: Sequence[RecordedRun]) -> list[float]:
    ends = [run.final_lambda_max for run in runs]
    return [end for end in ends if end is not None and np.isfinite(end)]


def _spread(values: Sequence[float], decimals: int) -> str:
    """`4,022 ± 169`: mean and standard deviation."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "unknown"
    mean = f"{np.mean(known):,.{decimals}f}"
    return mean if len(known) < 2 else f"{mean} ± {np.std(known, ddof=1):,.{decimals}f}"
