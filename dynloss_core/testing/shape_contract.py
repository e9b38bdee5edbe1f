"""What every shape of an oscillation promises."""

from __future__ import annotations

from typing import ClassVar

import torch

from dynloss_core.oscillation import SHAPES

__all__ = ["ShapeContract"]

_PERIODS = (2, 3, 10, 101, 5000)


class ShapeContract:
    """The tests of one shape, a row of `SHAPES`.

    Args:
        shape: its name there.
    """

    shape: ClassVar[str]

    def test_the_elevation_lies_between_zero_and_one(self) -> None:
        for period in _PERIODS:
            elevation = SHAPES[self.shape](torch.arange(period), period)
            assert elevation.shape == (period,), f"shape {tuple(elevation.shape)} at T = {period}"
            assert elevation.dtype == torch.float64, f"{elevation.dtype} is not float64"
            inside = (elevation >= 0) & (elevation <= 1)
            assert bool(inside.all()), f"outside [0, 1] at T = {period}"

    def test_periods_may_be_a_tensor(self) -> None:
        """One for each member of an ensemble, broadcast against the steps."""
        tau = torch.tensor([[0], [1]])
        periods = torch.tensor([2, 10, 101])
        values = SHAPES[self.shape](tau, periods)
        for column, period in enumerate(periods.tolist()):
            assert torch.equal(values[:, column], SHAPES[self.shape](torch.arange(2), period))

    def test_the_mean_is_a_half(self) -> None:
        """So that arms that differ only in the shape apply the same total weight."""
        for period in _PERIODS:
            mean = float(SHAPES[self.shape](torch.arange(period), period).mean())
            assert abs(mean - 0.5) <= 1 / period, f"the mean is {mean:.3g} at T = {period}"
