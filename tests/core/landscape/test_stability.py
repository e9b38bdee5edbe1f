"""The bound of stability against torch's own optimiser on a parabola."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynloss_core.landscape import stability_bound


def grows(sharpness: float, momentum: float, *, nesterov: bool) -> bool:
    """Whether SGD at a learning rate of 1 leaves the valley sharpness / 2 x^2."""
    x = torch.ones(1, dtype=torch.float64, requires_grad=True)
    nesterov = nesterov and momentum > 0
    optimiser = torch.optim.SGD([x], lr=1.0, momentum=momentum, nesterov=nesterov)
    for _ in range(4_000):
        optimiser.zero_grad()
        (0.5 * sharpness * x**2).sum().backward()
        optimiser.step()
        if not 1e-30 < abs(x.item()) < 1e30:
            break
    return abs(x.item()) > 1.0


@settings(max_examples=8, deadline=None)
@given(momentum=st.floats(0.0, 0.95), nesterov=st.booleans())
def test_sgd_stays_below_it_and_leaves_above_it(momentum: float, nesterov: bool) -> None:
    bound = stability_bound(momentum, nesterov=nesterov)
    assert not grows(0.99 * bound, momentum, nesterov=nesterov)
    assert grows(1.01 * bound, momentum, nesterov=nesterov)


def test_known_values() -> None:
    assert stability_bound() == stability_bound(nesterov=True) == 2.0
    assert stability_bound(0.9) == pytest.approx(3.8)
    assert stability_bound(0.9, nesterov=True) == pytest.approx(3.8 / 2.8)
    for momentum in (-0.1, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            stability_bound(momentum)
