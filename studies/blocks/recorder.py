"""What a block records of some of its networks beside the evaluations.

A recorder follows one ensemble after another, as the block trains them. It keeps what a study asks
for: every step, the instabilities found in every step, the curvature along the way and at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dynloss_core import keys
from dynloss_core.landscape import (
    HessianOperator,
    balanced_subset,
    hessian_top,
    hutchinson_trace,
)
from dynloss_core.landscape.curvature_samples import CurvatureSamples
from dynloss_core.landscape.instabilities import Instability, find_instabilities
from dynloss_core.landscape.trackers.tracker import samples_together
from dynloss_core.schedules import oscillation_stop
from dynloss_core.training import Engine, Evaluation, Member, Probes, Problem, Valleys
from studies.blocks import tables
from studies.definition.recording_options import Record

__all__ = ["KINDS", "Recorder", "instability_rows"]

KINDS = ("traces", "curvature", "instabilities", "valleys")
"""Tables that recording makes."""

_TRACE_PROBES = 64  # of the final Hessian trace


class Recorder:
    """Records the networks of one block.

    Args:
        record: what the study asks for; None records nothing.
        seeds: the seeds of the block's trials; the first ones are recorded.
    """

    def __init__(self, record: Record | None, seeds: Sequence[int]) -> None:
        self._record = record
        self._seeds = set(seeds[: record.seeds]) if record is not None else set()
        self._first = set(seeds[: record.valley_seeds]) if record is not None else set()
        self._frames: dict[str, list[pd.DataFrame]] = {kind: [] for kind in KINDS}
        self._loss: list[Tensor] = []  # (n, K) F of the present ensemble, stretch by stretch
        self._rates: list[Tensor] = []  # (n, K) its learning rates

    def chosen(self, members: Sequence[Member]) -> list[int]:
        """Indices of the members that are recorded."""
        return [index for index, member in enumerate(members) if member.seed in self._seeds]

    def asks(self, members: Sequence[Member]) -> tuple[list[int], Probes | None]:
        """Which members of an ensemble its engine is to trace, and what it is to measure."""
        record, chosen = self._record, self.chosen(members)
        if record is None or not chosen:
            return [], None
        every, valleys = record.curvature_every, None
        traced = chosen if record.trace or record.instabilities else []
        if not every:
            return traced, None
        if record.valley_every:
            whose = tuple(m for m in chosen if members[m].seed in self._first)
            valleys = Valleys(record.valley_every, whose)
        samples, trace = record.curvature_samples, record.trace_probes
        return traced, Probes(
            every, tuple(chosen), valleys=valleys, samples=samples, trace_probes=trace
        )

    def take(
        self,
        rows: pd.DataFrame,
        evaluation: Evaluation,
    ) -> None:
        """Keep what an evaluation brings; `rows` identify the members."""
        record = self._record
        if record is None:
            return
        if evaluation.trace is not None:
            if record.trace:
                self._frames["traces"].append(tables.trace_rows(rows, evaluation.trace))
            if record.instabilities:
                self._loss.append(evaluation.trace.weighted_loss)
                self._rates.append(evaluation.trace.learning_rate)
        if evaluation.curvature is not None:
            frame = tables.curvature_rows(rows, evaluation.curvature)
            frame[keys.LEARNING_RATE] = evaluation.curvature.learning_rate.T.flatten().numpy()
            self._frames["curvature"].append(frame)
        if evaluation.valleys is not None:
            self._frames["valleys"].append(tables.valley_rows(rows, evaluation.valleys))

    def close(
        self, rows: pd.DataFrame, members: Sequence[Member], engine: Engine
    ) -> dict[str, list[Any]]:
        """The ensemble is trained: find its instabilities; the columns that the members table gets,
        one value per member."""
        record = self._record
        if record is None:
            return {}
        chosen = self.chosen(members)
        columns: dict[str, list[Any]] = {
            keys.RECORDED: [index in chosen for index in range(len(members))]
        }
        if self._loss:
            self._find(rows, members, engine.setup.problem, chosen)
        self._loss, self._rates = [], []
        if record.final_curvature:
            found = {
                index: _final_curvature(engine, index, record.curvature_samples) for index in chosen
            }
            for name in keys.FINAL_CURVATURE_METRICS:
                columns[name] = [
                    found[index][name] if index in found else float("nan")
                    for index in range(len(members))
                ]
        return columns

    def tables(self) -> dict[str, pd.DataFrame]:
        """A frame a kind; empty if nothing of it was recorded."""
        return {
            kind: pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
            for kind, frames in self._frames.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {
            "frames": {k: [tables.pack(f) for f in frames] for k, frames in self._frames.items()},
            "loss": torch.cat(self._loss) if self._loss else None,
            "rates": torch.cat(self._rates) if self._rates else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        saved = state["frames"]
        self._frames = {kind: [tables.unpack(each) for each in saved[kind]] for kind in KINDS}
        self._loss = [] if state["loss"] is None else [state["loss"]]
        self._rates = [] if state["rates"] is None else [state["rates"]]

    def _find(
        self, rows: pd.DataFrame, members: Sequence[Member], problem: Problem, chosen: list[int]
    ) -> None:
        loss = torch.cat(self._loss).numpy()  # (n, K)
        every_rate = torch.cat(self._rates)  # (n, K)
        curvature = self.tables()["curvature"]
        for column, index in enumerate(chosen):
            member, identity = members[index], rows.iloc[index]
            stop = None
            if member.period is not None:
                stop = oscillation_stop(problem.steps, problem.static_tail, member.period)
            found = find_instabilities(
                loss[:, column],
                period=member.period,
                stop=stop,
                curvature=_samples(curvature, identity),
            )
            if not found:  # a frame without rows would turn the flags of others into numbers
                continue
            rates = every_rate[[each.onset for each in found], column]
            self._frames["instabilities"].append(instability_rows(identity, found, rates))


def _samples(curvature: pd.DataFrame, identity: pd.Series) -> CurvatureSamples | None:
    """The measurements of one member."""
    if curvature.empty:
        return None
    same = curvature[keys.TRIAL] == identity[keys.TRIAL]
    own = curvature[same & (curvature[keys.SEED] == identity[keys.SEED])]
    return CurvatureSamples(
        own[keys.STEP].to_numpy(),
        own[keys.HESSIAN_LAMBDA_MAX].to_numpy(),
        own[keys.NTK_LAMBDA_MAX].to_numpy(),
    )


def instability_rows(
    identity: pd.Series, found: Sequence[Instability], rates: Tensor
) -> pd.DataFrame:
    """One row per instability (see `landscape.Instability` for the meanings)."""
    frame = pd.DataFrame(
        {
            "onset": [each.onset for each in found],
            "end": [each.end for each in found],
            "begins_before": [each.begins_before for each in found],
            "continues": [each.continues for each in found],
            "period_number": pd.array([each.period_number for each in found], dtype="Int64"),
            "boundary_offset": pd.array([each.boundary_offset for each in found], dtype="Int64"),
            "relative_amplitude": [each.relative_amplitude for each in found],
            "cascade": [_cascade(each) for each in found],
            keys.LEARNING_RATE: rates.numpy(),
            "hessian_before": _values([each.hessian_before for each in found]),
            "ntk_before": _values([each.ntk_before for each in found]),
            "ntk_after": _values([each.ntk_after for each in found]),
        }
    )
    for position, name in enumerate(tables.IDENTITY):
        frame.insert(position, name, identity[name])
    return frame


def _cascade(each: Instability) -> str:
    """`2 4 aperiodic`: the periods of its regimes, in order."""
    return " ".join(str(regime.period or "aperiodic") for regime in each.cascade)


def _values(samples: Sequence[Any]) -> list[float]:
    return [float("nan") if each is None else each.value for each in samples]


def _final_curvature(engine: Engine, index: int, samples: int | None) -> dict[str, float]:
    """Largest eigenvalue and trace of the Hessian of the *static* loss on the training set, or on
    so many samples of it."""
    missing = dict.fromkeys(keys.FINAL_CURVATURE_METRICS, float("nan"))
    if engine.frozen[index]:
        return missing
    setup = engine.setup
    network = copy.deepcopy(setup.networks[index])
    network.load_state_dict(engine.parameters(index))
    network.to(engine.device).eval()
    data = balanced_subset(setup.splits[index].train, samples)
    data = data.to(setup.problem.torch_dtype, engine.device)
    at_once, images = samples_together(data), data.inputs.ndim == 4
    weights = torch.ones(setup.num_classes, dtype=setup.problem.torch_dtype)
    loss, seed = setup.problem.loss, setup.members[index].seed
    top = hessian_top(network, loss, data, weights, seed=seed, tolerance=1e-3, batch_size=at_once)
    vectors = 1 if images else 8
    operator = HessianOperator(
        network, loss, data, weights, batch_size=at_once, vectors_at_once=vectors
    )
    trace = hutchinson_trace(
        operator, operator.dimension, probes=_TRACE_PROBES, seed=seed, device=engine.device
    )
    return {
        keys.FINAL_HESSIAN_LAMBDA_MAX: float(top.values[0]),
        keys.FINAL_HESSIAN_TRACE: trace.value,
        keys.FINAL_HESSIAN_TRACE_ERROR: trace.standard_error,
    }
