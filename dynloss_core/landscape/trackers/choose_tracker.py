"""The choice of a tracker for an ensemble's curvature, and parameters in the form it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from dynloss_core.landscape.refusals import LandscapeError
from dynloss_core.landscape.trackers.compiled import CompiledTracker
from dynloss_core.landscape.trackers.sequential import SequentialTracker
from dynloss_core.landscape.trackers.stacked import StackedTracker
from dynloss_core.landscape.trackers.tracker import CurvatureTracker, TrackedProblem

__all__ = ["CurvatureTrackerName", "choose_tracker", "stack_parameters"]

CurvatureTrackerName = Literal["auto", "compiled", "stacked", "sequential"]

_TRACKERS: tuple[type[CurvatureTracker], ...] = (  # fastest first
    CompiledTracker,
    StackedTracker,
    SequentialTracker,
)


def choose_tracker(
    problem: TrackedProblem, device: str = "cpu", name: CurvatureTrackerName = "auto"
) -> type[CurvatureTracker]:
    """The fastest tracker that can follow `problem` on `device`, or the one named.

    Raises:
        LandscapeError: if the named tracker cannot, or there is none of that name.
    """
    for tracker in _TRACKERS:
        if name in ("auto", tracker.name):
            reason = tracker.refusal(problem, device)
            if reason is None:
                return tracker
            if name == tracker.name:
                raise LandscapeError(f"the {name} tracker: {reason}", "use 'auto'")
    names = ", ".join(repr(kind.name) for kind in _TRACKERS)
    raise LandscapeError(f"no tracker {name!r}", f"use 'auto', or one of {names}")


def stack_parameters(parameters: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack the parameters of M members, such as `[engine.parameters(m) for m in range(M)]`, into
    tensors (M, ...)."""
    return {name: torch.stack([member[name] for member in parameters]) for name in parameters[0]}
