r"""The density of a symmetric operator's eigenvalues by stochastic Lanczos quadrature.

.. math::
    \phi(x) = \frac{1}{P} \sum_p g_\sigma(x - \lambda_p)
        \approx \frac{1}{n} \sum_i \sum_m \omega_{im} \, g_\sigma(x - \theta_{im}),
    \qquad g_\sigma = \text{normal density of width } \sigma

For each probe the nodes theta are the eigenvalues of the Lanczos matrix T, and the weights omega
the squared first components of its eigenvectors: Gauss's quadrature for the probe's spectral
measure, exact for polynomials of degree 2 m - 1.

Symbols
    P      dimension
    n      probes
    m      Lanczos steps, = nodes of a probe
    G      points of the grid

Sources: S. Ubaru, J. Chen, Y. Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos
quadrature", SIAM J. Matrix Anal. Appl. 38 (2017); B. Ghorbani, S. Krishnan, Y. Xiao, "An
investigation into neural net optimization via Hessian eigenvalue density", ICML 2019,
arXiv:1901.10159.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynloss_core.landscape.algorithms.krylov import KrylovBasis, Operator
from dynloss_core.landscape.algorithms.random_vectors import Purpose, rademacher
from dynloss_core.landscape.refusals import LandscapeError

__all__ = ["SpectralDensity", "spectral_density"]

_MARGIN = 5  # kernel widths by which the grid extends beyond the outermost nodes


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """A smoothed density of eigenvalues, of integral 1, and the quadrature it comes from.

    Args:
        grid: (G,) eigenvalues.
        density: (G,) mean over the probes.
        standard_error: (G,) of that mean; due to the probes, not to the smoothing.
        kernel_width: sigma.
        nodes: (n, m) theta, ascending.
        weights: (n, m) omega, of sum 1 for each probe.
        dimension: P.
    """

    grid: Tensor
    density: Tensor
    standard_error: Tensor
    kernel_width: float
    nodes: Tensor
    weights: Tensor
    dimension: int

    def mean(self, function: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Mean of a function over the eigenvalues, without smoothing, and its standard error, as in
        `density.mean(torch.abs)`. P times the mean of the identity is the trace."""
        terms = (self.weights * function(self.nodes)).sum(1)
        return terms.mean().item(), terms.std().item() / math.sqrt(len(terms))


def spectral_density(
    operator: Operator,
    dimension: int,
    *,
    probes: int = 10,
    steps: int = 80,
    kernel_width: float | None = None,
    grid: Tensor | int = 1000,
    seed: int = 0,
    probes_at_once: int = 10,
    device: torch.device | str = "cpu",
) -> SpectralDensity:
    """Estimate the density of an operator's eigenvalues.

    Args:
        operator: (K, P) -> (K, P), every row times the same symmetric matrix.
        dimension: P.
        probes: n, at least 2.
        steps: m, Lanczos steps per probe; at most P are done.
        kernel_width: sigma; the default is a hundredth of the range of the nodes.
        grid: (G,) where to evaluate, or how many points to spread over the range of the nodes and
            five kernel widths beyond.
        seed: the seed of the probes.
        probes_at_once: K, Lanczos runs side by side (memory K * steps * P float64).
        device: the device of the vectors passed to the operator.

    Raises:
        LandscapeError: for a number out of its range, or an operator that gives NaN.
    """
    if probes < 2 or steps < 1:
        raise LandscapeError(
            f"{probes} probes of {steps} steps",
            "use at least 2 probes, for a standard error, and 1 step",
        )
    if kernel_width is not None and not kernel_width > 0:
        raise LandscapeError(f"a kernel of width {kernel_width}", "use a width above 0")
    signs = rademacher(dimension, probes, seed, Purpose.DENSITY).to(device)
    parts = [_quadrature(operator, part, steps) for part in torch.split(signs, probes_at_once)]
    nodes, weights = (torch.cat(chunks).cpu() for chunks in zip(*parts, strict=True))
    if not bool(torch.isfinite(nodes).all()):
        raise LandscapeError("the operator returns values that are not finite", "measure earlier")
    low, high = nodes.min().item(), nodes.max().item()
    if kernel_width is None:
        kernel_width = (high - low) / 100 or max(abs(high), 1.0) / 100
    if isinstance(grid, int):
        margin = _MARGIN * kernel_width
        grid = torch.linspace(low - margin, high + margin, grid, dtype=torch.float64)
    of_probe = _smooth(grid.double().cpu(), nodes, weights, kernel_width)  # (n, G)
    return SpectralDensity(
        grid=grid,
        density=of_probe.mean(0),
        standard_error=of_probe.std(0) / math.sqrt(probes),
        kernel_width=kernel_width,
        nodes=nodes,
        weights=weights,
        dimension=dimension,
    )


def _quadrature(operator: Operator, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights (K, m) of probes (K, P)."""
    basis = KrylovBasis(operator, start, steps)
    for _ in range(basis.capacity):
        basis.expand()
    ritz = basis.ritz()
    return ritz.values.flip(-1), ritz.coefficients[:, :, 0].flip(-1) ** 2


def _smooth(grid: Tensor, nodes: Tensor, weights: Tensor, width: float) -> Tensor:
    """The density (n, G) of each probe."""
    norm = width * math.sqrt(2 * math.pi)
    return torch.stack(
        [
            (w * torch.exp(-(((grid[:, None] - x) / width) ** 2) / 2)).sum(1) / norm
            for x, w in zip(nodes, weights, strict=True)
        ]
    )
