"""Hutchinson's trace and its standard error."""

from __future__ import annotations

import pytest
import torch

from dynloss_core.landscape import HessianOperator, LandscapeError, hutchinson_trace
from tests.core.landscape.cases import mlp_case, symmetric


def test_is_exact_for_a_diagonal_operator() -> None:
    diagonal = torch.arange(1.0, 9.0)
    found = hutchinson_trace(lambda rows: rows * diagonal, 8, probes=2)
    assert found.value == pytest.approx(36.0, rel=1e-14)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)


def test_standard_error_is_that_of_the_known_variance() -> None:
    """The variance of a term is 2 sum_{i != j} A_ij^2."""
    matrix = symmetric(30, seed=1)
    found = hutchinson_trace(lambda rows: rows @ matrix, 30, probes=4000)
    off = matrix - matrix.diag().diag()
    assert found.standard_error == pytest.approx((2 * (off**2).sum() / 4000).sqrt().item(), rel=0.1)
    assert found.n == 4000


def test_errors_are_as_large_as_it_says() -> None:
    matrix, seeds = symmetric(30, seed=2), range(200)
    found = [hutchinson_trace(lambda rows: rows @ matrix, 30, probes=40, seed=s) for s in seeds]
    pulls = torch.tensor(
        [(each.value - matrix.trace().item()) / each.standard_error for each in found]
    )
    assert pulls.mean().abs() < 4 / 200**0.5
    assert 0.8 < pulls.std() < 1.2


def test_is_repeatable_and_independent_of_how_probes_are_grouped() -> None:
    matrix = symmetric(20, seed=3)
    one, other = (
        hutchinson_trace(lambda rows: rows @ matrix, 20, probes=30, seed=5, probes_at_once=size)
        for size in (1, 30)
    )
    assert one.value == pytest.approx(other.value, rel=1e-13)
    changed = hutchinson_trace(lambda rows: rows @ matrix, 20, probes=30, seed=6)
    assert changed.value != pytest.approx(one.value)


def test_trace_of_a_hessian() -> None:
    case = mlp_case([8])
    operator = HessianOperator(
        case.network, case.loss, case.data, case.class_weights, vectors_at_once=50
    )
    exact = operator.dense().trace().item()
    found = hutchinson_trace(operator, operator.dimension, probes=300)
    assert abs(found.value - exact) < 4 * found.standard_error
    assert found.standard_error < 0.2 * exact


def test_refuses_what_has_no_error() -> None:
    with pytest.raises(LandscapeError, match="no standard error"):
        hutchinson_trace(lambda rows: rows, 4, probes=1)
