"""One network of an ensemble: a point of the search, an arm, a seed."""

from __future__ import annotations

from dataclasses import dataclass

from dynloss_core.config import ConfigError
from dynloss_core.oscillation import oscillation_stop

__all__ = ["Member"]

_STATIC_PERIOD = 2


@dataclass(frozen=True)
class Member:
    """What is specific to one network.

    Args:
        learning_rate: peak learning rate, > 0.
        seed: the seed of data, initialisation and batch order, >= 0.
        period: T in steps, >= 2; None for the static arm.
        amplitude: A >= 1; 1 is the static arm.
        momentum: in [0, 1).
        weight_decay: L2 penalty added to the gradient of every parameter, >= 0.

    Raises:
        ConfigError: for a value outside its range, or an amplitude above 1 without a period.
    """

    learning_rate: float
    seed: int
    period: int | None = None
    amplitude: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError("learning_rate", f"{self.learning_rate} is not above 0", "use > 0")
        if self.seed < 0:
            raise ConfigError("seed", f"{self.seed} is negative", "use >= 0")
        if self.period is not None and self.period < 2:
            raise ConfigError("period", f"{self.period} is below 2 steps", "use >= 2")
        if not self.amplitude >= 1:
            raise ConfigError("amplitude", f"{self.amplitude} is below 1", "use >= 1 (1 is static)")
        if self.period is None and self.amplitude != 1:
            raise ConfigError("period", f"missing for amplitude {self.amplitude}", "add a period")
        if not 0 <= self.momentum < 1:
            raise ConfigError("momentum", f"{self.momentum} is outside [0, 1)", "use [0, 1)")
        if self.weight_decay < 0:
            raise ConfigError("weight_decay", f"{self.weight_decay} is negative", "use >= 0")

    @property
    def nominal_period(self) -> int:
        """T; an arbitrary number of steps for the static arm, whose weights are 1 at every step."""
        return self.period or _STATIC_PERIOD

    def stop(self, steps: int, static_tail: int) -> int:
        """The step from which a run trains statically (see `oscillation_stop`)."""
        return oscillation_stop(steps, static_tail, self.nominal_period)
