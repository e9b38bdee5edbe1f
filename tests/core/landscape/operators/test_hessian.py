"""Hessian-vector products of the dynamical loss.

Autograd cannot check autograd: a loss that is differentiated wrongly is so in the operator and in
`torch.func.hessian` alike. Closed forms come first, then finite differences of the loss itself; only
then autograd by another route, and another library.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dynloss_core.data import Labelled
from dynloss_core.landscape import HessianOperator, LandscapeError, hessian_top, top_eigen
from dynloss_core.landscape.operators.hessian import trainable
from dynloss_core.losses import weighted_loss
from dynloss_core.models import MLP
from tests.core.landscape.cases import (
    CASES,
    LOSSES,
    LandscapeCase,
    labelled,
    mlp_case,
    network_like,
    normal,
    weights_of,
)
from tests.core.landscape.reference import moments

each_case = pytest.mark.parametrize("case", CASES, ids=str)


def operator_of(case: LandscapeCase, **options: int) -> HessianOperator:
    return HessianOperator(case.network, case.loss, case.data, case.class_weights, **options)


def loss_at(case: LandscapeCase, flat: Tensor) -> Tensor:
    named, start = {}, 0
    for name, parameter in case.network.named_parameters():
        named[name] = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    outputs = functional_call(case.network, named, (case.data.inputs,))
    return weighted_loss(case.loss, outputs, case.data.targets, case.class_weights)


def flat_parameters(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def in_order_of_names(blocks: np.ndarray, inputs: int) -> np.ndarray:
    """A Hessian over (class, input and then 1) in the order weight (C, D), bias (C,)."""
    classes = len(blocks) // (inputs + 1)
    weight = [c * (inputs + 1) + d for c in range(classes) for d in range(inputs)]
    order = weight + [c * (inputs + 1) + inputs for c in range(classes)]
    return blocks[np.ix_(order, order)]


@pytest.mark.parametrize("loss", ["mse_sample_weighted", "mse_output_weighted"])
def test_linear_model_with_mse_has_the_weighted_second_moments(loss: str) -> None:
    case = mlp_case([], loss=loss, inputs=4, samples=17)  # type: ignore[arg-type]
    x = np.column_stack([case.data.inputs.numpy(), np.ones(17)])
    gamma, y, classes = case.class_weights.numpy(), case.data.targets.numpy(), 3
    expected = np.zeros((classes * 5, classes * 5))
    for c in range(classes):
        here = slice(5 * c, 5 * c + 5)
        weight = gamma[y] if loss == "mse_sample_weighted" else np.full(17, gamma[c])
        expected[here, here] = 2 / (17 * classes) * (x * weight[:, None]).T @ x
    found = operator_of(case).dense()
    np.testing.assert_allclose(found.numpy(), in_order_of_names(expected, 4), rtol=0, atol=1e-14)


def test_softmax_of_two_classes_is_logistic_regression() -> None:
    case = mlp_case([], inputs=3, classes=2, samples=13, seed=1)
    x = np.column_stack([case.data.inputs.numpy(), np.ones(13)])
    with torch.no_grad():
        z = case.network(case.data.inputs).numpy()
    p = 1 / (1 + np.exp(z[:, 0] - z[:, 1]))
    gamma = case.class_weights.numpy()[case.data.targets.numpy()]
    moments = (x * (gamma * p * (1 - p))[:, None]).T @ x / 13
    expected = np.kron(np.array([[1, -1], [-1, 1]]), moments)
    found = operator_of(case).dense()
    np.testing.assert_allclose(found.numpy(), in_order_of_names(expected, 3), rtol=0, atol=1e-14)


def test_quadratic_loss_gives_back_its_matrix() -> None:
    """Outputs A theta against targets of class 0: F is quadratic in theta with a known matrix."""

    class Linear(nn.Module):
        def __init__(self, matrix: Tensor) -> None:
            super().__init__()
            self.matrix = matrix
            self.theta = nn.Parameter(normal(6, seed=8))

        def forward(self, x: Tensor) -> Tensor:
            return (self.matrix @ self.theta).expand(len(x), -1)

    matrix = normal(4, 6, seed=7)
    data = Labelled(torch.zeros(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.long))
    gamma = weights_of(4, seed=1)
    found = HessianOperator(Linear(matrix), "mse_output_weighted", data, gamma).dense()
    expected = 2 / 4 * matrix.T @ (gamma[:, None] * matrix)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@each_case
def test_agrees_with_finite_differences_of_the_loss(case: LandscapeCase) -> None:
    theta = flat_parameters(case.network)
    u, v = (normal(len(theta), seed=seed) / len(theta) ** 0.5 for seed in (1, 2))
    h = 1e-4
    corners = [loss_at(case, theta + h * (a * u + b * v)) * a * b for a in (1, -1) for b in (1, -1)]
    expected = sum(corners).item() / (4 * h**2)  # type: ignore[union-attr]
    found = u @ operator_of(case)(v[None])[0]
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@each_case
def test_agrees_with_the_dense_hessian(case: LandscapeCase) -> None:
    theta = flat_parameters(case.network)
    expected = torch.func.hessian(partial(loss_at, case))(theta)
    torch.testing.assert_close(operator_of(case).dense(), expected, rtol=0, atol=1e-12)


@each_case
def test_agrees_with_curvlinops(case: LandscapeCase) -> None:
    curvlinops = pytest.importorskip("curvlinops")

    class Loss(nn.Module):
        reduction = "mean"

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return weighted_loss(case.loss, outputs, targets, case.class_weights)

    batches = [(case.data.inputs[s], case.data.targets[s]) for s in (slice(0, 4), slice(4, None))]
    theirs = curvlinops.HessianLinearOperator(
        case.network, Loss(), list(case.network.parameters()), batches, check_deterministic=False
    )
    vectors = normal(3, flat_parameters(case.network).numel(), seed=3)
    expected = (theirs @ vectors.T).T.detach()
    torch.testing.assert_close(operator_of(case)(vectors), expected, rtol=0, atol=1e-12)


@each_case
@pytest.mark.parametrize("batch_size", [1, 4, 5, 1000])
def test_splitting_into_batches_changes_nothing(case: LandscapeCase, batch_size: int) -> None:
    vectors = normal(2, flat_parameters(case.network).numel(), seed=4)
    whole, split = operator_of(case)(vectors), operator_of(case, batch_size=batch_size)(vectors)
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-13)


@each_case
def test_is_symmetric(case: LandscapeCase) -> None:
    u, v = normal(2, flat_parameters(case.network).numel(), seed=5)
    of_u, of_v = operator_of(case)(torch.stack([u, v]))
    assert (v @ of_u).item() == pytest.approx((u @ of_v).item(), rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_is_linear_in_the_class_weights(loss: str) -> None:
    case = mlp_case([6], loss=loss)  # type: ignore[arg-type]
    vector = normal(1, flat_parameters(case.network).numel(), seed=6)
    parts = [
        gamma * HessianOperator(case.network, case.loss, case.data, one)(vector)
        for gamma, one in zip(case.class_weights, torch.eye(3, dtype=torch.float64), strict=True)
    ]
    torch.testing.assert_close(sum(parts), operator_of(case)(vector), rtol=0, atol=1e-13)


@each_case
def test_products_computed_together_are_the_same(case: LandscapeCase) -> None:
    vectors = normal(5, flat_parameters(case.network).numel(), seed=7)
    together = operator_of(case, vectors_at_once=2)(vectors)
    torch.testing.assert_close(together, operator_of(case)(vectors), rtol=0, atol=1e-13)


def test_the_operator_keeps_the_parameters_it_was_made_with() -> None:
    case = mlp_case([5])
    operator, vector = operator_of(case), normal(1, 33, seed=1)
    before = operator(vector)
    network_like(case.network, seed=9)
    torch.testing.assert_close(operator(vector), before, rtol=0, atol=0)


def test_takes_and_gives_the_dtype_of_the_vectors() -> None:
    case = mlp_case([5])
    exact = operator_of(case)
    vector = normal(1, exact.dimension, seed=1)
    case.network.float()
    single = operator_of(case)
    assert single.dtype == torch.float32
    assert single(vector).dtype == torch.float64
    torch.testing.assert_close(single(vector), exact(vector), rtol=1e-4, atol=1e-5)
    case.network.double()


def test_parameters_that_are_not_trained_are_left_out() -> None:
    case = mlp_case([5])
    network = network_like(MLP(2, [5], 3), seed=0)
    network.layers[0].weight.requires_grad_(False)  # type: ignore[union-attr, index]
    part = HessianOperator(network, case.loss, case.data, case.class_weights)
    assert list(trainable(network)) == ["layers.0.bias", "layers.1.weight", "layers.1.bias"]
    torch.testing.assert_close(
        part.dense(), operator_of(case).dense()[10:, 10:], atol=1e-14, rtol=0
    )


@each_case
@pytest.mark.parametrize("k", [1, 3])
def test_largest_eigenvalues_against_the_dense_ones(case: LandscapeCase, k: int) -> None:
    found = hessian_top(
        case.network, case.loss, case.data, case.class_weights, k=k, tolerance=1e-9, batch_size=4
    )
    every = torch.linalg.eigvalsh(operator_of(case).dense()).flip(0)
    once = torch.cat([every[:1], every[1:][every.diff() < -1e-9]])  # see `lanczos`, on equal ones
    expected = once[:k]
    torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-8)
    assert found.converged.all()


def test_largest_eigenvalue_against_scipy() -> None:
    sparse = pytest.importorskip("scipy.sparse.linalg")
    case = mlp_case([30], samples=60)
    operator = operator_of(case)
    size = operator.dimension

    def product(vector: np.ndarray) -> np.ndarray:
        return operator(torch.from_numpy(vector.reshape(1, -1)))[0].numpy()

    theirs = sparse.eigsh(sparse.LinearOperator((size, size), product), k=2, which="LA")[0]
    start = normal(size, seed=1)
    ours = top_eigen(operator, start, k=2, tolerance=1e-9).values
    np.testing.assert_allclose(ours.numpy(), np.sort(theirs)[::-1], rtol=1e-9)


class WithLayer(nn.Module):
    """A classifier with another layer in the middle."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.layer, self.last = nn.Linear(2, 6), layer, nn.Linear(6, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.first(x)))


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


