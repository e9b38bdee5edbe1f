r"""A learning rate that follows the curvature: as large as asked for, where the landscape allows.

.. math::
    \eta_t = \min\Big( \eta\, f(t),\; \frac{c}{\lambda_{max}(t_0)} \Big), \qquad
    \lambda_{max}(t_0) = \text{largest eigenvalue of } \nabla^2 F_{t_0}(\theta_{t_0})

Symbols
    eta          the member's own (peak) learning rate
    f            the factor of the schedule
    c            target
    t_0          the last measurement, at most `every` steps ago
    lambda_max   of F at the class weights of the update after step t_0

Gradient descent on a parabola of curvature lambda_max converges below eta = 2 / lambda_max, fastest
at 1 / lambda_max. The rule is that of Y. LeCun, P. Simard, B. Pearlmutter,
"Automatic learning rate maximization by on-line estimation of the Hessian's eigenvectors", NIPS
1992, who took the optimum to be near 1 / lambda_max. Training with a constant rate drives
lambda_max up to 2 / eta and holds it there (J. Cohen et al., "Gradient descent on neural networks
typically occurs at the edge of stability", ICLR 2021, arXiv:2103.00065). A dynamical loss narrows
its valleys with the class weights whatever the rate is, and this rule lets the rate follow. With
classical momentum mu the bound of stability is larger, 2 (1 + mu) / lambda_max, so the target can
be raised accordingly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dynloss_core.config import ConfigError

__all__ = ["CurvatureRate"]


@dataclass(frozen=True)
class CurvatureRate:
    """A cap on the learning rate: `target` divided by the largest eigenvalue of the Hessian of F.

    It never raises the rate above the member's own times the schedule's factor. The Hessian is that
    of the network in evaluation mode (running statistics fixed, no dropout), on training samples
    without augmentation; weight decay is not part of F.

    Args:
        every: steps between two measurements, >= 1; the first is before the first step. The class
            weights change within a period, which should hold many measurements.
        target: largest product of rate and eigenvalue, > 0; 2 is the bound of gradient descent.
        samples: how many training samples to measure on, the same number of each class as far as
            possible (see `landscape.balanced_subset`); None for all.

    Raises:
        ConfigError: for a number outside its range.
    """

    every: int
    target: float = 1.0
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError("every", f"{self.every} is below 1", "use >= 1")
        if not (self.target > 0 and math.isfinite(self.target)):
            raise ConfigError("target", f"{self.target} is not above 0", "use > 0; 2 is the bound")
        if self.samples is not None and self.samples < 2:
            raise ConfigError("samples", f"{self.samples} is below 2", "use >= 2, or null for all")
