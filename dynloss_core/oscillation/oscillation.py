"""The oscillation of a dynamical loss: what takes turns, in which order, and how a turn looks.

The default is the dynamical loss of Ruiz-Garcia, Zhang, Schoenholz and Liu, "Tilting the playing
field: Dynamical loss functions for machine learning", ICML 2021, arXiv:2102.03793. Everything else
is a control for it, defined by this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dynloss_core.config import ConfigError, refuse_other_choices
from dynloss_core.oscillation.groups import GROUPS, GroupsName
from dynloss_core.oscillation.orders import OrderName
from dynloss_core.oscillation.shapes import ShapeName
from dynloss_core.seeding import Stream, generator

__all__ = ["Oscillation", "oscillation_stop"]


@dataclass(frozen=True)
class Oscillation:
    """What oscillates, and how; period and amplitude belong to each member (see `Member`).

    Args:
        groups: the groups of samples whose weights oscillate together (see `groups.GROUPS`).
        number: how many groups, for `random` and `stratified`; by default as many as classes.
            Required for `own`.
        order: the order in which groups take turns (see `orders.ORDERS`).
        shape: how the weight of the active group rises and falls (see `shapes.SHAPES`).
        direction: `up` multiplies the active group's weight by up to A; `down` divides it.
        phase: where in its turn the first group begins, as a share of the period in [0, 1), rounded
            down to whole steps.
        normalised: whether the weights of all groups have a mean of 1 at every step, as published.
            The weight of a single group has a mean of 1 over its period instead, because otherwise
            it would not oscillate. If false, the raw weights are used.

    Raises:
        ConfigError: for a value that is not among the choices or is outside its range.
    """

    groups: GroupsName = "classes"
    number: int | None = None
    order: OrderName = "cyclic"
    shape: ShapeName = "triangle"
    direction: Literal["up", "down"] = "up"
    phase: float = 0.0
    normalised: bool = True

    def __post_init__(self) -> None:
        refuse_other_choices(self)
        if not 0 <= self.phase < 1:
            raise ConfigError("phase", f"{self.phase} is not a fraction of a period", "use [0, 1)")
        if self.number is not None and not GROUPS[self.groups].takes_number:
            takes = ", ".join(name for name, groups in GROUPS.items() if groups.takes_number)
            raise ConfigError("number", f"given for groups {self.groups!r}", f"use it with {takes}")
        if self.number is not None and self.number < 2:
            raise ConfigError("number", f"{self.number} is below 2", "use >= 2, or groups: all")
        if self.groups == "own" and self.number is None:
            raise ConfigError("number", "missing for groups 'own'", "give the number of groups")

    @property
    def is_by_class(self) -> bool:
        """Whether a sample has the weight of its class."""
        return self.groups == "classes"

    def count(self, num_classes: int, samples: int) -> int:
        """The number of groups, G, for N samples of C classes."""
        return GROUPS[self.groups].number(num_classes, samples, self.number)

    def assign(
        self, targets: Tensor, num_classes: int, seed: int, own: Tensor | None = None
    ) -> Tensor:
        """The group of each training sample, (N,) in 0..G-1.

        Args:
            targets: (N,) classes of the samples.
            num_classes: C.
            seed: the seed of a random partition.
            own: (N,) the groups that the data set gives, for `own`.

        Raises:
            ConfigError: if the data set gives none, or one outside 0..G-1.
        """
        assign = GROUPS[self.groups].assign
        if assign is None:
            return self._given(own)
        draws = generator(seed, Stream.OSCILLATION, 0)
        groups = self.count(num_classes, len(targets))
        assigned = assign(targets.cpu().numpy(), groups, draws)
        return torch.from_numpy(assigned).to(targets.device)

    def _given(self, own: Tensor | None) -> Tensor:
        """The data set's own groups, checked."""
        if own is None:
            problem = f"{self.groups!r}, but the data set gives no groups"
            raise ConfigError("oscillation.groups", problem, "set `groups` of its training samples")
        groups, outside = own.long(), own[(own < 0) | (own >= (self.number or 0))]
        if len(outside):
            problem = f"{self.number}, but a training sample is in group {int(outside[0])}"
            raise ConfigError("oscillation.number", problem, "count groups from 0")
        return groups


def oscillation_stop(total_steps: int, static_tail: int, period: int) -> int:
    """The step at which the oscillation ends, so that a run finishes on the static loss.

    The tail lasts at least `static_tail` steps. It begins on the last period boundary that allows
    that, where Gamma = 1 anyway and nothing jumps; if not even one whole period fits before it,
    it begins exactly `static_tail` steps before the end.

    Args:
        total_steps: length of the run in steps.
        static_tail: steps to train statically at the end; 0 oscillates to the end.
        period: T in steps.

    Raises:
        ValueError: if the tail is negative or longer than the run.
    """
    if not 0 <= static_tail <= total_steps:
        raise ValueError(f"static_tail must lie in [0, {total_steps}], got {static_tail}")
    if static_tail == 0:
        return total_steps
    last = total_steps - static_tail
    return last - last % period if last >= period else last