@pytest.mark.parametrize(
    ("layer", "named", "remedy"),
    [
        (nn.Dropout(0.2), "Dropout 'layer' is active", "network.eval()"),
        (nn.BatchNorm1d(6), "BatchNorm1d 'layer' is in training mode", "network.eval()"),
        (
            nn.BatchNorm1d(6, track_running_stats=False),
            "BatchNorm1d 'layer' always normalises by its batch",
            "track_running_stats=True",
        ),
        (Noisy(), "WithLayer gives different outputs at every call", "switch off its randomness"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_refuses_what_has_no_landscape(layer: nn.Module, named: str, remedy: str) -> None:
    data, gamma = labelled(8, (2,), 3, seed=0), torch.ones(3)
    with pytest.raises(LandscapeError) as refused:
        hessian_top(WithLayer(layer), "cross_entropy", data, gamma)
    message = str(refused.value)
    assert named in message
    assert remedy in message
    assert "\n" not in message
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("layer", [nn.Dropout(0.2), nn.BatchNorm1d(6), nn.Dropout(0.0)])
def test_measures_in_evaluation_mode(layer: nn.Module) -> None:
    network, data = WithLayer(layer).eval(), labelled(8, (2,), 3, seed=0)
    operators = [
        HessianOperator(network, "cross_entropy", data, torch.ones(3), batch_size=size)
        for size in (8, 3)
    ]
    vector = normal(1, operators[0].dimension, seed=1)
    torch.testing.assert_close(operators[0](vector), operators[1](vector), rtol=0, atol=1e-13)


def test_refuses_what_does_not_fit() -> None:
    case = mlp_case([4])
    none = Labelled(case.data.inputs[:0], case.data.targets[:0])
    with pytest.raises(LandscapeError, match="no samples"):
        HessianOperator(case.network, case.loss, none, case.class_weights)
    with pytest.raises(LandscapeError, match=r"class weights of shape \(2,\) for 3 outputs"):
        HessianOperator(case.network, case.loss, case.data, torch.ones(2))
    with pytest.raises(LandscapeError, match="batch_size 0"):
        HessianOperator(case.network, case.loss, case.data, case.class_weights, batch_size=0)
    frozen = network_like(MLP(2, [4], 3), seed=0).requires_grad_(False)
    with pytest.raises(LandscapeError, match="no trainable parameters"):
        HessianOperator(frozen, case.loss, case.data, case.class_weights)
    large = MLP(2, [4000], 3)
    with pytest.raises(LandscapeError, match="24003 parameters does not fit in memory"):
        HessianOperator(large, case.loss, case.data, case.class_weights).dense()


def test_agrees_with_the_reference_trajectories(trajectory: Path) -> None:
    run = moments(trajectory)
    network = MLP(2, [run.parameters["layers.0.bias"].shape[1]], 3).double()
    found = []
    for k, class_weights in enumerate(run.class_weights):
        network.load_state_dict({name: each[k] for name, each in run.parameters.items()})
        top = hessian_top(network, "cross_entropy", run.data, class_weights, tolerance=1e-7)
        assert top.converged.all()
        found.append(top.values[0])
    torch.testing.assert_close(torch.stack(found), run.hessian, rtol=0, atol=1e-8)
