"""What a study asks to have recorded of some networks; `studies.blocks.recorder` records it."""

from __future__ import annotations

from dataclasses import dataclass

from dynloss_core.config import ConfigError
from dynloss_core.landscape.instabilities import SHORTEST_PERIOD
from dynloss_core.training import Problem

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """What is recorded beside the evaluations; recording changes nothing in the training.

    Curvature is that of the landscape of the network as it is evaluated: training images as they
    are, no dropout, and the running statistics of batch normalisation fixed at what they are then.
    That is not the function whose gradient an update follows where the network sees otherwise.

    Args:
        seeds: how many seeds of each point, the first ones.
        trace: every step: F, static loss, accuracy.
        instabilities: those found in every step, which need not be kept for it (full batch only).
        curvature_every: steps between two measurements of the largest eigenvalues of the Hessian
            of F and of the tangent kernel; None measures none.
        curvature_samples: of the training set that all of this is measured on, as many of each
            class (see `landscape.balanced_subset`); None for all. The cost of a measurement is
            proportional to it. Valleys and `final_curvature` are measured on the same samples.
        trace_probes: random vectors for the trace of the Hessian at each of these moments, with its
            standard error, which falls as one over their square root; None leaves it out.
        final_curvature: largest eigenvalue and trace of the Hessian of the static loss at the end.
        valley_every: steps between two pictures of the valley, F on a line along the sharpest
            direction; a multiple of `curvature_every`. None makes none.
        valley_seeds: how many seeds of each point have their valleys recorded, the first ones.
    """

    seeds: int = 1
    trace: bool = False
    instabilities: bool = False
    curvature_every: int | None = None
    curvature_samples: int | None = None
    trace_probes: int | None = None
    final_curvature: bool = False
    valley_every: int | None = None
    valley_seeds: int = 1

    def __post_init__(self) -> None:
        self._check_valleys()
        if self.seeds < 1:
            raise ConfigError("seeds", f"{self.seeds} is below 1", "use >= 1")
        if self.curvature_every is not None and self.curvature_every < 1:
            raise ConfigError("curvature_every", f"{self.curvature_every} is below 1", "use >= 1")
        for key in ("curvature_samples", "trace_probes"):
            value = getattr(self, key)
            if value is not None and value < 2:
                raise ConfigError(key, f"{value} is below 2", "use >= 2, or leave it out")
        if self.trace_probes is not None and self.curvature_every is None:
            problem = "the trace is measured with the eigenvalues, and curvature_every is off"
            raise ConfigError("trace_probes", problem, "give curvature_every too")

    def _check_valleys(self) -> None:
        if not 1 <= self.valley_seeds <= max(self.seeds, 1):
            problem = f"{self.valley_seeds} is not among the {self.seeds} seeds recorded"
            raise ConfigError("valley_seeds", problem, f"use a number from 1 to {self.seeds}")
        if self.valley_every is None:
            return
        if not self.curvature_every:
            problem = "valleys lie along a direction that curvature_every measures, and it is off"
            raise ConfigError("valley_every", problem, "give curvature_every too")
        if self.valley_every < 1 or self.valley_every % self.curvature_every:
            problem = (
                f"{self.valley_every} is not a multiple of curvature_every {self.curvature_every}"
            )
            raise ConfigError("valley_every", problem, f"use {10 * self.curvature_every}, say")

    def check(self, problem: Problem, period: int | None) -> None:
        """Refuse instabilities where they cannot be told from what else turns the loss.

        Args:
            problem: the problem of a point of the study.
            period: T in steps of a member there; None for the static arm.

        Raises:
            ConfigError: for mini-batches, or a period that is too short.
        """
        if not self.instabilities:
            return
        if problem.batch_size is not None:
            raise ConfigError(
                "record.instabilities",
                f"with batches of {problem.batch_size}: their noise alone turns the loss",
                "use batch_size: null",
            )
        if period is not None and period < SHORTEST_PERIOD:
            raise ConfigError(
                "record.instabilities",
                f"with a period of {period} steps, in which the class weights alone turn the loss",
                f"use periods of {SHORTEST_PERIOD} steps or more",
            )
