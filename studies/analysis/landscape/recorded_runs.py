"""The recorded runs of a study, from its tables: one network each, with every step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from dynloss_core import keys
from dynloss_core.landscape import stability_bound
from studies.analysis.question import stop_of
from studies.analysis.study_tables import Tables

__all__ = ["RecordedRun", "Recordings", "recordings", "recordings_of"]

_KINDS = ("instabilities", "traces", "curvature")


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """One network, with every step.

    Args:
        arm: the name of the arm.
        seed: the seed of the network.
        point: the parameters it was trained with: a member's own, and dotted ones of the problem.
        instabilities: rows of their table, in order; empty if none were found or looked for.
        trace: rows of the traces table, in ascending steps; empty if none were kept.
        curvature: rows of the curvature table; empty if it was not measured.
        final_accuracy: training accuracy at the end; NaN if the run diverged.
        stop: the step from which the class weights are constant.
        nesterov: whether its momentum is Nesterov's.
    """

    arm: str
    seed: int
    point: dict[str, Any]
    instabilities: pd.DataFrame
    trace: pd.DataFrame
    curvature: pd.DataFrame
    final_accuracy: float
    stop: int = 0
    nesterov: bool = False

    @property
    def bound(self) -> float:
        """The largest lambda_max times learning rate at which its optimiser is stable."""
        momentum = self.point.get(keys.MOMENTUM)
        return stability_bound(float(momentum or 0.0), nesterov=self.nesterov)

    @property
    def learning_rate(self) -> float:
        """The member's own (peak) learning rate."""
        return float(self.point[keys.LEARNING_RATE])

    @property
    def period(self) -> int | None:
        """T in steps; None if nothing oscillates."""
        period = self.point.get(keys.PERIOD)
        return None if period is None else int(period)

    def spans(self) -> tuple[tuple[int, int], ...]:
        """Onset and end of each instability, in steps."""
        return tuple(
            (int(row["onset"]), int(row["end"])) for _, row in self.instabilities.iterrows()
        )

    def headline(self) -> str:
        """What the figure of the run shows."""
        count = len(self.instabilities)
        counted = f"{count or 'no'} instabilit{'ies' if count > 1 else 'y'} recorded"
        known = np.isfinite(self.final_accuracy)
        end = f"training accuracy {self.final_accuracy:.3f}" if known else "diverged"
        return f"{self.arm.capitalize()} loss, seed {self.seed}: {counted}, {end}"

    def caption(self) -> str:
        """How to read the figure."""
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
    """All recorded runs of a study.

    Args:
        runs: the runs, in the order of arms and seeds.
        watched: whether instabilities were looked for in them.
        winners: whether they are the winners of searches, on fresh seeds.
    """

    runs: tuple[RecordedRun, ...]
    watched: bool = True
    winners: bool = False

    def by_arm(self) -> dict[str, list[RecordedRun]]:
        """The runs of each arm, oscillating arms first."""
        arms: dict[str, list[RecordedRun]] = {}
        for run in sorted(self.runs, key=lambda run: run.period is None):
            arms.setdefault(run.arm, []).append(run)
        return arms

    @property
    def oscillating(self) -> list[RecordedRun]:
        """The runs with a period."""
        return [run for run in self.runs if run.period is not None]

    @property
    def static(self) -> list[RecordedRun]:
        """The runs without one."""
        return [run for run in self.runs if run.period is None]

    @property
    def one_point(self) -> bool:
        """Whether the runs of each arm differ only in their seeds."""
        points = {(run.arm, *sorted(run.point.items(), key=str)) for run in self.runs}
        return len(points) == len({run.arm for run in self.runs})

    def table(self) -> pd.DataFrame:
        """One row per instability, with the point of its run."""
        frames = [
            run.instabilities.assign(
                **{name: value for name, value in run.point.items() if name != keys.LEARNING_RATE}
            )
            for run in self.runs
            if len(run.instabilities)
        ]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def recordings_of(tables: Tables) -> Recordings | None:
    """The recorded runs of a study's latest round, or of its search if there was none."""
    winners = not tables.fresh_networks.empty
    question = tables.question
    recorded = recordings(
        tables.fresh_networks if winners else tables.search,
        tables.recorded,
        tail=question.tail,
        nesterov=question.nesterov,
        watched=question.watched,
    )
    return None if recorded is None else replace(recorded, winners=winners)


def recordings(
    members: pd.DataFrame,
    recorded: Mapping[str, pd.DataFrame],
    *,
    tail: float = 0.0,
    nesterov: Collection[str] = (),
    watched: bool = False,
) -> Recordings | None:
    """The recorded runs of a study; None if nothing was recorded along any.

    Args:
        members: rows of the members table, of one phase.
        recorded: the tables `instabilities`, `traces` and `curvature`; each can be empty or absent.
        tail: share of a run, at its end, in which the class weights are constant.
        nesterov: arms that train with Nesterov's momentum.
        watched: whether instabilities were looked for, even if none were found.
    """
    tables = [recorded.get(kind, pd.DataFrame()) for kind in _KINDS]
    nothing = not watched and all(table.empty for table in tables)
    if keys.RECORDED not in members or nothing:
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
                stop=_stop(member, tail),
                nesterov=member[keys.ARM] in nesterov,
            )
        )
    watched = watched or not tables[0].empty
    return Recordings(tuple(sorted(runs, key=lambda run: (run.arm, run.seed))), watched)


def _stop(member: pd.Series, tail: float) -> int:
    """The step from which a member's class weights are constant; 0 if nothing oscillates."""
    period, steps = member.get(keys.PERIOD), member.get(keys.STEPS)
    if period is None or pd.isna(period) or steps is None:
        return 0
    return stop_of(steps, tail, period)


def _by_member(table: pd.DataFrame) -> Callable[[tuple[object, ...]], pd.DataFrame]:
    """A function that finds the rows of a member by its identity; an empty table without any."""
    groups = {} if table.empty else dict(iter(table.groupby(list(keys.MEMBER_IDENTITY))))
    return lambda identity: groups.get(identity, table.iloc[:0])
