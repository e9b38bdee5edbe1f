"""The largest eigenvalues of symmetric operators, one and many at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynloss_core.landscape import (
    LandscapeError,
    Operator,
    TopEigen,
    start_vectors,
    top_eigen,
    warm_start,
)
from tests.core.landscape.cases import normal, symmetric


def operator_of(*matrices: Tensor) -> Operator:
    stacked = torch.stack(matrices)
    return lambda rows: (stacked.to(rows.dtype) @ rows[..., None])[..., 0]


def largest(matrix: Tensor, k: int) -> Tensor:
    return torch.linalg.eigvalsh(matrix).flip(0)[:k]


def with_spectrum(values: Tensor, seed: int) -> Tensor:
    basis = torch.linalg.qr(normal(len(values), len(values), seed=seed))[0]
    return basis * values @ basis.T


def assert_honest(found: TopEigen, matrix: Tensor) -> None:
    """Residuals are those of the vectors returned, which are orthonormal."""
    off = matrix @ found.vectors.T - found.vectors.T * found.values
    size = matrix.abs().max() * len(matrix)
    torch.testing.assert_close(off.norm(dim=0), found.residuals, rtol=1e-6, atol=1e-13 * size)
    unit = torch.eye(len(found.vectors), dtype=torch.float64)
    torch.testing.assert_close(found.vectors @ found.vectors.T, unit, rtol=0, atol=1e-12)


@settings(max_examples=30)
@given(size=st.integers(1, 60), k=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_equals_the_dense_eigenvalues(size: int, k: int, seed: int) -> None:
    k = min(k, size)
    matrix = symmetric(size, seed)
    found = top_eigen(operator_of(matrix), normal(size, seed=seed + 1), k=k, tolerance=1e-10)
    torch.testing.assert_close(found.values, largest(matrix, k), rtol=0, atol=1e-9 * size)
    assert found.converged.all()
    assert_honest(found, matrix)


@pytest.mark.parametrize("basis_size", [6, 10, 30])
def test_restarts_lose_nothing(basis_size: int) -> None:
    matrix = symmetric(200, seed=1)
    start = normal(200, seed=2)
    found = top_eigen(
        operator_of(matrix), start, k=3, tolerance=1e-9, max_iterations=2000, basis_size=basis_size
    )
    torch.testing.assert_close(found.values, largest(matrix, 3), rtol=0, atol=1e-7)
    assert_honest(found, matrix)


def test_agrees_with_scipy() -> None:
    sparse = pytest.importorskip("scipy.sparse.linalg")
    matrix = symmetric(150, seed=3)
    theirs = np.sort(sparse.eigsh(matrix.numpy(), k=4, which="LA")[0])[::-1]
    ours = top_eigen(operator_of(matrix), normal(150, seed=4), k=4, tolerance=1e-10)
    np.testing.assert_allclose(ours.values.numpy(), theirs, rtol=1e-12)


def test_largest_means_algebraic() -> None:
    matrix = with_spectrum(torch.tensor([-50.0, -3.0, -1.0, -0.5], dtype=torch.float64), seed=1)
    found = top_eigen(operator_of(matrix), normal(4, seed=2), k=2)
    torch.testing.assert_close(found.values, torch.tensor([-0.5, -1.0], dtype=torch.float64))


@given(steps=st.integers(3, 40), seed=st.integers(0, 10**6))
def test_an_eigenvalue_lies_within_the_residual_however_early(steps: int, seed: int) -> None:
    matrix = symmetric(50, seed)
    found = top_eigen(
        operator_of(matrix), normal(50, seed=seed + 1), tolerance=1e-14, max_iterations=steps
    )
    assert found.iterations == steps
    nearest = (torch.linalg.eigvalsh(matrix) - found.values).abs().min()
    assert nearest <= found.residuals.item() * (1 + 1e-6) + 1e-12
    assert not found.converged.any() or steps > 30
    assert_honest(found, matrix)


def test_says_that_it_has_not_converged() -> None:
    matrix = symmetric(100, seed=5)
    found = top_eigen(operator_of(matrix), normal(100, seed=6), k=2, max_iterations=5)
    assert not found.converged.any()
    assert (found.residuals > 1e-3).all()


def test_each_eigenvalue_may_have_its_own_tolerance() -> None:
    matrix = symmetric(100, seed=5)
    found = top_eigen(
        operator_of(matrix), normal(100, seed=6), k=2, tolerance=(1e-8, 0.3), max_iterations=300
    )
    scale = found.values[0]
    assert found.residuals[0] <= 1e-8 * scale
    assert 1e-8 * scale < found.residuals[1] <= 0.3 * scale


def ensemble(members: int, size: int = 40) -> tuple[list[Tensor], Tensor]:
    """Matrices that need different numbers of products, and start vectors."""
    spectra = [
        torch.linspace(-1, 1, size, dtype=torch.float64) ** (1 + 6 * m) for m in range(members)
    ]
    return (
        [with_spectrum((m + 1) * each, seed=m) for m, each in enumerate(spectra)],
        normal(members, size, seed=9),
    )


def assert_same(one: TopEigen, other: TopEigen, tolerance: float = 0.0) -> None:
    for name in ("values", "vectors", "residuals", "converged", "iterations"):
        torch.testing.assert_close(
            getattr(one, name), getattr(other, name), rtol=tolerance, atol=tolerance
        )


def test_an_ensemble_equals_its_members_one_by_one() -> None:
    matrices, starts = ensemble(4)
    together = top_eigen(operator_of(*matrices), starts, k=2, tolerance=1e-8)
    assert len(together.iterations.unique()) > 1
    for m, matrix in enumerate(matrices):
        alone = top_eigen(operator_of(matrix), starts[m], k=2, tolerance=1e-8)
        assert_same(together.member(m), alone, tolerance=1e-10)
        assert_honest(together.member(m), matrix)


def test_a_member_does_not_see_its_neighbours() -> None:
    matrices, starts = ensemble(3)
    other = [symmetric(40, seed=77), matrices[1], symmetric(40, seed=78)]
    changed = torch.stack([normal(40, seed=5), starts[1], normal(40, seed=6)])
    for k in (1, 3):
        here = top_eigen(operator_of(*matrices), starts, k=k, tolerance=1e-8)
        there = top_eigen(operator_of(*other), changed, k=k, tolerance=1e-8)
        assert_same(here.member(1), there.member(1))


def test_a_member_that_gives_nan_is_marked_and_disturbs_nobody() -> None:
    matrices, starts = ensemble(3)
    fine = top_eigen(operator_of(*matrices), starts, k=2)
    lost = top_eigen(
        operator_of(matrices[0], torch.full((40, 40), torch.nan).double(), matrices[2]), starts, k=2
    )
    for m in (0, 2):
        assert_same(fine.member(m), lost.member(m))
    bad = lost.member(1)
    assert bad.values.isnan().all()
    assert bad.residuals.isnan().all()
    assert not bad.converged.any()


def test_a_warm_start_equals_a_cold_one_and_is_cheaper() -> None:
    matrix = with_spectrum(torch.linspace(-1, 2, 80, dtype=torch.float64) ** 3, seed=1)
    before = top_eigen(operator_of(matrix), normal(80, seed=2), k=2, tolerance=(1e-5, 0.1))
    nearby = matrix + 1e-3 * symmetric(80, seed=3)
    start = warm_start(before, start_vectors(80, [0])[0])
    warm = top_eigen(operator_of(nearby), start, k=2, tolerance=(1e-5, 0.1))
    cold = top_eigen(operator_of(nearby), normal(80, seed=4), k=2, tolerance=(1e-5, 0.1))
    assert warm.values[0].item() == pytest.approx(cold.values[0].item(), rel=1e-8)
    assert warm.iterations < cold.iterations


def test_an_eigenvalue_that_has_overtaken_is_found_from_a_warm_start() -> None:
    """The vector to start from is still an eigenvector, exactly, but of the second largest now."""
    values = torch.cat([torch.tensor([2.0, 1.9]), torch.linspace(-0.5, 0.5, 78)]).double()
    basis = torch.linalg.qr(normal(80, 80, seed=1))[0]
    before = TopEigen(
        values=values[:2],
        vectors=basis.T[:2],
        residuals=torch.zeros(2),
        converged=torch.ones(2, dtype=torch.bool),
        iterations=torch.tensor(1),
    )
    values[0], values[1], values[40] = 1.9, 2.0, 2.5  # one rises from nowhere as well
    start = warm_start(before, start_vectors(80, [0])[0])
    found = top_eigen(operator_of(basis * values @ basis.T), start, k=2, tolerance=(1e-3, 0.1))
    assert found.values[0].item() == pytest.approx(2.5, rel=1e-5)


def test_a_warm_start_replaces_what_is_not_finite() -> None:
    fresh = start_vectors(5, [0, 1])
    nan = torch.full((2, 1, 5), torch.nan, dtype=torch.float64)
    nan[1] = 1.0
    before = TopEigen(nan[:, :, 0], nan, nan[:, :, 0], nan[:, :, 0] > 0, torch.ones(2))
    start = warm_start(before, fresh)
    torch.testing.assert_close(start[0], fresh[0])
    torch.testing.assert_close(start[1], 1 + 0.1 * fresh[1])


def test_goes_on_after_an_invariant_subspace() -> None:
    """A start vector that is an eigenvector leaves nothing to multiply; the rest is still found."""
    matrix = with_spectrum(torch.tensor([5.0, 3.0, 2.0, 1.0, 0.0], dtype=torch.float64), seed=1)
    third = torch.linalg.eigh(matrix)[1][:, 2]
    found = top_eigen(operator_of(matrix), third, k=2, tolerance=1e-10)
    torch.testing.assert_close(found.values, torch.tensor([5.0, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("factor", [0.0, 3.0])
def test_multiples_of_the_identity(factor: float) -> None:
    found = top_eigen(lambda rows: factor * rows, normal(6, seed=1), k=2)
    torch.testing.assert_close(found.values, torch.full((2,), factor, dtype=torch.float64))
    assert found.converged.all()
    assert (found.residuals <= 1e-12).all()


def test_dimension_one() -> None:
    found = top_eigen(lambda rows: -4 * rows, torch.tensor([2.0]))
    assert found.values.tolist() == [-4.0]
    assert found.iterations == 1


def test_an_operator_in_single_precision() -> None:
    matrix = symmetric(60, seed=1)
    single = matrix.float()
    found = top_eigen(
        lambda rows: (rows.float() @ single).to(rows.dtype), normal(60, seed=2), tolerance=1e-5
    )
    assert found.values.dtype == torch.float64
    assert found.values.item() == pytest.approx(largest(matrix, 1).item(), rel=1e-6)


def test_start_vectors_belong_to_their_seeds() -> None:
    one, two = start_vectors(7, [3, 4]), start_vectors(7, [4, 9, 3])
    torch.testing.assert_close(one[0], two[2], rtol=0, atol=0)
    torch.testing.assert_close(one[1], two[0], rtol=0, atol=0)
    torch.testing.assert_close(two.norm(dim=1), torch.ones(3).double())


def test_operators_and_options_that_do_not_fit_are_refused() -> None:
    operator = operator_of(symmetric(5, seed=1))
    with pytest.raises(LandscapeError, match="k = 6"):
        top_eigen(operator, normal(5, seed=1), k=6)
    with pytest.raises(LandscapeError, match="length 0 or is not finite"):
        top_eigen(operator, torch.zeros(5))
    with pytest.raises(LandscapeError, match="length 0 or is not finite"):
        top_eigen(operator, torch.full((5,), torch.inf))
    with pytest.raises(LandscapeError, match="max_iterations = 1"):
        top_eigen(operator, normal(5, seed=1), k=2, max_iterations=1)
