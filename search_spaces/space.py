"""A search space: named parameters, the baseline they are compared with, and points to start from.

The file is long because one object serves four ways to search.

One object serves plain Optuna (`suggest`), plain Ray Tune (`to_ray`), designed experiments
(`grid`, `sample`) and the suite's own studies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dynloss_core import keys
from dynloss_core.config import ConfigError, config_hash, show, unknown_key
from search_spaces.parameters import (
    ChoiceParameter,
    ConstParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    Value,
)

if TYPE_CHECKING:
    import optuna

__all__ = ["Baseline", "Point", "Space"]

Point = dict[str, Value]

SCHEMA_VERSION = 1

_MAX_POINTS = 1_000_000  # in a grid, or on one of its axes

_MIN_VALUES = {
    keys.PERIOD: (2.0, "a period lasts at least 2 steps"),
    keys.AMPLITUDE: (1.0, "amplitude 1 is the static loss"),
    keys.MOMENTUM: (0.0, "momentum lies in [0, 1)"),
    keys.WEIGHT_DECAY: (0.0, "weight decay is not negative"),
}


@dataclass(frozen=True)
class Baseline:
    """How one arm's space follows from another's: the static arm's from the dynamical arm's.

    Args:
        fix: parameters that become constants, with their values.
        drop: parameters that mean nothing to the arm.
        search: parameters that the arm searches over ranges of its own, so that it can be tuned
            where the other arm is held fixed.
    """

    fix: dict[str, Any] = field(default_factory=lambda: {keys.AMPLITUDE: 1.0})
    drop: tuple[str, ...] = (keys.PERIOD,)
    search: dict[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True)
class Space:
    """A search space.

    Args:
        name: its name in studies and records.
        schema: version of the file format.
        description: its purpose.
        parameters: its parameters, by name. `period`, `amplitude`, `learning_rate`, `momentum` and
            `weight_decay` belong to a member; a dotted name such as `model.width` changes the
            problem itself.
        baseline: what the static arm's space changes.
        points: points to start a search from.

    Raises:
        ConfigError: for a space that contradicts itself; it names the key and the remedy.
    """

    name: str
    schema: int = SCHEMA_VERSION
    description: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict)
    baseline: Baseline = field(default_factory=Baseline)
    points: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.schema != SCHEMA_VERSION:
            raise ConfigError(
                "schema", f"version {self.schema} is unknown", f"write schema: {SCHEMA_VERSION}"
            )
        if not self.parameters:
            raise ConfigError("parameters", "empty", "add at least one parameter")
        for name, parameter in self.parameters.items():
            _check_meaning(name, parameter)
        for key in (*self.baseline.fix, *self.baseline.drop, *self.baseline.search):
            if key not in self.parameters and key not in keys.MEMBER_PARAMETERS:
                raise unknown_key(key, list(self.parameters), "baseline")
        for name, parameter in self.baseline.search.items():
            try:
                _check_meaning(name, parameter)
            except ConfigError as error:
                raise error.inside("baseline.search") from None
        for index, point in enumerate(self.points):
            self._check_point(point, f"points[{index}]")

    @property
    def hash(self) -> str:
        """Digest of what is searched."""
        return config_hash(self.essence)

    @property
    def essence(self) -> Space:
        """The space without its name and descriptions, which change no point of it."""
        search = _undescribed(self.baseline.search)
        return replace(
            self,
            name="",
            description="",
            parameters=_undescribed(self.parameters),
            baseline=replace(self.baseline, search=search),
        )

    def suggest(self, trial: optuna.Trial) -> Point:
        """Ask an Optuna trial for a point, constants included."""
        return {name: parameter.suggest(name, trial) for name, parameter in self.parameters.items()}

    def to_ray(self) -> dict[str, Any]:
        """A `param_space` for plain Ray Tune: domains, and constants as they are."""
        return {name: parameter.to_ray() for name, parameter in self.parameters.items()}

    def grid(self, counts: int | Mapping[str, int]) -> list[Point]:
        """The full factorial design, the last parameter varying fastest.

        Args:
            counts: number of values on every axis, or by parameter. Integers that coincide after
                rounding appear once; choices all appear.

        Raises:
            ConfigError: if `counts` misses a searched parameter, names an unknown one, or asks for
                more than a million points.
        """
        if isinstance(counts, Mapping):
            for name in counts:
                if name not in self.parameters:
                    raise unknown_key(name, list(self.parameters), "grid")
        axes = []
        for name, parameter in self.parameters.items():
            count = counts if isinstance(counts, int) else counts.get(name)
            if count is None and isinstance(parameter, (ChoiceParameter, ConstParameter)):
                count = 1  # they list their values themselves
            if count is None or count < 1:
                problem = "missing" if count is None else f"{count} is below 1"
                raise ConfigError(f"grid.{name}", problem, f"add `{name}: <number of values>`")
            if count > _MAX_POINTS:
                raise ConfigError(f"grid.{name}", f"{count} is too many", "use fewer values")
            axes.append(parameter.grid(count))
        if (points := math.prod(map(len, axes))) > _MAX_POINTS:
            raise ConfigError("grid", f"has {points} points", f"use at most {_MAX_POINTS:,}")
        return [
            dict(zip(self.parameters, values, strict=True)) for values in itertools.product(*axes)
        ]

    def sample(
        self, count: int, seed: int = 0, *, method: Literal["random", "sobol"] = "random"
    ) -> list[Point]:
        """`count` points, independent (`random`) or spread evenly (`sobol`, scrambled).

        Raises:
            ValueError: for a negative count or an unknown method.
        """
        if count < 0:
            raise ValueError(f"count must be >= 0, got {count}")
        dimensions = len(self.parameters)
        if method == "sobol":
            from scipy.stats import qmc

            power = max(count - 1, 0).bit_length()  # Sobol is balanced over powers of two
            fractions = qmc.Sobol(dimensions, rng=np.random.default_rng(seed)).random_base2(power)
        elif method == "random":
            fractions = np.random.default_rng(seed).random((count, dimensions))
        else:
            raise ValueError(f"method must be 'random' or 'sobol', got {method!r}")
        return [
            {
                name: parameter.at(float(fraction))
                for (name, parameter), fraction in zip(self.parameters.items(), row, strict=True)
            }
            for row in fractions[:count]
        ]

    def narrow(self, **limits: Any) -> Space:
        """The same space with tighter limits.

        Args:
            limits: for each parameter, a (low, high) pair inside its range, a list of choices, or
                a single value, which makes it a constant. Pass a dotted name as
                `**{"model.width": 50}`. The static arm's own range (`baseline.search`) is narrowed
                to its overlap with the limits, and is the only one narrowed where the dynamical arm
                holds the parameter constant.

        Raises:
            ConfigError: for an unknown parameter, or limits outside the present ones.
        """
        narrowed, static = dict(self.parameters), dict(self.baseline.search)
        for name, limit in limits.items():
            if name not in narrowed:
                raise unknown_key(name, list(narrowed))
            is_constant = isinstance(narrowed[name], ConstParameter)
            if name not in static or not is_constant:
                narrowed[name] = _narrow(name, narrowed[name], limit)
            if name in static:
                listed = isinstance(narrowed[name], ChoiceParameter)
                overlap = limit if is_constant else _overlap(static[name], limit, listed=listed)
                static[name] = _narrow(f"baseline.search.{name}", static[name], overlap)
        return replace(
            self,
            parameters=narrowed,
            baseline=replace(self.baseline, search=static),
            points=tuple(point for point in self.points if _is_inside(point, narrowed)),
        )

    def static(self) -> Space:
        """The space of the static arm: this one, changed as `baseline` says."""
        return self.changed(self.baseline, keys.STATIC)

    def changed(self, change: Baseline, name: str) -> Space:
        """The space of an arm that is called `name`. Start points outside it are dropped, and they
        give no value to a parameter that only the arm has."""
        parameters = {n: p for n, p in self.parameters.items() if n not in change.drop}
        for fixed, value in change.fix.items():
            parameters[fixed] = ConstParameter(value=value)
        parameters.update(change.search)
        points = (
            {**{n: v for n, v in point.items() if n in parameters}, **change.fix}
            for point in self.points
        )
        unique = {
            repr(sorted(point.items())): point for point in points if _is_inside(point, parameters)
        }
        return replace(
            self, name=f"{self.name}-{name}", parameters=parameters, points=tuple(unique.values())
        )

    def starting_from(self, points: Iterable[Mapping[str, Any]]) -> Space:
        """The space with further points to start from, before its own. Parameters that it does not
        have are left out of a point, and points outside it are dropped."""
        own = [{n: v for n, v in point.items() if n in self.parameters} for point in points]
        inside = [point for point in own if point and _is_inside(point, self.parameters)]
        return replace(self, points=(*inside, *self.points))

    def searched(self) -> list[str]:
        """Names of the parameters that are not constants."""
        return [n for n, p in self.parameters.items() if not isinstance(p, ConstParameter)]

    def constants(self) -> Point:
        """The parameters that are not searched, with their values."""
        return {n: p.value for n, p in self.parameters.items() if isinstance(p, ConstParameter)}

    def _check_point(self, point: Mapping[str, object], key: str) -> None:
        for name, value in point.items():
            if name not in self.parameters:
                raise unknown_key(name, list(self.parameters), key)
            if not self.parameters[name].contains(value):
                raise ConfigError(
                    f"{key}.{name}", f"{show(value)} is outside the space", "move it inside"
                )


def _check_meaning(name: str, parameter: Parameter) -> None:
    """Refuse names that mean nothing, and values that no network can be trained with."""
    key = f"parameters.{name}"
    if "." not in name and name not in keys.MEMBER_PARAMETERS:
        error = unknown_key(name, list(keys.MEMBER_PARAMETERS), "parameters")
        hint = "or a dotted name such as model.width"
        raise ConfigError(error.key, error.problem, f"{error.remedy} {hint}")
    values = parameter.grid(2)
    numbers = [value for value in values if isinstance(value, (int, float))]
    if name in keys.MEMBER_PARAMETERS:
        if len(numbers) < len(values):
            raise ConfigError(key, f"{show(values)} are not all numbers", "use numbers")
        in_steps = name == keys.PERIOD and parameter.unit != "epochs"
        if in_steps and any(value % 1 for value in numbers):
            raise ConfigError(key, "a period in steps is a whole number", "use type: int")
        _check_range(name, parameter, min(numbers), max(numbers))
    if parameter.unit is not None and name != keys.PERIOD:
        raise ConfigError(
            f"{key}.unit", f"{parameter.unit!r} for {name}", "only a period has a unit"
        )


def _check_range(name: str, parameter: Parameter, low: float, high: float) -> None:
    """Refuse numbers that a member cannot have."""
    lower_key = f"parameters.{name}.{_lower_key(parameter)}"
    smallest, reason = _MIN_VALUES.get(name, (-math.inf, ""))
    in_epochs = name == keys.PERIOD and parameter.unit == "epochs"
    if low < smallest and not (in_epochs and low > 0):
        remedy = f"use >= {smallest:g}: {reason}"
        raise ConfigError(lower_key, f"{low} is below {smallest:g}", remedy)
    if name == keys.LEARNING_RATE and low <= 0:
        raise ConfigError(lower_key, f"{low} is not above 0", "use > 0")
    if name == keys.MOMENTUM and high >= 1:
        raise ConfigError(f"parameters.{name}", f"{high} is not below 1", "momentum lies in [0, 1)")


def _undescribed(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    return {name: replace(parameter, description="") for name, parameter in parameters.items()}


def _is_inside(point: Mapping[str, object], parameters: Mapping[str, Parameter]) -> bool:
    return all(parameters[name].contains(value) for name, value in point.items())


def _lower_key(parameter: Parameter) -> str:
    if isinstance(parameter, ConstParameter):
        return "value"
    return "values" if isinstance(parameter, ChoiceParameter) else "low"


def _overlap(parameter: Parameter, limit: Any, *, listed: bool) -> Any:
    """What a parameter of the static arm has in common with a limit, which is a range or, if
    `listed`, choices; the limit itself if there is no such choice."""
    if not isinstance(limit, (tuple, list)):
        return limit
    if isinstance(parameter, (FloatParameter, IntParameter)):
        return (max(parameter.grid(2)[0], min(limit)), min(parameter.grid(2)[1], max(limit)))
    values = parameter.grid(1)
    return [v for v in values if (v in limit if listed else min(limit) <= v <= max(limit))] or limit


def _narrow(name: str, parameter: Parameter, limit: Any) -> Parameter:
    if isinstance(parameter, (FloatParameter, IntParameter)) and isinstance(limit, (tuple, list)):
        if len(limit) != 2:
            raise ConfigError(name, f"{show(limit)} is not a range", "give (low, high)")
        values: list[Any] = list(limit)
    elif isinstance(limit, (tuple, list)):
        values = list(limit)
    else:
        values = [limit]
    for value in values:
        if not parameter.contains(value):
            raise ConfigError(name, f"{show(value)} is outside the space", "stay inside its limits")
    if len(values) == 1 and not isinstance(limit, (tuple, list)):
        unit, description = parameter.unit, parameter.description
        return ConstParameter(value=limit, unit=unit, description=description)
    try:
        if isinstance(parameter, FloatParameter):
            return replace(parameter, low=float(values[0]), high=float(values[1]))
        if isinstance(parameter, IntParameter):
            return replace(parameter, low=values[0], high=values[1])
        if isinstance(parameter, ChoiceParameter):
            return replace(parameter, values=tuple(values))
    except ConfigError as error:
        raise error.inside(name) from None
    return parameter
