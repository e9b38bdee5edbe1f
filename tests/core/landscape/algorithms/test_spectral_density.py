"""The density of eigenvalues by stochastic Lanczos quadrature."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dynloss_core.landscape import (
    HessianOperator,
    LandscapeError,
    SpectralDensity,
    spectral_density,
)
from tests.core.landscape.cases import mlp_case, symmetric


def smoothed(eigenvalues: Tensor, grid: Tensor, width: float) -> Tensor:
    z = (grid[:, None] - eigenvalues) / width
    return torch.exp(-(z**2) / 2).mean(1) / (width * math.sqrt(2 * math.pi))


def density_of(matrix: Tensor, **options: object) -> SpectralDensity:
    return spectral_density(lambda rows: rows @ matrix, len(matrix), **options)  # type: ignore[arg-type]


def test_agrees_with_the_smoothed_eigenvalues_within_its_errors() -> None:
    matrix = symmetric(200, seed=1)
    found = density_of(matrix, probes=40, steps=60, kernel_width=1.0, seed=3)
    exact = smoothed(torch.linalg.eigvalsh(matrix), found.grid, 1.0)
    inside = exact > 0.05 * exact.max()
    pulls = ((found.density - exact) / found.standard_error)[inside]
    assert pulls.abs().max() < 5
    assert (found.standard_error[inside] < 0.2 * exact.max()).all()


def test_integrates_to_one() -> None:
    found = density_of(symmetric(50, seed=2))
    area = torch.trapezoid(found.density, found.grid).item()
    assert area == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(10).double())


def test_two_known_clusters() -> None:
    """A diagonal operator is seen exactly: signs have the same square everywhere."""
    diagonal = torch.cat([torch.zeros(90), torch.full((10,), 4.0)]).double()
    found = spectral_density(lambda rows: rows * diagonal, 100, probes=3, steps=5)
    heavy = found.weights > 1e-9
    for nodes, weights in zip(found.nodes, found.weights, strict=True):
        torch.testing.assert_close(nodes[weights > 1e-9], torch.tensor([0.0, 4.0]).double())
        torch.testing.assert_close(weights[weights > 1e-9], torch.tensor([0.9, 0.1]).double())
    assert heavy.sum() == 6
    exact = smoothed(diagonal, found.grid, found.kernel_width)
    torch.testing.assert_close(found.density, exact, rtol=1e-6, atol=1e-9)


def test_quadrature_is_exact_for_polynomials() -> None:
    """m steps integrate polynomials up to degree 2 m - 1 against each probe's measure."""
    matrix = symmetric(40, seed=4)
    found = density_of(matrix, probes=5, steps=4, seed=2)
    again = density_of(matrix, probes=5, steps=40, seed=2)
    for degree in range(8):
        few = (found.weights * found.nodes**degree).sum(1)
        many = (again.weights * again.nodes**degree).sum(1)
        torch.testing.assert_close(few, many, rtol=1e-9, atol=1e-9)


def test_means_over_the_eigenvalues_of_a_hessian() -> None:
    case = mlp_case([8], samples=40)
    operator = HessianOperator(
        case.network, case.loss, case.data, case.class_weights, vectors_at_once=100
    )
    eigenvalues = torch.linalg.eigvalsh(operator.dense())
    found = spectral_density(operator, operator.dimension, probes=60, steps=25, probes_at_once=60)
    for function in (lambda x: x, torch.square, lambda x: (x > 0.05).double()):
        value, error = found.mean(function)
        assert abs(value - function(eigenvalues).mean().item()) < 4 * error


def test_is_repeatable_and_independent_of_how_probes_are_grouped() -> None:
    matrix = symmetric(30, seed=5)
    one, other = (density_of(matrix, probes=6, steps=8, probes_at_once=size) for size in (1, 4))
    torch.testing.assert_close(one.nodes, other.nodes, rtol=0, atol=1e-10)
    torch.testing.assert_close(one.density, other.density, rtol=0, atol=1e-10)
    changed = density_of(matrix, probes=6, steps=8, seed=1)
    assert not torch.allclose(changed.nodes, one.nodes)


def test_grid_and_width_can_be_given() -> None:
    grid = torch.linspace(-2, 2, 11)
    found = density_of(torch.eye(4, dtype=torch.float64), grid=grid, kernel_width=0.5)
    assert found.grid is grid
    torch.testing.assert_close(found.density, smoothed(torch.ones(1).double(), grid.double(), 0.5))


def test_what_has_no_density_is_refused() -> None:
    matrix = symmetric(5, seed=1)
    with pytest.raises(LandscapeError, match="at least 2 probes"):
        density_of(matrix, probes=1)
    with pytest.raises(LandscapeError, match=r"a kernel of width 0\.0"):
        density_of(matrix, kernel_width=0.0)
    with pytest.raises(LandscapeError, match="not finite"):
        spectral_density(lambda rows: rows * torch.nan, 5)
