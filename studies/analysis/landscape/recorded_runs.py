"""Instabilities of recorded runs: when they come, how sharp the valley is then, what they cost.

The claims to test (Ruiz-Garcia et al., ICML 2021, arXiv:2102.03793): instabilities start when the
largest Hessian eigenvalue of the dynamical loss crosses 2 / learning rate, at the ends of periods,
where the class weights return to 1; they double their period; the tangent kernel's largest
eigenvalue falls across each; and the valley in the end is wider than the static loss's. They are
found while a network trains (see `studies.blocks.recorder`): what comes here are tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Card, Drawing, Draws
from studies.analysis.study_tables import Tables

__all__ = [
    "RecordedRun",
    "Recordings",
    "cards",
    "recordings",
    "recordings_of",
    "trajectory_cards",
]

_KINDS = ("instabilities", "traces", "curvature")


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """One network, every step of it.

    Args:
        arm: the name of the arm.
        seed: the seed of the network.
        point: what it was trained with: member parameters and dotted ones.
        instabilities: rows of their table, in order; empty if none were found or looked for.
        trace: rows of the traces table, ascending steps; empty if they were not kept.
        curvature: rows of the curvature table; empty if it was not measured.
        final_accuracy: training accuracy at the end; NaN if the run diverged.
    """

    arm: str
    seed: int
    point: dict[str, Any]
    instabilities: pd.DataFrame
    trace: pd.DataFrame
    curvature: pd.DataFrame
    final_accuracy: float

    @property
    def learning_rate(self) -> float:
        """The member's own (peak) learning rate."""
        return float(self.point[keys.LEARNING_RATE])

    @property
    def period(self) -> int | None:
        """T in steps; None for the static arm."""
        period = self.point.get(keys.PERIOD)
        return None if period is None else int(period)

    def spans(self) -> tuple[tuple[int, int], ...]:
        """Onset and end of each instability, in steps."""
        return tuple(
            (int(each["onset"]), int(each["end"])) for _, each in self.instabilities.iterrows()
        )

    def headline(self) -> str:
        """What the figure of the run shows."""
        count = len(self.instabilities)
        counted = f"{count or 'no'} instabilit{'ies' if count > 1 else 'y'} recorded"
        known = np.isfinite(self.final_accuracy)
        end = f"training accuracy {self.final_accuracy:.3f}" if known else "diverged"
        return f"{self.arm.capitalize()} loss, seed {self.seed}: {counted}, {end}"

    def caption(self) -> str:
        """What to read off the figure."""
        text = "One run, step by step: class weights, F, its change, accuracy"
        if not self.curvature.empty:
            text += ", and the largest eigenvalues of the Hessian of F and of the tangent kernel"
        return f"{text}. Instabilities are shaded." if len(self.instabilities) else f"{text}."

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

    @property
    def one_point(self) -> bool:
        """Whether the runs of each arm differ in their seeds alone."""
        points = {(run.arm, *sorted(run.point.items(), key=str)) for run in self.runs}
        return len(points) == len({run.arm for run in self.runs})

    def table(self) -> pd.DataFrame:
        """One row per instability, with the point it was found at."""
        frames = [
            run.instabilities.assign(
                **{name: value for name, value in run.point.items() if name != keys.LEARNING_RATE}
            )
            for run in self.runs
            if len(run.instabilities)
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def sentences(self) -> list[str]:
        """What the runs show of the paper's claims, with the spread over seeds; nothing if they
        were made at several points (see `threshold`)."""
        if not self.one_point:
            return []
        found = []
        dynamical, static = self.of(keys.DYNAMICAL), self.of(keys.STATIC)
        unstable = [run.instabilities for run in dynamical if len(run.instabilities)]
        if unstable:
            found.append(
                f"First instability of the dynamical loss at step "
                f"{_spread([each['onset'].iloc[0] for each in unstable], 0)}, {len(unstable)} of "
                f"{len(dynamical)} runs; "
                f"{_spread([len(run.instabilities) for run in dynamical], 1)} a run."
            )
            rows = pd.concat(unstable)
            found += _sharpness(rows) + _kernel(rows)
        ends = [_ends(runs) for runs in (dynamical, static)]
        if all(len(end) for end in ends):
            sharp, right = ([end[:, column] for end in ends] for column in (0, 1))
            found.append(
                "At the last measurement lambda_max is "
                f"{_spread(sharp[0], 2)} with the dynamical loss and {_spread(sharp[1], 2)} with "
                f"the static one; training accuracy {_spread(right[0], 3)} and "
                f"{_spread(right[1], 3)} (mean ± sd, n = {len(ends[0])} and {len(ends[1])} runs)."
            )
        return found


def _sharpness(rows: pd.DataFrame) -> list[str]:
    """How sharp the valley is before an instability, in units of 1 / learning rate."""
    sharp = (rows["hessian_before"] * rows[keys.LEARNING_RATE]).dropna()
    if sharp.empty:
        return []
    low, middle, high = sharp.quantile([0.25, 0.5, 0.75])
    return [
        "Before an instability lambda_max times the learning rate has the median "
        f"{middle:.2f}, its middle half lies within {low:.2f} and {high:.2f} "
        f"(n = {len(sharp)} instabilities; gradient descent on a quadratic is stable below 2)."
    ]


def _kernel(rows: pd.DataFrame) -> list[str]:
    """What an instability does to the tangent kernel."""
    drops = (1 - rows["ntk_after"] / rows["ntk_before"]).dropna()
    if drops.empty:
        return []
    return [
        f"The tangent kernel's lambda_max falls across {int((drops > 0).sum())} of {len(drops)} "
        f"instabilities, by {_spread(drops.tolist(), 2)} of its value."
    ]


def cards(tables: Tables) -> Iterator[Card]:
    """Every instability of every recorded run, and what they show of the paper's claims."""
    recorded = tables.once(recordings_of)
    if recorded is not None:
        yield Card(
            "Recorded runs",
            files={"instabilities.csv": recorded.table()},
            sentences=recorded.sentences(),
            subject="landscape",
        )


def trajectory_cards(tables: Tables, draw: Draws[RecordedRun]) -> Iterator[Card]:
    """The first traced run of each arm."""
    recorded = tables.once(recordings_of)
    traced = [] if recorded is None else [run for run in recorded.runs if not run.trace.empty]
    first = {run.arm: run for run in reversed(traced)}
    drawings = [
        Drawing(f"trajectory_{arm}", run.headline(), run.caption(), partial(draw, run))
        for arm, run in sorted(first.items())
    ]
    if drawings:
        yield Card("Instabilities", drawings)


def recordings_of(tables: Tables) -> Recordings | None:
    """The recorded runs of a study."""
    return recordings(tables.trained, tables.recorded)


def recordings(members: pd.DataFrame, recorded: Mapping[str, pd.DataFrame]) -> Recordings | None:
    """The recorded runs of a study; None if nothing was recorded along any.

    Args:
        members: the members table.
        recorded: the tables `instabilities`, `traces` and `curvature`; each may be empty or absent.
    """
    tables = [recorded.get(kind, pd.DataFrame()) for kind in _KINDS]
    if keys.RECORDED not in members or all(table.empty for table in tables):
        return None
    instabilities, traces, curvature = (_by_member(table) for table in tables)
    dotted = [name for name in members.columns if "." in name]
    parameters = [name for name in (*keys.MEMBER_PARAMETERS, *dotted) if name in members]
    runs = []
    for _, member in members[members[keys.RECORDED]].iterrows():
        identity = tuple(member[name] for name in keys.MEMBER_IDENTITY)
        runs.append(
            RecordedRun(
                arm=str(member[keys.ARM]),
                seed=int(member[keys.SEED]),
                point={n: None if pd.isna(member[n]) else member[n] for n in parameters},
                instabilities=instabilities(identity),
                trace=traces(identity),
                curvature=curvature(identity),
                final_accuracy=float(member[keys.TRAIN_ACCURACY]),
            )
        )
    return Recordings(tuple(sorted(runs, key=lambda run: (run.arm, run.seed))))


def _by_member(table: pd.DataFrame) -> Callable[[tuple[object, ...]], pd.DataFrame]:
    """Finds the rows of a member by its identity; none where it has none."""
    groups = {} if table.empty else dict(iter(table.groupby(list(keys.MEMBER_IDENTITY))))
    return lambda identity: groups.get(identity, table.iloc[:0])


def _ends(runs: Sequence[RecordedRun]) -> np.ndarray:
    """(n, 2) final lambda_max and training accuracy of the runs that have both."""
    ends = [(run.final_lambda_max, run.final_accuracy) for run in runs]
    table = np.array(ends, dtype=float).reshape(-1, 2)  # None is NaN
    whole: np.ndarray = table[np.isfinite(table).all(axis=1)]
    return whole


def _spread(values: Sequence[float] | np.ndarray, decimals: int) -> str:
    """`4,022 ± 169`: mean and standard deviation."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "unknown"
    mean = f"{np.mean(known):,.{decimals}f}"
    return mean if len(known) < 2 else f"{mean} ± {np.std(known, ddof=1):,.{decimals}f}"
