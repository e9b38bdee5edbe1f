r"""The trace of a symmetric operator from random signs.

.. math::
    \operatorname{tr} A \approx \frac{1}{n} \sum_i v_i^\top A v_i, \qquad v_i \in \{-1, 1\}^P

The estimate is unbiased; each term has variance :math:`2 \sum_{i \ne j} A_{ij}^2`, so that for a
diagonal operator one probe is exact.

Symbols
    P      dimension
    n      probes

Source: M. Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian
smoothing splines", Communications in Statistics 19 (1990).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dynloss_core.landscape.algorithms.krylov import Operator
from dynloss_core.landscape.algorithms.random_vectors import Purpose, rademacher
from dynloss_core.landscape.refusals import LandscapeError

__all__ = ["TraceEstimate", "hutchinson_trace"]


@dataclass(frozen=True)
class TraceEstimate:
    """A trace with its uncertainty.

    Args:
        value: mean over the probes.
        standard_error: the standard error of that mean.
        n: probes.
    """

    value: float
    standard_error: float
    n: int


def hutchinson_trace(
    operator: Operator,
    dimension: int,
    *,
    probes: int = 64,
    seed: int = 0,
    probes_at_once: int = 16,
    device: torch.device | str = "cpu",
) -> TraceEstimate:
    """Estimate the trace of an operator.

    Args:
        operator: (K, P) -> (K, P), every row times the same symmetric matrix.
        dimension: P.
        probes: n, at least 2. The standard error falls as 1 / sqrt(n).
        seed: the seed of the probes. With the same seed, more probes include the earlier ones.
        probes_at_once: K, rows passed to the operator together.
        device: the device of the vectors passed to the operator.

    Raises:
        LandscapeError: for fewer than two probes, which have no standard error.
    """
    if probes < 2:
        raise LandscapeError(f"{probes} probes have no standard error", "use at least 2")
    signs = rademacher(dimension, probes, seed, Purpose.TRACE).to(device)
    parts = torch.split(signs, probes_at_once)
    terms = torch.cat([(part * operator(part)).sum(1) for part in parts])
    error = terms.std().item() / probes**0.5
    return TraceEstimate(terms.mean().item(), error, probes)
