"""The arms of a study: what is compared, each searched with the same budget.

All arms share seeds, data, initialisations and batch order, so that they are compared in pairs. In
a study file `arms: [dynamical, static]` is the short form of

    arms:
      dynamical: {}
      static: {baseline: true}

and further arms say what they change:

    arms:
      static: {baseline: true}
      cosine: {baseline: true, training: {learning_rate_schedule: {decay: cosine}}}
      random: {training: {oscillation: {groups: random}}}
      classes: {}
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dynloss_core import keys
from dynloss_core.config import ConfigError, show
from search_spaces import Baseline, Parameter, Space

__all__ = [
    "Arm",
    "Pair",
    "against_reference",
    "check_compared",
    "check_names",
    "compared_pairs",
    "matched_name",
    "named_arms",
    "reference_of",
]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True)
class Arm:
    """How an arm differs from the study.

    Args:
        baseline: whether it trains with the static loss: its space is then the study's as the
            space's `baseline` changes it.
        training: entries of the study's `training` that it has otherwise, nested as there.
        fix: parameters that are constants in this arm, with their values.
        drop: parameters that mean nothing to it.
        search: parameters that it searches over ranges of its own.
    """

    baseline: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    fix: dict[str, Any] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    search: dict[str, Parameter] = field(default_factory=dict)

    def space(self, whole: Space, name: str) -> Space:
        """The space of an arm of this name, in a study with the space `whole`."""
        space = whole.static() if self.baseline else whole
        if not (self.fix or self.drop or self.search):
            return space
        return space.changed(Baseline(self.fix, self.drop, self.search), name)


class Pair(NamedTuple):
    """Two arms that are compared; a gain is the first one's.

    Args:
        arm: the name of the arm that may gain.
        reference: the name of the arm that it is held against.
    """

    arm: str = keys.DYNAMICAL
    reference: str = keys.STATIC

    def __str__(self) -> str:
        return f"{self.arm} against {self.reference}"

    @property
    def losses(self) -> tuple[str, str]:
        """How sentences call them: `the dynamical loss`, `the static one`."""
        if self == Pair():
            return f"the {self.arm} loss", f"the {self.reference} one"
        return f"arm {self.arm}", f"arm {self.reference}"


def matched_name(pair: Pair) -> str:
    """What tables call the reference at the settings of the arm's winner, a third arm of fresh
    seeds: `static_at_dynamical`."""
    return f"{pair.reference}_at_{pair.arm}"


def named_arms(arms: Sequence[str] | Mapping[str, Arm]) -> dict[str, Arm]:
    """The arms by name, whichever form they were given in."""
    if isinstance(arms, Mapping):
        return dict(arms)
    return {name: Arm(baseline=name == keys.STATIC) for name in arms}


def reference_of(arms: Sequence[str] | Mapping[str, Arm], given: str | None) -> str | None:
    """The arm that others are held against: the one given, else `static`, else the first that
    trains with the static loss; None without one, or with one arm."""
    if given is not None or len(arms) < 2:
        return given
    if keys.STATIC in arms:
        return keys.STATIC
    return next((name for name, arm in named_arms(arms).items() if arm.baseline), None)


def compared_pairs(
    arms: Sequence[str] | Mapping[str, Arm],
    reference: str | None,
    comparisons: Sequence[Sequence[str]],
    ladder: Sequence[str],
) -> tuple[Pair, ...]:
    """Every comparison, once: all arms with the reference, those given, neighbours of a ladder."""
    pairs = [Pair(arm, reference) for arm in arms if reference is not None and arm != reference]
    pairs += [Pair(*given) for given in comparisons]
    pairs += [Pair(upper, lower) for lower, upper in itertools.pairwise(ladder)]
    return tuple(dict.fromkeys(pairs))


def against_reference(pairs: Sequence[Pair]) -> list[Pair]:
    """Those that share the reference of the first."""
    return [pair for pair in pairs if pair.reference == pairs[0].reference]


def check_names(arms: Sequence[str] | Mapping[str, Arm]) -> None:
    """Refuse no arms, arms listed twice, and names that no column, file or block can have."""
    if not isinstance(arms, Mapping):
        if not arms or len(set(arms)) < len(arms):
            raise ConfigError("arms", f"{list(arms)}", "list dynamical, static, or both, once")
        for name in arms:
            if name not in (keys.DYNAMICAL, keys.STATIC):
                remedy = (
                    f"say what it changes: arms: {{static: {{baseline: true}}, {name}: {{...}}}}"
                )
                raise ConfigError("arms", f"{show(name)} is neither dynamical nor static", remedy)
        return
    if not arms:
        raise ConfigError("arms", "empty", "name at least one arm")
    for name, arm in arms.items():
        if not _NAME.fullmatch(name):
            remedy = "use up to 32 lower-case letters, digits and '_', a letter first"
            raise ConfigError("arms", f"{show(name)} cannot name an arm", remedy)
        if name == keys.STATIC and not arm.baseline:
            raise ConfigError("arms.static", "not a baseline", "write static: {baseline: true}")


def check_compared(
    arms: Sequence[str] | Mapping[str, Arm],
    reference: str | None,
    comparisons: Sequence[Sequence[str]],
    ladder: Sequence[str],
) -> None:
    """Refuse comparisons of arms that are not there, or of an arm with itself."""
    named = {"reference": [reference] if reference is not None else [], "ladder": list(ladder)}
    for index, given in enumerate(comparisons):
        key = f"comparisons[{index}]"
        if len(given) != 2:
            raise ConfigError(key, f"{list(given)} is not a pair", "write [arm, reference]")
        named[key] = list(given)
    for key, names in named.items():
        for name in names:
            if name not in arms:
                raise ConfigError(key, f"{show(name)} is not an arm", f"use {', '.join(arms)}")
        if len(set(names)) < len(names):
            raise ConfigError(key, f"{names} names an arm twice", "name each once")
    for pair in compared_pairs(arms, reference_of(arms, reference), comparisons, ladder):
        if matched_name(pair) in arms:
            problem = f"{show(matched_name(pair))} is the tables' name for {pair.reference} at the "
            problem += f"settings of {pair.arm}"
            raise ConfigError("arms", problem, "use another name")
    if len(ladder) == 1:
        raise ConfigError("ladder", f"{list(ladder)} has one rung", "name two or more")
