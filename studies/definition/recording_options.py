"""What a study records of some of its networks; `studies.blocks.recorder` does the recording."""

from __future__ import annotations

from dataclasses import dataclass

from dynloss_core.config import ConfigError
from dynloss_core.landscape.instabilities import SHORTEST_PERIOD
from dynloss_core.training import Problem

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """What is recorded beside the evaluations; recording does not affect training.

    Curvature is that of the network as it is evaluated: unaugmented training images, no dropout,
    and batch normalisation with its running statistics of that moment. With augmentation, dropout
    or batch statistics, that is not the function whose gradient an update follows.

    Args:
        seeds: number of seeds of each point that are recorded, the first ones.
        trace: whether to record F, static loss and accuracy at every step.
        instabilities: whether to find the instabilities among all steps, which need not be recorded
            for it (full batch only).
        curvature_every: steps between measurements of the largest eigenvalues of the Hessian of F
            and of the tangent kernel; None measures none.
        curvature_samples: number of training samples to measure curvature on, equally many of each
            class (see `landscape.balanced_subset`); None for all. A measurement costs in proportion
            to it. Valleys and `final_curvature` are measured on the same samples.
        trace_probes: number of random vectors that estimate the trace of the Hessian at each
            measurement; its standard error falls as one over their square root. None leaves it out.
        final_curvature: whether to record the largest eigenvalue and the trace of the Hessian of
            the static loss at the end.
        valley_every: steps between recordings of the valley, F on a line along the sharpest
            direction; a multiple of `curvature_every`. None records none.
        valley_seeds: number of seeds of each point whose valleys are recorded, the first ones.
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
        """Refuse to record instabilities where something else turns the loss too.

        Args:
            problem: the problem at a point of the study.
            period: T in steps at that point; None for the static arm.

        Raises:
            ConfigError: for mini-batches, or a period that is too short.
        """
        if not self.instabilities:
            return
        if problem.batch_size is not None:
            raise ConfigError(
                "record.instabilities",
                f"with batches of {problem.batch_size}: their noise alone makes the loss alternate",
                "use batch_size: null",
            )
        if period is not None and period < SHORTEST_PERIOD:
            raise ConfigError(
                "record.instabilities",
                f"with a period of {period} steps: the class weights alone make the loss alternate",
                f"use periods of {SHORTEST_PERIOD} steps or more",
            )
