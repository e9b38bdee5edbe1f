"""What every schedule of class weights promises."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core import ClassWeightSchedule
from dynloss_core.oscillation import oscillation_stop

classes = st.integers(1, 20)
periods = st.integers(2, 10_000)
amplitudes = st.floats(1.0, 1e4)
steps = st.integers(0, 10**9)


def published_weights(step: int, classes: int, period: int, amplitude: float) -> list[float]:
    """The definition, branch by branch as it is published, in plain Python."""
    active, tau = (step // period) % classes, step % period
    if tau < period / 2:
        m = 1 + 2 * (amplitude - 1) * tau / period
    else:
        m = 2 * amplitude - 1 - 2 * (amplitude - 1) * tau / period
    raw = [m if c == active else 1.0 for c in range(classes)]
    return [classes * r / sum(raw) for r in raw]


@given(classes, periods, amplitudes, steps)
def test_equals_the_published_definition(c: int, period: int, amplitude: float, step: int) -> None:
    weights = ClassWeightSchedule(c, period, amplitude)(step, dtype=torch.float64)
    expected = torch.tensor(published_weights(step, c, period, amplitude), dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-12)


@given(classes, periods, amplitudes, steps)
def test_weights_sum_to_the_number_of_classes(c: int, period: int, a: float, step: int) -> None:
    weights = ClassWeightSchedule(c, period, a)(step, dtype=torch.float64)
    assert weights.sum().item() == pytest.approx(c, rel=1e-12)
    assert bool((weights > 0).all())


@given(classes, periods, steps)
def test_amplitude_one_is_static_bit_for_bit(c: int, period: int, step: int) -> None:
    weights = ClassWeightSchedule(c, period, 1.0)(step, dtype=torch.float64)
    assert torch.equal(weights, torch.ones(c, dtype=torch.float64))


@given(classes, st.integers(2, 500), amplitudes, st.integers(0, 10**6))
def test_the_period_is_exact(c: int, period: int, amplitude: float, step: int) -> None:
    schedule = ClassWeightSchedule(c, period, amplitude)
    assert torch.equal(schedule(step), schedule(step + c * period))
    shifted = schedule(step + period, dtype=torch.float64)
    assert torch.equal(shifted, schedule(step, dtype=torch.float64).roll(1))


@given(classes, periods, amplitudes, st.lists(st.integers(0, 10**6), max_size=8))
def test_many_steps_equal_one_at_a_time(c: int, period: int, a: float, many: list[int]) -> None:
    schedule = ClassWeightSchedule(c, period, a)
    together = schedule(torch.tensor(many, dtype=torch.int64))
    assert together.shape == (len(many), c)
    for row, step in zip(together, many, strict=True):
        assert torch.equal(row, schedule(step))


@given(st.integers(1, 10**5), st.integers(0, 10**5), st.integers(2, 3000))
def test_the_static_tail_is_long_enough_and_starts_on_a_boundary(
    total: int, tail: int, period: int
) -> None:
    if tail > total:
        with pytest.raises(ValueError, match="static_tail"):
            oscillation_stop(total, tail, period)
        return
    stop = oscillation_stop(total, tail, period)
    assert 0 <= stop <= total - tail
    assert total - tail - stop < period, "the tail is not more than a period longer than asked"
    if tail and total - tail >= period:
        assert stop % period == 0
        assert stop > 0
    if total > tail:
        assert stop > 0, "some of the run oscillates"


def test_closed_forms() -> None:
    """C = 3, A = 70: the weights saturate at 2.917 and 0.042 (SCIENCE: the notebook's figure)."""
    peak = ClassWeightSchedule(3, 5000, 70.0)(2500, dtype=torch.float64)
    torch.testing.assert_close(
        peak, torch.tensor([3 * 70 / 72, 3 / 72, 3 / 72], dtype=torch.float64)
    )
    assert ClassWeightSchedule(2, 4, 3.0)(2).tolist() == [1.5, 0.5]
    assert ClassWeightSchedule(2, 4, 3.0)(6).tolist() == [0.5, 1.5]


def test_from_stop_on_the_weights_are_one() -> None:
    schedule = ClassWeightSchedule(3, 10, 70.0, stop=15)
    assert not torch.equal(schedule(14), torch.ones(3))
    assert torch.equal(schedule(torch.arange(15, 40)), torch.ones(25, 3))


def test_is_printable_picklable_and_comparable() -> None:
    schedule = ClassWeightSchedule(3, 10, 70.0)
    assert repr(schedule) == (
        "ClassWeightSchedule(num_classes=3, period=10, amplitude=70.0, stop=None)"
    )
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert schedule != ClassWeightSchedule(3, 10, 71.0)
    assert len({schedule, ClassWeightSchedule(3, 10, 70.0)}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10, 2.0), "num_classes"),
        ((3, 1, 2.0), "period"),
        ((3, 2.5, 2.0), "period"),
        ((3, 10, 0.5), "amplitude"),
        ((3, 10, float("nan")), "amplitude"),
        ((3, 10, float("inf")), "amplitude"),
        ((3, 10, 2.0, -1), "stop"),
    ],
)
def test_refuses_values_outside_their_range(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassWeightSchedule(*arguments)


def test_refuses_steps_that_are_none() -> None:
    schedule = ClassWeightSchedule(3, 10, 2.0)
    with pytest.raises(ValueError, match=">= 0"):
        schedule(-1)
    with pytest.raises(TypeError, match="integer"):
        schedule(torch.tensor([0.5]))
    with pytest.raises(TypeError, match="1-D"):
        schedule(torch.zeros(2, 2, dtype=torch.int64))
