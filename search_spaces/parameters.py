"""The parameters of a search space: their ranges, scales, units and roles.

All bounds are inclusive. `scale: log` spaces values evenly in their logarithm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dynloss_core.config import ConfigError

if TYPE_CHECKING:
    import optuna

__all__ = [
    "ChoiceParameter",
    "ConstParameter",
    "FloatParameter",
    "IntParameter",
    "Parameter",
    "Role",
    "Scale",
    "Unit",
    "Value",
]

Value = float | int | bool | str | None
Scale = Literal["linear", "log"]
Unit = Literal["steps", "epochs"]
Role = Literal["scientific", "nuisance", "fixed"]


@dataclass(frozen=True)
class FloatParameter:
    """A real number in [low, high].

    Args:
        low: lower bound, inclusive.
        high: upper bound, inclusive.
        scale: how values are spaced.
        unit: the unit of a duration.
        role: `scientific` if the study asks about it, `nuisance` if each arm tunes its own.
        description: a short phrase.
    """

    type: Literal["float"] = "float"
    low: float = math.nan
    high: float = math.nan
    scale: Scale = "linear"
    unit: Unit | None = None
    role: Role = "nuisance"
    description: str = ""

    def __post_init__(self) -> None:
        _check_range(self)

    def at(self, fraction: float) -> float:
        """The value at a fraction in [0, 1] of the way from `low` to `high` along the scale."""
        return _between(self.low, self.high, self.scale, fraction)

    def grid(self, count: int) -> list[Value]:
        """`count` values along the scale, bounds included (the middle if `count` is 1)."""
        return [self.at(fraction) for fraction in _fractions(count)]

    def contains(self, value: object) -> bool:
        """Whether a value lies within the bounds."""
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]

    def suggest(self, name: str, trial: optuna.Trial) -> Value:
        """Ask an Optuna trial for a value."""
        return trial.suggest_float(name, self.low, self.high, log=self.scale == "log")

    def to_ray(self) -> Any:
        """A Ray Tune domain."""
        from ray import tune

        return (tune.loguniform if self.scale == "log" else tune.uniform)(self.low, self.high)


@dataclass(frozen=True)
class IntParameter:
    """An integer in [low, high]; arguments as for `FloatParameter`."""

    type: Literal["int"] = "int"
    low: int | None = None
    high: int | None = None
    scale: Scale = "linear"
    unit: Unit | None = None
    role: Role = "nuisance"
    description: str = ""

    def __post_init__(self) -> None:
        _check_range(self)

    @property
    def bounds(self) -> tuple[int, int]:
        """Both bounds, inclusive."""
        assert self.low is not None  # both are checked on construction
        assert self.high is not None
        return self.low, self.high

    def at(self, fraction: float) -> int:
        """The integer whose equal share of the scale holds `fraction` in [0, 1]."""
        low, high = self.bounds
        value = round(_between(low - 0.5, high + 0.5, self.scale, fraction))
        return min(max(value, low), high)

    def grid(self, count: int) -> list[Value]:
        """Up to `count` distinct integers along the scale, bounds included."""
        low, high = self.bounds
        values = [round(_between(low, high, self.scale, share)) for share in _fractions(count)]
        return list(dict.fromkeys(values))

    def contains(self, value: object) -> bool:
        """Whether a value is an integer within the bounds."""
        low, high = self.bounds
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    def suggest(self, name: str, trial: optuna.Trial) -> Value:
        """Ask an Optuna trial for a value."""
        return trial.suggest_int(name, *self.bounds, log=self.scale == "log")

    def to_ray(self) -> Any:
        """A Ray Tune domain; Tune's upper bound is exclusive, ours is not."""
        from ray import tune

        low, high = self.bounds
        return (tune.lograndint if self.scale == "log" else tune.randint)(low, high + 1)


@dataclass(frozen=True)
class ChoiceParameter:
    """One of several unordered values."""

    type: Literal["choice"] = "choice"
    values: tuple[Any, ...] = ()
    unit: Unit | None = None
    role: Role = "nuisance"
    description: str = ""

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("values", "empty", "list at least one value")
        for value in self.values:
            _check_value("values", value)
        if len(set(self.values)) < len(self.values):  # 1, 1.0 and true are one value
            raise ConfigError("values", f"{list(self.values)} repeats a value", "list each once")

    def at(self, fraction: float) -> Value:
        """The value whose equal share of [0, 1] holds `fraction`."""
        value: Value = self.values[min(int(fraction * len(self.values)), len(self.values) - 1)]
        return value

    def grid(self, count: int) -> list[Value]:
        """All values, whatever the count."""
        return list(self.values)

    def contains(self, value: object) -> bool:
        """Whether a value is among the choices."""
        return value in self.values

    def suggest(self, name: str, trial: optuna.Trial) -> Value:
        """Ask an Optuna trial for a value."""
        value: Value = trial.suggest_categorical(name, list(self.values))
        return value

    def to_ray(self) -> Any:
        """A Ray Tune domain."""
        from ray import tune

        return tune.choice(list(self.values))


@dataclass(frozen=True)
class ConstParameter:
    """A value that is not searched."""

    type: Literal["const"] = "const"
    value: Any = None
    unit: Unit | None = None
    role: Role = "fixed"
    description: str = ""

    def __post_init__(self) -> None:
        _check_value("value", self.value)
        if self.role != "fixed":
            raise ConfigError("role", f"{self.role!r} for a constant", "use role: fixed")

    def at(self, fraction: float) -> Value:
        """The value."""
        value: Value = self.value
        return value

    def grid(self, count: int) -> list[Value]:
        """The value alone."""
        return [self.value]

    def contains(self, value: object) -> bool:
        """Whether a value is this one."""
        return bool(value == self.value)

    def suggest(self, name: str, trial: optuna.Trial) -> Value:
        """The value; Optuna is not asked."""
        value: Value = self.value
        return value

    def to_ray(self) -> Any:
        """The value itself, which is how Ray Tune takes constants."""
        return self.value


Parameter = FloatParameter | IntParameter | ChoiceParameter | ConstParameter


def _check_range(parameter: FloatParameter | IntParameter) -> None:
    for key in ("low", "high"):
        value = getattr(parameter, key)
        if value is None or math.isnan(value):
            raise ConfigError(key, "missing", f"add `{key}:`, an inclusive bound")
    low, high = parameter.low, parameter.high
    assert low is not None
    assert high is not None
    if low > high:
        raise ConfigError("low", f"{low} exceeds high = {high}: the range is empty", "swap them")
    if low == high:
        problem = f"low = high = {low}: the range is empty"
        raise ConfigError("low", problem, f"use `type: const` with `value: {low}`")
    if parameter.scale == "log" and low <= 0:
        raise ConfigError("low", f"{low} has no logarithm", "use low > 0, or scale: linear")
    if parameter.role == "fixed":
        raise ConfigError("role", "'fixed' for a range", "use type: const, or another role")


def _check_value(key: str, value: object) -> None:
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise ConfigError(key, f"{value!r} is not a plain value", "use numbers, text or booleans")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fractions(count: int) -> list[float]:
    if count < 1:
        raise ValueError(f"a grid needs at least 1 value on each axis, got {count}")
    return [0.5] if count == 1 else [index / (count - 1) for index in range(count)]


def _between(low: float, high: float, scale: Scale, fraction: float) -> float:
    if fraction <= 0:
        return low
    if fraction >= 1:
        return high
    if scale == "log":
        value = math.exp(math.log(low) + fraction * (math.log(high) - math.log(low)))
    else:
        value = low + fraction * (high - low)
    return min(max(value, low), high)
