"""The tangent kernel as an operator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from dynloss_core.landscape import LandscapeError, NTKOperator, ntk_top
from dynloss_core.models import MLP
from tests.core.landscape.cases import CASES, LandscapeCase, mlp_case, network_like, normal
from tests.core.landscape.reference import moments

each_case = pytest.mark.parametrize("case", CASES, ids=str)


def jacobian(case: LandscapeCase) -> Tensor:
    """(n, C, P) through `torch.func.jacrev`."""
    named = {name: each.detach() for name, each in case.network.named_parameters()}
    inputs = case.data.inputs
    parts = jacrev(lambda at: functional_call(case.network, at, (inputs,)))(named)
    return torch.cat([parts[name].flatten(2) for name in named], dim=2)


def test_a_linear_model_has_the_kernel_of_its_inputs() -> None:
    """f = W x + b: every output has the kernel x . x' + 1, and no two share a parameter."""
    case = mlp_case([], inputs=4)
    gram = case.data.inputs @ case.data.inputs.T + 1
    for kernel, expected in {
        "mean": gram,
        "sum": 3 * gram,
        "full": torch.kron(gram, torch.eye(3, dtype=torch.float64)),
    }.items():
        found = NTKOperator(case.network, case.data.inputs, kernel).dense()  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_one_hidden_layer_by_hand() -> None:
    case = mlp_case([11])
    hidden, last = case.network.layers  # type: ignore[union-attr, misc]
    x, n = case.data.inputs, len(case.data)
    with torch.no_grad():
        before = hidden(x)
        on, active = (before > 0).double(), before.relu()
        expected = torch.zeros(n, n, dtype=torch.float64)
        for row in last.weight:  # of one output
            expected += (x @ x.T + 1) * ((on * row**2) @ on.T) + active @ active.T + 1
    found = NTKOperator(case.network, x, "sum").dense()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@each_case
def test_agrees_with_the_jacobian(case: LandscapeCase) -> None:
    of = jacobian(case)
    samples, classes, _ = of.shape
    summed = torch.einsum("icp,jcp->ij", of, of)
    full = (of.flatten(0, 1) @ of.flatten(0, 1).T).view(samples * classes, -1)
    for kernel, expected in {"sum": summed, "mean": summed / classes, "full": full}.items():
        operator = NTKOperator(case.network, case.data.inputs, kernel)  # type: ignore[arg-type]
        torch.testing.assert_close(operator.dense(), expected, rtol=1e-11, atol=1e-11)


@each_case
def test_the_largest_eigenvalue_is_the_dense_one(case: LandscapeCase) -> None:
    expected = torch.linalg.eigvalsh(NTKOperator(case.network, case.data.inputs).dense())[-1]
    found = ntk_top(case.network, case.data.inputs, tolerance=1e-9)
    torch.testing.assert_close(found.values[0], expected, rtol=1e-10, atol=1e-10)
    assert found.converged.all()


def test_agrees_with_curvlinops() -> None:
    curvlinops = pytest.importorskip("curvlinops")
    case = mlp_case([9])
    parameters = list(case.network.parameters())
    data = [(case.data.inputs, case.data.targets)]
    options = {"check_deterministic": False}
    forward = curvlinops.JacobianLinearOperator(case.network, parameters, data, **options)
    back = curvlinops.TransposedJacobianLinearOperator(case.network, parameters, data, **options)
    operator = NTKOperator(case.network, case.data.inputs, "full")
    vector = normal(1, operator.dimension, seed=1)
    theirs = (forward @ (back @ vector[0])).detach()
    torch.testing.assert_close(operator(vector)[0], theirs.flatten(), rtol=1e-11, atol=1e-11)


def test_does_not_follow_the_network() -> None:
    case = mlp_case([5])
    operator = NTKOperator(case.network, case.data.inputs)
    vector = normal(1, operator.dimension, seed=1)
    before = operator(vector)
    network_like(case.network, seed=9)
    torch.testing.assert_close(operator(vector), before, rtol=0, atol=0)


def test_what_has_no_kernel_is_refused() -> None:
    case = mlp_case([5])
    with pytest.raises(LandscapeError, match="unknown kernel 'average'"):
        NTKOperator(case.network, case.data.inputs, "average")  # type: ignore[arg-type]
    with pytest.raises(LandscapeError, match="no samples"):
        NTKOperator(case.network, case.data.inputs[:0])
    with pytest.raises(LandscapeError, match=r"Dropout '1' is active.*network\.eval\(\)"):
        ntk_top(nn.Sequential(nn.Linear(2, 4), nn.Dropout(), MLP(4, [], 3)), case.data.inputs)


def test_agrees_with_the_reference_trajectories(trajectory: Path) -> None:
    run = moments(trajectory)
    network = MLP(2, [run.parameters["layers.0.bias"].shape[1]], 3).double()
    found = []
    for k in range(len(run.steps)):
        network.load_state_dict({name: each[k] for name, each in run.parameters.items()})
        top = ntk_top(network, run.data.inputs[:50], kernel="sum", tolerance=1e-7)
        assert top.converged.all()
        found.append(top.values[0])
    torch.testing.assert_close(torch.stack(found), run.ntk, rtol=1e-9, atol=0)
