r"""Refinement: after a search each arm tries further points around its best, ever closer.

A grid, a sweep or a search leaves gaps, and a narrow optimum between two points that were tried
makes an arm look worse than it is: of two arms the one whose optimum is broader then wins. So each
arm gets the same number of further points at each scientific setting. Round k tries two points, on
either side of the best so far along the coordinate k mod d, at the distance

.. math:: \tfrac12 K^{-1/d}\, 2^{-\lfloor k / d \rfloor}

of its range (on its own scale), where d is the number of parameters that can be refined and K the
number of points that the search tried there: the first step is half the mean distance of its
points. A step that would leave the range is taken the other way, a little shorter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces import FloatParameter, IntParameter, Point, Space
from studies.analysis.search_health.arm_trials import along, bounds_of

__all__ = ["refined"]

_OTHER_WAY = 0.7  # so that no later step, half as long, tries the same point again
Tried = tuple[Point, float]
"""A point, and its objective, of which more is better."""


def refined(
    space: Space, names: Sequence[str], tried: Sequence[Tried], searched: int, number: int
) -> list[Point]:
    """The two points of a round.

    Args:
        space: the space of the arm.
        names: the parameters that can be refined (see `ArmDesign.refined`).
        tried: the points so far at this setting, those of earlier rounds included.
        searched: K, the points of the search itself.
        number: k, from 0.

    Raises:
        ValueError: if nothing was tried, or nothing can be refined.
    """
    if not tried or not names:
        raise ValueError("there is nothing to refine")
    best, _ = max(tried, key=lambda trial: trial[1])  # the earliest of equals
    name = names[number % len(names)]
    parameter = space.parameters[name]
    value = best[name]
    assert isinstance(parameter, (FloatParameter, IntParameter))
    assert isinstance(value, (int, float))
    place = float(along(np.array(float(value)), *bounds_of(parameter), parameter.scale))
    step = 0.5 * searched ** (-1 / len(names)) / 2 ** (number // len(names))
    low, high = place - step, place + step
    if low < 0:
        low = place + _OTHER_WAY * step
    if high > 1:
        high = place - _OTHER_WAY * step
    return [{**best, name: parameter.at(min(max(end, 0.0), 1.0))} for end in (low, high)]
