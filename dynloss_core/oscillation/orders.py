"""The order in which groups take turns.

Symbols
    G      groups
    k      number of a turn, 0, 1, 2, ...
    K      turns

A round is G turns. Random orders are drawn round by round from the seed, so that the group of a
turn does not depend on how many turns are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from dynloss_core.seeding import Stream, generator

__all__ = ["ORDERS", "OrderName", "active_groups"]

OrderName = Literal["cyclic", "permuted", "random"]
Order = Callable[[int, int, int], np.ndarray]
"""G, a round's number and a seed -> the groups (G,) of its turns."""


def cyclic(groups: int, _: int, __: int) -> np.ndarray:
    """0, 1, ..., G - 1 in every round: the published dynamical loss."""
    return np.arange(groups)


def permuted(groups: int, number: int, seed: int) -> np.ndarray:
    """Every group once per round, each round in a fresh order."""
    return generator(seed, Stream.OSCILLATION, 1, number).permutation(groups)


def random(groups: int, number: int, seed: int) -> np.ndarray:
    """At every turn any group, with equal probability."""
    return generator(seed, Stream.OSCILLATION, 1, number).integers(groups, size=groups)


ORDERS: dict[str, Order] = {"cyclic": cyclic, "permuted": permuted, "random": random}
"""By their names in a study's file; to add an order, add a row and its name to `OrderName`."""


def active_groups(order: OrderName, groups: int, turns: int, seed: int) -> np.ndarray:
    """The active group of each of the first K turns, (K,)."""
    rounds = range(-(-turns // groups))
    drawn = [ORDERS[order](groups, number, seed) for number in rounds]
    return np.concatenate(drawn)[:turns] if drawn else np.empty(0, dtype=np.int64)
