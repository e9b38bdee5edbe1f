"""Whether an arm's best stands beside its optimum."""

from __future__ import annotations

import numpy as np
import pytest

from dynloss_core import keys
from search_spaces import FloatParameter
from studies.analysis.search_health.arm_trials import arm_trials
from studies.analysis.search_health.grid_spacing import CoarseGrid, too_coarse
from tests.studies.analysis.search_tables import ACCURACY, RATE, rates, space, table

SPACE = space(learning_rate=RATE)


def found(
    values: list[float], points: list[float], margin: float | None = 0.01, **options: list[int]
) -> list[CoarseGrid]:
    rows = table(rates(*points), values, keys.STATIC, **options)  # type: ignore[arg-type]
    return too_coarse(arm_trials(rows, keys.STATIC, SPACE, ACCURACY), SPACE, margin)


def test_a_peak_between_far_neighbours_is_named() -> None:
    (one,) = found([0.5, 0.8, 0.9, 0.88, 0.4], [0.1, 0.3, 1.0, 3.0, 10.0])
    assert (one.value, one.next_value) == (1.0, 0.3)
    assert one.change == pytest.approx(0.1)
    assert "static: from the best learning_rate, 1, to the next one tried, 0.3" in one.sentence()


def test_a_fine_search_is_not() -> None:
    """A parabola over the logarithm: refined until neighbours differ by less than the margin."""
    for count, named in ((5, True), (9, True), (65, False)):
        points = np.geomspace(0.03, 30.0, count)
        values = 0.9 - 0.1 * np.log10(points) ** 2
        assert bool(found(list(values), list(points))) == named, count


@pytest.mark.parametrize(
    ("values", "points", "margin", "diverged"),
    [
        ([0.5, 0.9, 0.5], [0.1, 1.0, 10.0], None, []),  # what would not matter is not known
        ([0.5, 0.9], [0.1, 1.0], 0.01, []),  # of two values nothing is known
        ([0.9, 0.9, 0.9], [0.1, 1.0, 10.0], 0.01, []),
        ([0.8, 0.9, 0.8], [0.99, 1.0, 1.01], 0.01, []),  # so near, it is the luck of the seeds
        ([0.895, 0.9, 0.5], [0.1, 1.0, 10.0], 0.01, [2]),  # one that diverged is no neighbour
    ],
)
def test_nothing_is_said_where_nothing_is_known(
    values: list[float], points: list[float], margin: float | None, diverged: list[int]
) -> None:
    assert found(values, points, margin, diverged=diverged) == []


def test_nothing_is_said_of_arms_with_several_parameters() -> None:
    both = space(learning_rate=RATE, amplitude=FloatParameter(low=1.5, high=200.0, scale="log"))
    points = [
        {keys.LEARNING_RATE: rate, keys.AMPLITUDE: amplitude}
        for rate in (0.1, 1.0, 10.0)
        for amplitude in (2.0, 20.0)
    ]
    rows = table(points, [0.1, 0.2, 0.9, 0.3, 0.1, 0.2])
    assert too_coarse(arm_trials(rows, keys.DYNAMICAL, both, ACCURACY), both, 0.01) == []
