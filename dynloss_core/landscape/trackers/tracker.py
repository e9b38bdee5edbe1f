"""Following the curvature of an ensemble through training: what all trackers have in common.

Symbols
    M      members
    k      moments
    N      samples the loss is a mean over
    n      samples of the tangent kernel, the first ones
    C      classes
    P      trainable parameters of a member
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dynloss_core.data import Labelled
from dynloss_core.data.splits import refuse_other_classes
from dynloss_core.landscape.operators.hessian import trainable
from dynloss_core.landscape.refusals import LandscapeError, refuse_unmeasurable
from dynloss_core.losses import LossName
from dynloss_core.models import Traits, traits_of

__all__ = [
    "Curvature",
    "CurvatureTracker",
    "LargestEigenvalue",
    "TrackedProblem",
    "Tracking",
    "samples_together",
]

_PIXELS = 2**18  # pixels seen together: 256 images of 32 x 32


@dataclass(frozen=True, eq=False)
class LargestEigenvalue:
    """The largest eigenvalue of each of M operators, at one moment or at k, on the CPU in float64.

    Args:
        value: (..., M); NaN for a member whose parameters are not finite.
        residual: (..., M) length of A v - value v: an eigenvalue lies this close to the value.
        converged: (..., M) whether the residuals of this eigenvalue and the next met their
            tolerances.
        iterations: (..., M) products needed.
    """

    value: Tensor
    residual: Tensor
    converged: Tensor
    iterations: Tensor


@dataclass(frozen=True, eq=False)
class Curvature:
    """The curvature of an ensemble at one moment, or at k.

    Args:
        hessian: of F at the class weights of the moment.
        ntk: of the tangent kernel on the first samples, averaged over the outputs.
    """

    hessian: LargestEigenvalue
    ntk: LargestEigenvalue


@dataclass(frozen=True)
class Tracking:
    """How accurately to follow the eigenvalues.

    Args:
        tolerance: bound on the residual relative to the largest eigenvalue. The relative error of
            the eigenvalue is of the order of its square.
        next_tolerance: the same for the second eigenvalue, to see one that overtakes.
        share: length of the random part of a start vector.
        max_iterations: most products per member and measurement.
        ntk_samples: n; the paper's figure takes 50.
        max_samples_per_pass: samples times members seen together; bounds the memory where the
            network is not small, and changes nothing but the rounding. Of images larger than 8 x 8
            fewer are seen, so that the number of pixels stays the same.
    """

    tolerance: float = 1e-3
    next_tolerance: float = 0.1
    share: float = 0.1
    max_iterations: int = 200
    ntk_samples: int = 50
    max_samples_per_pass: int = 4096

    def __post_init__(self) -> None:
        for name in ("tolerance", "next_tolerance", "share"):
            if not 0 < getattr(self, name) < 1:
                raise LandscapeError(f"{name} = {getattr(self, name)}", "use a number in (0, 1)")
        for name in ("max_iterations", "ntk_samples", "max_samples_per_pass"):
            if getattr(self, name) < 2:
                raise LandscapeError(f"{name} = {getattr(self, name)}", "use at least 2")

    @property
    def tolerances(self) -> tuple[float, float]:
        """The tolerances of the largest eigenvalue and the next."""
        return self.tolerance, self.next_tolerance


@dataclass(frozen=True, eq=False)
class TrackedProblem:
    """The ensemble whose curvature is followed.

    Args:
        network: the architecture of all members, in the mode to measure it in.
        loss: which dynamical loss.
        data: the samples of each of the M members, or one set for all.
        seeds: M seeds of the members' random start vectors.
    """

    network: nn.Module
    loss: LossName
    data: Sequence[Labelled]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        if not self.seeds:
            raise LandscapeError("an ensemble without members", "give one seed per member")
        if len(self.data) not in (1, len(self.seeds)):
            raise LandscapeError(
                f"{len(self.data)} data sets for {len(self.seeds)} members",
                "give one per member, or one for all",
            )
        if len({len(samples) for samples in self.data}) != 1 or len(self.data[0]) < 2:
            raise LandscapeError(
                "the members' data sets differ in size or hold fewer than two samples",
                "give data sets of the same size",
            )
        refuse_unmeasurable(self.network, self.data[0].inputs[:2])
        for data in self.data:
            refuse_other_classes(data, self.classes, "the data set")

    @cached_property
    def traits(self) -> Traits:
        """What a tracker must know about the network."""
        return traits_of(self.network)

    @property
    def stateless(self) -> bool:
        """Whether the network holds its trained parameters and nothing else: no running statistics,
        no shared or frozen parameters, no unknown layers."""
        return self.traits.unusual is None and not self.traits.buffers

    @property
    def is_grouped(self) -> bool:
        """Whether a sample has the weight of its group rather than its class."""
        return self.data[0].groups is not None

    def groups(self, device: torch.device) -> Tensor | None:
        """Groups (M or 1, N) of the samples; None where classes have the weights."""
        known = [data.groups for data in self.data if data.groups is not None]
        return torch.stack(known).to(device) if known else None

    @property
    def classes(self) -> int:
        """C, outputs of the network."""
        first = next(self.network.parameters())
        with torch.no_grad():
            outputs = self.network(self.data[0].inputs[:1].to(first.device, first.dtype))
        return int(outputs.shape[-1])

    def samples(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs (M or 1, N, ...) and targets (M or 1, N)."""
        inputs = torch.stack([data.inputs for data in self.data]).to(device, dtype)
        return inputs, torch.stack([data.targets for data in self.data]).to(device)


