"""The valley on closed forms, against a dense Hessian, and turned towards the one before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dynloss_core.data import Labelled
from dynloss_core.landscape import HessianOperator, LandscapeError, valley
from dynloss_core.losses import weighted_loss
from tests.core.landscape.cases import CASES, LandscapeCase, mlp_case, normal, weights_of

TINY = mlp_case([4], samples=15, seed=8)


class Linear(nn.Module):
    """One layer without bias: its squared error is quadratic in the weights."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, classes, bias=False, dtype=torch.float64)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs)  # type: ignore[no-any-return]


def test_a_quadratic_is_its_parabola() -> None:
    """Inputs are the unit vectors, so the squared error is least, 0, where the weights are the
    one-hot targets; F there is exactly lambda s^2 / 2."""
    network, targets = Linear(3, 3), torch.tensor([2, 0, 1])
    data, weights = Labelled(torch.eye(3, dtype=torch.float64), targets), weights_of(3, seed=1)
    with torch.no_grad():
        network.layer.weight.copy_(nn.functional.one_hot(targets, 3).T)
    found = valley(network, "mse_sample_weighted", data, weights)
    assert found.converged
    assert found.lambda_max == pytest.approx(2 * float(weights.max()) / 9)
    assert found.slope == pytest.approx(0, abs=1e-15)
    expected = found.lambda_max * found.offsets**2 / 2
    torch.testing.assert_close(found.weighted_loss, expected, rtol=1e-10, atol=1e-15)
    with torch.no_grad():
        network.layer.weight.add_(0.3 * normal(3, 3, seed=2))
    aside = valley(network, "mse_sample_weighted", data, weights)
    torch.testing.assert_close(aside.parabola(), aside.weighted_loss, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_line_is_that_of_the_dense_eigenvector(case: LandscapeCase) -> None:
    found = valley(case.network, case.loss, case.data, case.class_weights, batch_size=4)
    operator = HessianOperator(case.network, case.loss, case.data, case.class_weights)
    values, vectors = torch.linalg.eigh(operator.dense())
    assert found.lambda_max == pytest.approx(float(values[-1]), rel=1e-8)
    if float(values[-1] - values[-2]) > 1e-3 * float(values[-1]):
        assert abs(float(found.direction @ vectors[:, -1])) == pytest.approx(1, abs=1e-6)
    theta = nn.utils.parameters_to_vector(case.network.parameters()).detach()
    names = dict(case.network.named_parameters())
    sizes = [tensor.numel() for tensor in names.values()]
    for place in (0, 17, 30, 55):
        moved = theta + found.offsets[place] * found.direction
        parts = zip(names.items(), moved.split(sizes), strict=True)
        at = {name: part.view_as(tensor) for (name, tensor), part in parts}
        outputs = torch.func.functional_call(case.network, at, (case.data.inputs,)).detach()
        unit = torch.ones_like(case.class_weights)
        for line, weights in ((found.weighted_loss, case.class_weights), (found.loss, unit)):
            expected = weighted_loss(case.loss, outputs, case.data.targets, weights)
            torch.testing.assert_close(line[place], expected, rtol=1e-10, atol=1e-12)


def test_slope_and_curvature_are_those_of_the_line() -> None:
    fine = (-1e-4, 0.0, 1e-4)
    found = valley(TINY.network, TINY.loss, TINY.data, TINY.class_weights, offsets=fine)
    left, here, right = found.weighted_loss.tolist()
    assert (right - left) / 2e-4 == pytest.approx(found.slope, abs=1e-6)
    assert (left + right - 2 * here) / 1e-8 == pytest.approx(found.lambda_max, rel=1e-3)


def test_it_is_turned_towards_the_one_before() -> None:
    first = valley(TINY.network, TINY.loss, TINY.data, TINY.class_weights)
    assert first.overlap != first.overlap, "there was none before"
    again, turned = (
        valley(
            TINY.network, TINY.loss, TINY.data, TINY.class_weights, towards=sign * first.direction
        )
        for sign in (1, -1)
    )
    torch.testing.assert_close(again.weighted_loss, first.weighted_loss)
    torch.testing.assert_close(turned.weighted_loss, first.weighted_loss.flip(0))
    torch.testing.assert_close(turned.direction, -first.direction)
    assert turned.overlap == pytest.approx(1)


def test_nan_stays_nan_and_nonsense_is_refused() -> None:
    with pytest.raises(LandscapeError, match="symmetric"):
        valley(TINY.network, TINY.loss, TINY.data, TINY.class_weights, offsets=(-1.0, 0.0, 2.0))
    with pytest.raises(LandscapeError, match="leave out 0"):
        valley(
            TINY.network, TINY.loss, TINY.data, TINY.class_weights, offsets=(-2.0, -1.0, 1.0, 2.0)
        )
    with pytest.raises(LandscapeError, match="a direction of shape"):
        valley(TINY.network, TINY.loss, TINY.data, TINY.class_weights, towards=torch.ones(3))
