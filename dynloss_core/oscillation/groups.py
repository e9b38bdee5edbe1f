"""Groups of samples whose weights oscillate together: partitions of the training samples.

Symbols
    N      training samples
    C      classes
    G      groups
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["GROUPS", "GroupsName", "SampleGroups"]

GroupsName = Literal["classes", "random", "stratified", "all", "samples", "own"]


@dataclass(frozen=True)
class SampleGroups:
    """One way to partition samples.

    Args:
        number: C, N and the number asked for, if any -> G.
        assign: targets (N,), G and random draws -> the group of each sample, (N,) in 0..G-1; None
            if the data set gives the groups.
        takes_number: whether a number of groups can be asked for.
        takes_turns: whether one group is active at a time; else each oscillates all the time, with
            its own phase.
    """

    number: Callable[[int, int, int | None], int]
    assign: Callable[[np.ndarray, int, np.random.Generator], np.ndarray] | None
    takes_number: bool = False
    takes_turns: bool = True


def _random(targets: np.ndarray, groups: int, draws: np.random.Generator) -> np.ndarray:
    """Groups of equal size, to within one sample, regardless of the classes."""
    return draws.permutation(np.arange(len(targets)) % groups)


def _stratified(targets: np.ndarray, groups: int, draws: np.random.Generator) -> np.ndarray:
    """Groups with an equal share of every class and of equal size, to within one sample."""
    by_class = np.lexsort((draws.permutation(len(targets)), targets))
    assigned = np.empty(len(targets), dtype=np.int64)
    assigned[by_class] = np.arange(len(targets)) % groups
    return assigned


GROUPS: dict[str, SampleGroups] = {
    "classes": SampleGroups(lambda classes, _, __: classes, lambda targets, _, __: targets),
    "random": SampleGroups(
        lambda classes, _, number: number or classes, _random, takes_number=True
    ),
    "stratified": SampleGroups(
        lambda classes, _, number: number or classes, _stratified, takes_number=True
    ),
    "all": SampleGroups(lambda *_: 1, lambda targets, _, __: np.zeros(len(targets), np.int64)),
    "samples": SampleGroups(
        lambda _, samples, __: samples,
        lambda targets, _, __: np.arange(len(targets)),
        takes_turns=False,
    ),
    "own": SampleGroups(lambda _, __, number: number or 0, None, takes_number=True),
}
"""By their names in a study's file:

classes     the published dynamical loss: each class has its turn
random      a partition drawn from the seed, blind to the classes: by default as many groups as
            classes, of equal size
stratified  the same, but each group holds an equal share of every class, so no class ever gains
            weight over another
all         one group: the whole loss is scaled up and down, which is a cyclical learning rate
samples     every sample by itself, all the time, with its own phase
own         the groups that the data set gives (`Labelled.groups`), as many as `number` says
"""