class CurvatureTracker(ABC):
    """Measures the members' largest eigenvalues repeatedly, each time from the last result.

    A member's results depend on its own history alone: its seed, and its parameters and class
    weights at this and earlier measurements.

    Args:
        problem: the ensemble to follow.
        tracking: how accurately.
        device: where the parameters are.
    """

    name: ClassVar[str]

    def __init__(
        self,
        problem: TrackedProblem,
        tracking: Tracking | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.problem = problem
        self.tracking = tracking or Tracking()
        self.device = torch.device(device)
        self.members = len(problem.seeds)
        named = problem.network.state_dict()
        self._shapes = {name: (self.members, *tensor.shape) for name, tensor in named.items()}
        trained = trainable(problem.network)
        self.dimension = sum(tensor.numel() for tensor in trained.values())
        self.classes = problem.classes
        self.ntk_samples = min(self.tracking.ntk_samples, len(problem.data[0]))
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None:
        """Convert the network and the data to the tracker's own form."""

    @property
    def max_samples_per_pass(self) -> int:
        """Samples times members that a network sees together."""
        return samples_together(self.problem.data[0], self.tracking.max_samples_per_pass)

    @classmethod
    @abstractmethod
    def refusal(cls, problem: TrackedProblem, device: str = "cpu") -> str | None:
        """Why this tracker cannot follow `problem` on `device` here; None if it can."""

    def measure(self, parameters: Mapping[str, Tensor], class_weights: Tensor) -> Curvature:
        """The curvature of all members at this moment.

        Args:
            parameters: stacked, (M, ...) each, named as in the network's `state_dict`, with its
                running statistics if it has any.
            class_weights: (M, C) Gamma; that of step t for the landscape that update t sees.

        Raises:
            LandscapeError: if names or shapes differ from the network's.
        """
        self._refuse_others(parameters, class_weights, ())
        return self._measure(parameters, class_weights)

    def follow(self, parameters: Mapping[str, Tensor], class_weights: Tensor) -> Curvature:
        """The curvature at k moments in order, bit for bit what k calls of `measure` return; every
        tensor of the result is (k, M).

        Args:
            parameters: (k, M, ...) each, named as in the network, k >= 1.
            class_weights: (k, M, C).

        Raises:
            LandscapeError: if names or shapes differ from the network's.
        """
        self._refuse_others(parameters, class_weights, class_weights.shape[:1])
        return self._follow(parameters, class_weights)

    def _refuse_others(
        self, parameters: Mapping[str, Tensor], class_weights: Tensor, lead: tuple[int, ...]
    ) -> None:
        shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
        expected = {name: (*lead, *shape) for name, shape in self._shapes.items()}
        if shapes != expected:
            raise LandscapeError(
                f"parameters of shapes {shapes}, expected {expected}",
                "stack those of all members with `stack_parameters`",
            )
        expected_weights = (*lead, self.members, self.classes)
        if self.problem.is_grouped:
            expected_weights = (*lead, self.members, class_weights.shape[-1])
        if tuple(class_weights.shape) != expected_weights:
            raise LandscapeError(
                f"class weights of shape {tuple(class_weights.shape)}, expected {expected_weights}",
                "give every member its weights at the step to be measured",
            )

    def directions(self) -> Tensor:
        """The eigenvectors (M, P) of the Hessian at the last measurement, of length 1, in the order
        of the parameters' names; zero before the first one, and for a member whose parameters were
        not finite."""
        return self._found()[0][:, 0].double().cpu().clone()

    def state_dict(self) -> dict[str, Any]:
        """What the next measurement starts from: Ritz vectors (M, 2, P) and (M, 2, n), in the order
        of the parameters' names, zero if there are none yet. Any tracker can continue from it."""
        hessian, ntk = self._found()
        return {"hessian": hessian.cpu().clone(), "ntk": ntk.cpu().clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            LandscapeError: if it was saved by an ensemble of another size or architecture.
        """
        hessian, ntk = state["hessian"], state["ntk"]
        expected = (self.members, 2, self.dimension), (self.members, 2, self.ntk_samples)
        if (tuple(hessian.shape), tuple(ntk.shape)) != expected:
            raise LandscapeError(
                f"a tracker's state of shapes {tuple(hessian.shape)} and {tuple(ntk.shape)}, "
                f"expected {expected[0]} and {expected[1]}",
                "load it with the members and the network that it was saved with",
            )
        self._resume_from(hessian, ntk)

    def _follow(self, parameters: Mapping[str, Tensor], class_weights: Tensor) -> Curvature:
        moments = [
            self._measure({name: tensor[i] for name, tensor in parameters.items()}, weights)
            for i, weights in enumerate(class_weights)
        ]
        return Curvature(
            _stacked([moment.hessian for moment in moments]),
            _stacked([moment.ntk for moment in moments]),
        )

    @abstractmethod
    def _measure(self, parameters: Mapping[str, Tensor], class_weights: Tensor) -> Curvature: ...

    @abstractmethod
    def _found(self) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _resume_from(self, hessian: Tensor, ntk: Tensor) -> None: ...


def samples_together(data: Labelled, most: int = Tracking.max_samples_per_pass) -> int:
    """How many samples a network should see at once while its curvature is measured: `most`, or
    fewer for images larger than 8 x 8, so that the number of pixels stays the same."""
    shape = data.inputs.shape
    return most if len(shape) != 4 else max(1, min(most, _PIXELS // math.prod(shape[2:])))


def _stacked(moments: Sequence[LargestEigenvalue]) -> LargestEigenvalue:
    names = ("value", "residual", "converged", "iterations")
    return LargestEigenvalue(
        **{name: torch.stack([getattr(moment, name) for moment in moments]) for name in names}
    )
