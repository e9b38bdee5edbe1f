r"""How sharp a valley can be before gradient descent leaves it.

On a quadratic with largest eigenvalue lambda, at a learning rate eta and momentum beta, gradient
descent is stable as long as lambda * eta stays below

.. math:: 2 (1 + \beta) \quad\text{(heavy ball)}, \qquad
          \frac{2 (1 + \beta)}{1 + 2 \beta} \quad\text{(Nesterov)}

and 2 without momentum. Weight decay is not included; it adds to lambda.

Source: J. M. Cohen et al., ICLR 2021, arXiv:2103.00065, appendix B.
"""

from __future__ import annotations

__all__ = ["stability_bound"]


def stability_bound(momentum: float = 0.0, *, nesterov: bool = False) -> float:
    """The largest eigenvalue of the Hessian times the learning rate at which gradient descent on a
    quadratic stops being stable.

    Args:
        momentum: beta, from 0 to below 1, as in PyTorch's SGD.
        nesterov: Nesterov's momentum instead of the classical one.

    Raises:
        ValueError: for a momentum out of range.
    """
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"a momentum lies between 0 and 1, got {momentum}")
    bound = 2.0 * (1.0 + momentum)
    return bound / (1.0 + 2.0 * momentum) if nesterov else bound
