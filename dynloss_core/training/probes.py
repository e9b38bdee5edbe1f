"""Probes: curvature and valleys of some members, measured during training without changing it.

Symbols
    K      members probed
    k      moments
    C      classes
    P      trainable parameters of a member
    S      offsets on the line through a valley
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynloss_core.data import Labelled
from dynloss_core.landscape.algorithms.lanczos import TopEigen
from dynloss_core.landscape.algorithms.trace import hutchinson_trace
from dynloss_core.landscape.operators.hessian import HessianOperator
from dynloss_core.landscape.trackers.choose_tracker import choose_tracker
from dynloss_core.landscape.trackers.tracker import Curvature, Tracking
from dynloss_core.landscape.valley import Valley, valley
from dynloss_core.training.problem.ensemble import Setup
from dynloss_core.training.problem.evaluations import CurvatureSeries, ValleySeries

__all__ = ["Prober", "Probes", "Valleys"]

_VECTORS_AT_ONCE = 8  # products of small networks computed together


@dataclass(frozen=True)
class Valleys:
    """Whose valleys to measure, and when.

    A valley lies along the eigenvector from the measurement of the curvature just made, so its
    moments are among those of the curvature, and its members among those probed.

    Args:
        every: steps between two valleys, >= 1.
        members: indices of the members in the ensemble.

    Raises:
        ValueError: if `every` is below 1 or no member is named.
    """

    every: int
    members: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"valleys every {self.every} steps: use >= 1")
        if not self.members:
            raise ValueError("valleys of no member: name at least one")


@dataclass(frozen=True)
class Probes:
    """What to measure, and when.

    Args:
        every: steps between two measurements, >= 1; the first is before the first step.
        members: indices of the members in the ensemble.
        valleys: whose valleys to measure on the way; None for none.
        samples: how many training samples F is a mean over, see `landscape.balanced_subset`; None
            for all. The tangent kernel is that of the first of them.
        trace_probes: number of random vectors from which the trace of the Hessian is estimated at
            each moment, one product each, see `landscape.hutchinson_trace`. They are the same every
            time, so that only the landscape changes. None leaves the trace out.

    Raises:
        ValueError: if `every` is below 1 or no member is named, if `samples` or `trace_probes` is
            below 2, or if a valley is wanted for a member or at a step whose curvature is not
            measured.
    """

    every: int
    members: tuple[int, ...]
    valleys: Valleys | None = None
    samples: int | None = None
    trace_probes: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"probes every {self.every} steps: use >= 1")
        if not self.members:
            raise ValueError("probes of no member: name at least one")
        for name in ("samples", "trace_probes"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise ValueError(f"{name} = {value}: use at least 2, or None")
        if self.valleys is None:
            return
        if self.valleys.every % self.every:
            raise ValueError(
                f"valleys every {self.valleys.every} steps, probes every {self.every}: "
                "use a multiple"
            )
        if not set(self.valleys.members) <= set(self.members):
            raise ValueError("valleys of members that are not probed: probe them too")


class Prober:
    """Measures one ensemble, each time starting from the last eigenvectors.

    Valleys lie along eigenvectors that are found anyway, so the curvature is the same with or
    without them. The landscape is that of F on the whole training set, or on the subset asked for,
    at the class weights of the next update, whatever the batches are. The network is in evaluation
    mode: no augmentation, no dropout, running statistics at their current values.

    Args:
        probes: what to measure, and when.
        setup: the ensemble.
        device: where to measure.
    """

    def __init__(self, probes: Probes, setup: Setup, device: torch.device) -> None:
        self.probes, self._setup = probes, setup
        self.members = tuple(sorted(set(probes.members)))
        if not 0 <= self.members[0] <= self.members[-1] < len(setup.members):
            raise ValueError(f"probes must name members 0 to {len(setup.members) - 1}")
        problem = setup.tracked(self.members, probes.samples)
        self._tracker = choose_tracker(problem, str(device))(problem, Tracking(), device)
        valleys = probes.valleys
        self._rows = [
            row
            for row, m in enumerate(self.members)
            if valleys is not None and m in valleys.members
        ]
        self._data = problem.data
        self._network = copy.deepcopy(problem.network).to(device)
        self._before = torch.zeros(len(self._rows), self._tracker.dimension, dtype=torch.float64)

    def moments(self, step: int, last: int) -> range:
        """The steps to measure at, after `step` and up to `last`, inclusive; they end at the first
        valley, which lies along the direction measured last."""
        every, valleys = self.probes.every, self.probes.valleys
        if valleys is not None:
            last = min(last, (step // valleys.every + 1) * valleys.every)
        return range((step // every + 1) * every, last + 1, every)

    def is_due(self, step: int) -> bool:
        """Whether to measure at `step`."""
        return step % self.probes.every == 0

    def measure(
        self, steps: Sequence[int], parameters: Mapping[str, Tensor], learning_rates: Tensor
    ) -> tuple[CurvatureSeries, ValleySeries | None]:
        """The curvature at k moments, the numbers of steps given in order, and the valleys at the
        last of them if they are due. `parameters` (k, K, ...) are of the probed members,
        `learning_rates` (k, M) of all members."""
        moments = torch.tensor(steps)
        weights = self._setup.class_weights(moments)[:, list(self.members)]  # (k, K, C)
        curvature = self._tracker.follow(parameters, weights)
        series = _series(moments, self.members, curvature, learning_rates)
        if self.probes.trace_probes is not None:
            value, error = self._traces(parameters, weights, self.probes.trace_probes)
            series = replace(series, hessian_trace=value, hessian_trace_error=error)
        valleys = self.probes.valleys
        if valleys is None or steps[-1] % valleys.every:
            return series, None
        last = {name: tensor[-1] for name, tensor in parameters.items()}  # (K, ...)
        return series, self._valleys(steps[-1], last, weights[-1], series)

    def _traces(
        self, parameters: Mapping[str, Tensor], weights: Tensor, probes: int
    ) -> tuple[Tensor, Tensor]:
        """Traces of the Hessians at k moments and their standard errors, (k, K) each; NaN for a
        member whose parameters are not finite."""
        traces = torch.full((2, *weights.shape[:2]), torch.nan, dtype=torch.float64)
        for moment, row in np.ndindex(*weights.shape[:2]):
            own = {name: tensor[moment, row] for name, tensor in parameters.items()}
            if not all(bool(torch.isfinite(tensor).all()) for tensor in own.values()):
                continue
            self._network.load_state_dict(own)
            data = self._samples_of(row)
            operator = HessianOperator(
                self._network,
                self._setup.problem.loss,
                data,
                weights[moment, row],
                batch_size=self._tracker.max_samples_per_pass,
                vectors_at_once=1 if data.inputs.ndim == 4 else _VECTORS_AT_ONCE,
            )
            seed = self._setup.members[self.members[row]].seed
            device = operator.device
            trace = hutchinson_trace(
                operator, operator.dimension, probes=probes, seed=seed, device=device
            )
            traces[:, moment, row] = torch.tensor([trace.value, trace.standard_error])
        return traces[0], traces[1]

    def _samples_of(self, row: int) -> Labelled:
        return self._data[row if len(self._data) > 1 else 0]

    def _valleys(
        self,
        step: int,
        parameters: Mapping[str, Tensor],
        weights: Tensor,
        series: CurvatureSeries,
    ) -> ValleySeries:
        directions = self._tracker.directions()  # (K, P)
        seen = []
        for place, row in enumerate(self._rows):
            self._network.load_state_dict(
                {name: tensor[row] for name, tensor in parameters.items()}
            )
            one = valley(
                self._network,
                self._setup.problem.loss,
                self._samples_of(row),
                weights[row],
                top=TopEigen(
                    values=series.hessian_lambda_max[-1, row : row + 1],
                    vectors=directions[row : row + 1],
                    residuals=series.hessian_residual[-1, row : row + 1],
                    converged=series.hessian_converged[-1, row : row + 1],
                    iterations=torch.tensor(0),
                ),
                towards=self._before[place],
                batch_size=self._tracker.max_samples_per_pass,
            )
            self._before[place] = one.direction
            seen.append(one)
        members = tuple(self.members[row] for row in self._rows)
        return _valley_moment(step, members, weights[self._rows], seen)

    def state_dict(self) -> dict[str, Any]:
        """What the next measurement starts from, and the direction that decides the sign of the
        next valley's."""
        return {**self._tracker.state_dict(), "valleys": self._before.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._tracker.load_state_dict(state)
        self._before = state["valleys"].clone()


def _series(
    steps: Tensor, members: tuple[int, ...], curvature: Curvature, learning_rates: Tensor
) -> CurvatureSeries:
    return CurvatureSeries(
        steps=steps,
        members=torch.tensor(members),
        hessian_lambda_max=curvature.hessian.value,
        hessian_residual=curvature.hessian.residual,
        hessian_converged=curvature.hessian.converged,
        ntk_lambda_max=curvature.ntk.value,
        learning_rate=learning_rates[:, list(members)],
    )


def _valley_moment(
    step: int, members: tuple[int, ...], class_weights: Tensor, seen: list[Valley]
) -> ValleySeries:
    def row(name: str) -> Tensor:  # (1, K)
        return torch.tensor([[getattr(profile, name) for profile in seen]], dtype=torch.float64)

    return ValleySeries(
        steps=torch.tensor([step]),
        members=torch.tensor(members),
        offsets=seen[0].offsets,
        weighted_loss=torch.stack([profile.weighted_loss for profile in seen])[None],
        loss=torch.stack([profile.loss for profile in seen])[None],
        class_weights=class_weights[None],
        slope=row("slope"),
        overlap=row("overlap"),
        hessian_lambda_max=row("lambda_max"),
        hessian_residual=row("residual"),
        hessian_converged=row("converged").bool(),
    )
