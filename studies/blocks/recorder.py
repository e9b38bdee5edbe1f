"""What a block records of some of its networks beside the evaluations.

A recorder follows one ensemble after another, as the block trains them, and keeps what the study
asks for: every step, the instabilities among them, and curvature on the way and at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dynloss_core import keys
from dynloss_core.compute.deterministic import deterministic
from dynloss_core.landscape import (
    HessianOperator,
    balanced_subset,
    hessian_top,
    hutchinson_trace,
)
from dynloss_core.landscape.curvature_samples import CurvatureSamples
from dynloss_core.landscape.instabilities import Instability, find_instabilities
from dynloss_core.landscape.trackers.tracker import samples_together
from dynloss_core.oscillation import oscillation_stop
from dynloss_core.training import Engine, Evaluation, Member, Probes, Problem, Valleys
from studies.blocks import tables
from studies.definition.recording_options import Record

__all__ = ["KINDS", "Recorder", "instability_rows"]

KINDS = ("traces", "curvature", "instabilities", "valleys")
"""The tables that recording makes."""

_TRACE_PROBES = 64  # random vectors for the final Hessian trace


class Recorder:
    """Records the networks of one block.

    Args:
        record: what the study asks for; None records nothing.
        seeds: the seeds of the block's trials; the first ones are recorded.
    """

    def __init__(self, record: Record | None, seeds: Sequence[int]) -> None:
        self._record = record
        self._seeds = set(seeds[: record.seeds]) if record is not None else set()
        self._valley_seeds = set(seeds[: record.valley_seeds]) if record is not None else set()
        self._frames: dict[str, list[pd.DataFrame]] = {kind: [] for kind in KINDS}
        self._loss: list[Tensor] = []  # pieces (n, K): F of the present ensemble
        self._rates: list[Tensor] = []  # pieces (n, K): its learning rates

    def chosen(self, members: Sequence[Member]) -> list[int]:
        """Indices of the members that are recorded."""
        return [index for index, member in enumerate(members) if member.seed in self._seeds]

    def asks(self, members: Sequence[Member]) -> tuple[list[int], Probes | None]:
        """The members of an ensemble that its engine should trace, and what it should measure."""
        record, chosen = self._record, self.chosen(members)
        if record is None or not chosen:
            return [], None
        every, valleys = record.curvature_every, None
        traced = chosen if record.trace or record.instabilities else []
        if not every:
            return traced, None
        if record.valley_every:
            with_valleys = tuple(m for m in chosen if members[m].seed in self._valley_seeds)
            valleys = Valleys(record.valley_every, with_valleys)
        samples, trace = record.curvature_samples, record.trace_probes
        return traced, Probes(
            every, tuple(chosen), valleys=valleys, samples=samples, trace_probes=trace
        )

    def take(
        self,
        rows: pd.DataFrame,
        evaluation: Evaluation,
    ) -> None:
        """Keep what comes with an evaluation; `rows` identify the members."""
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
        """Find the trained ensemble's instabilities, and return the columns to add to the members
        table, one value per member."""
        record = self._record
        if record is None:
            return {}
        chosen = self.chosen(members)
        columns: dict[str, list[Any]] = {
            keys.RECORDED: [index in chosen for index in range(len(members))]
        }
        if self._loss:
            self._record_instabilities(rows, members, engine.setup.problem, chosen)
        self._loss, self._rates = [], []
        if record.final_curvature:
            curvatures = {
                index: _final_curvature(engine, index, record.curvature_samples) for index in chosen
            }
            for name in keys.FINAL_CURVATURE_METRICS:
                columns[name] = [
                    curvatures[index][name] if index in curvatures else float("nan")
                    for index in range(len(members))
                ]
        return columns

    def tables(self) -> dict[str, pd.DataFrame]:
        """One table per kind; empty if nothing of that kind was recorded."""
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
        """Resume from a checkpoint."""
        saved = state["frames"]
        self._frames = {kind: [tables.unpack(frame) for frame in saved[kind]] for kind in KINDS}
        self._loss = [] if state["loss"] is None else [state["loss"]]
        self._rates = [] if state["rates"] is None else [state["rates"]]

    def _record_instabilities(
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
            instabilities = find_instabilities(
                loss[:, column],
                period=member.period,
                stop=stop,
                curvature=_samples(curvature, identity),
            )
            if not instabilities:  # an empty frame would turn the flags of others into numbers
                continue
            rates = every_rate[[event.onset for event in instabilities], column]
            self._frames["instabilities"].append(instability_rows(identity, instabilities, rates))


def _samples(curvature: pd.DataFrame, identity: pd.Series) -> CurvatureSamples | None:
    """The curvature measured of one member; None if none was."""
    if curvature.empty:
        return None
    same = curvature[keys.TRIAL] == identity[keys.TRIAL]
    rows = curvature[same & (curvature[keys.SEED] == identity[keys.SEED])]
    return CurvatureSamples(
        rows[keys.STEP].to_numpy(),
        rows[keys.HESSIAN_LAMBDA_MAX].to_numpy(),
        rows[keys.NTK_LAMBDA_MAX].to_numpy(),
    )


def instability_rows(
    identity: pd.Series, instabilities: Sequence[Instability], rates: Tensor
) -> pd.DataFrame:
    """One row per instability (see `landscape.Instability` for the meanings)."""
    frame = pd.DataFrame(
        {
            "onset": [event.onset for event in instabilities],
            "end": [event.end for event in instabilities],
            "begins_before": [event.begins_before for event in instabilities],
            "continues": [event.continues for event in instabilities],
            "period_number": pd.array(
                [event.period_number for event in instabilities], dtype="Int64"
            ),
            "boundary_offset": pd.array(
                [event.boundary_offset for event in instabilities], dtype="Int64"
            ),
            "relative_amplitude": [event.relative_amplitude for event in instabilities],
            "cascade": [_cascade(event) for event in instabilities],
            keys.LEARNING_RATE: rates.numpy(),
            "hessian_before": _values([event.hessian_before for event in instabilities]),
            "hessian_at_onset": np.array(
                [event.hessian_at_onset for event in instabilities], dtype=np.float64
            ),
            "ntk_before": _values([event.ntk_before for event in instabilities]),
            "ntk_after": _values([event.ntk_after for event in instabilities]),
        }
    )
    for position, name in enumerate(tables.IDENTITY):
        frame.insert(position, name, identity[name])
    return frame


def _cascade(instability: Instability) -> str:
    """`2 4 aperiodic`: the periods of an instability's regimes, in order."""
    return " ".join(str(regime.period or "aperiodic") for regime in instability.cascade)


def _values(samples: Sequence[Any]) -> list[float]:
    return [float("nan") if sample is None else sample.value for sample in samples]


@deterministic()
def _final_curvature(engine: Engine, index: int, samples: int | None) -> dict[str, float]:
    """Largest eigenvalue and trace of the Hessian of the *static* loss on the training set, or on
    that many samples of it; NaN for a member that was frozen."""
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
