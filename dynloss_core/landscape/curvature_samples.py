"""Curvature measured along a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["CurvatureSamples", "Quantity", "Sample"]

Quantity = Literal["hessian_lambda_max", "ntk_lambda_max"]


@dataclass(frozen=True)
class Sample:
    """A measured value.

    Args:
        step: updates done when it was measured.
        value: the measured value.
    """

    step: int
    value: float


@dataclass(frozen=True, eq=False)
class CurvatureSamples:
    """Curvature measured at some steps of a run. Values that are not finite are left out.

    Args:
        steps: (m,) updates done, ascending.
        hessian_lambda_max: (m,) largest eigenvalue of the Hessian of F; None: not measured.
        ntk_lambda_max: (m,) largest eigenvalue of the NTK; None: not measured.

    Raises:
        ValueError: for lengths that differ, or steps that do not ascend.
    """

    steps: ArrayLike
    hessian_lambda_max: ArrayLike | None = None
    ntk_lambda_max: ArrayLike | None = None

    def __post_init__(self) -> None:
        steps = np.asarray(self.steps)
        if steps.ndim != 1 or bool((np.diff(steps) <= 0).any()):
            raise ValueError("curvature steps must be one-dimensional and ascending")
        for name in ("hessian_lambda_max", "ntk_lambda_max"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != steps.shape:
                raise ValueError(f"{name} has shape {np.shape(values)}, its steps {steps.shape}")

    def last(self, quantity: Quantity, step: int) -> Sample | None:
        """The last finite value measured at or before a step."""
        early = [sample for sample in self._measured(quantity) if sample.step <= step]
        return early[-1] if early else None

    def first(self, quantity: Quantity, step: int) -> Sample | None:
        """The first finite value measured at or after a step."""
        late = [sample for sample in self._measured(quantity) if sample.step >= step]
        return late[0] if late else None

    def at(self, quantity: Quantity, step: int) -> float | None:
        """The value at a step, interpolated linearly; None without a sample on either side."""
        before, after = self.last(quantity, step), self.first(quantity, step)
        if before is None or after is None:
            return None
        return float(np.interp(step, [before.step, after.step], [before.value, after.value]))

    def _measured(self, quantity: Quantity) -> list[Sample]:
        values = getattr(self, quantity)
        if values is None:
            return []
        pairs = zip(np.asarray(self.steps), np.asarray(values, dtype=np.float64), strict=True)
        return [Sample(int(step), float(value)) for step, value in pairs if np.isfinite(value)]
