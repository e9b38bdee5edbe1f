"""Recorded valleys of runs in the form that figures need: a matrix of F over offsets and steps.

Symbols
    k      moments
    S      offsets
    C      classes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from dynloss_core import keys
from studies.analysis.card import Animation, Card, DrawFunction, Drawing
from studies.analysis.landscape.recorded_runs import Recordings, recordings_of
from studies.analysis.study_tables import Tables

__all__ = ["ValleyRun", "cards", "valley_runs", "valleys_headline"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ValleyRun:
    """The valleys of one network during training; see `dynloss_core.landscape.valley`.

    Args:
        arm: `dynamical` or `static`.
        seed: the seed of the network.
        learning_rate: its learning rate.
        period: T in steps; None for the static arm.
        steps: (k,) ascending.
        offsets: (S,) ascending, 0 in the middle; in units of distance between parameters.
        loss: (k, S) F on the line, at the class weights of the moment.
        class_weights: (k, C) class weights.
        lambda_max: (k,) largest Hessian eigenvalue of F.
        slope: (k,) slope of F along the line at offset 0.
        instabilities: onset and end, in steps, of those found in the trace; empty if none was kept.
    """

    arm: str
    seed: int
    learning_rate: float
    period: int | None
    steps: npt.NDArray[np.int64]
    offsets: Array
    loss: Array
    class_weights: Array
    lambda_max: Array
    slope: Array
    instabilities: tuple[tuple[int, int], ...] = ()

    @property
    def bottom(self) -> Array:
        """(k,) F at offset 0, where the network is."""
        bottom: Array = self.loss[:, len(self.offsets) // 2]
        return bottom

    def boundaries(self) -> list[int]:
        """Steps at which an oscillating period ends; none in the static arm."""
        if self.period is None:
            return []
        inside = self.steps[np.ptp(self.class_weights, axis=1) > 0]
        last = int(inside[-1]) if len(inside) else 0
        return [*range(self.period, last + self.period, self.period)]


def cards(
    tables: Tables,
    draw: DrawFunction[Sequence[ValleyRun]],
    animate: Callable[[Sequence[ValleyRun]], Animation],
) -> Iterator[Card]:
    """The first run with known valleys, and the first of another arm with the same seed and
    moments. Each arm has one point, so that a seed identifies one run of each."""
    recorded = tables.cached(recordings_of)
    if recorded is None or not recorded.one_point:
        return
    valleys = tables.recorded.get("valleys", pd.DataFrame())
    runs = valley_runs(tables.unstopped, valleys, recorded)
    others = [run for run in runs if run.arm != runs[0].arm and run.seed == runs[0].seed]
    same = [run for run in others if list(run.steps) == list(runs[0].steps)]
    if shown := [*runs[:1], *same[:1]]:
        headline = valleys_headline(shown)
        still = Drawing("valleys", headline, _caption(shown), partial(draw, shown))
        moving = Drawing(
            "valley_moving", headline, _moving_caption(shown), animate=partial(animate, shown)
        )
        yield Card("The valley, moving", [still, moving])


def valley_runs(
    members: pd.DataFrame, valleys: pd.DataFrame, recorded: Recordings | None
) -> tuple[ValleyRun, ...]:
    """The runs with recorded valleys, dynamical ones first, by seed.

    Args:
        members: the members table; valleys of other networks are left out.
        valleys: the valleys table; can be empty.
        recorded: the traced runs, whose instabilities are marked.
    """
    if valleys.empty:
        return ()
    known = members.set_index(list(keys.MEMBER_IDENTITY))
    traced = {(run.arm, run.seed): run for run in (recorded.runs if recorded else ())}
    runs = []
    for name, rows in valleys.groupby(list(keys.MEMBER_IDENTITY), sort=True):
        identity = tuple(np.atleast_1d(np.array(name, dtype=object)))
        if identity not in known.index:
            continue
        member, arm, seed = known.loc[identity], str(identity[1]), int(str(identity[3]))
        loss = rows.pivot(index=keys.STEP, columns=keys.OFFSET, values=keys.WEIGHTED_LOSS)
        moments = rows[rows[keys.OFFSET] == 0].sort_values(keys.STEP)
        weights = [column for column in rows.columns if column.startswith(keys.CLASS_WEIGHT)]
        run = traced.get((arm, seed))
        runs.append(
            ValleyRun(
                arm=arm,
                seed=seed,
                learning_rate=float(member[keys.LEARNING_RATE]),
                period=None if pd.isna(member[keys.PERIOD]) else int(member[keys.PERIOD]),
                steps=loss.index.to_numpy(dtype=np.int64),
                offsets=loss.columns.to_numpy(dtype=np.float64),
                loss=loss.to_numpy(dtype=np.float64),
                class_weights=moments[weights].to_numpy(dtype=np.float64),
                lambda_max=moments[keys.HESSIAN_LAMBDA_MAX].to_numpy(dtype=np.float64),
                slope=moments["slope"].to_numpy(dtype=np.float64),
                instabilities=() if run is None else run.spans(),
            )
        )
    return tuple(sorted(runs, key=lambda run: (run.arm, run.seed)))


def valleys_headline(runs: Sequence[ValleyRun]) -> str:
    """What the figure of one seed's valleys shows."""
    return f"The valley along its sharpest direction, seed {runs[0].seed}"


def _caption(runs: Sequence[ValleyRun]) -> str:
    """How to read that figure."""
    text = (
        "F on the line through the parameters along the sharpest direction of each moment, dark "
        "where it is low; below, the largest Hessian eigenvalue. Where the dark band opens, the "
        "valley widens; where it closes, the valley narrows. Up and down may swap where the "
        "direction turns"
    )
    if any(run.boundaries() for run in runs):
        text += ", as it does when another class takes its turn"
    return f"{text}."


def _moving_caption(runs: Sequence[ValleyRun]) -> str:
    """How to read the animation of the same line."""
    return (
        "The same line at one moment after another: F, the parabola of its curvature, and the "
        "network as a dot. Below it are the weights of the classes "
        f"({runs[0].arm} loss) and the largest eigenvalue, with the bound 2 / learning rate dashed."
    )
