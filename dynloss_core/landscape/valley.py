r"""The valley: F on the line through the parameters along the sharpest direction at a moment.

.. math::
    F(s) = F(\theta + s v), \qquad \nabla^2 F(\theta)\, v = \lambda_{max} v, \quad \|v\| = 1

Symbols
    P      trainable parameters, flattened one after the other in the order of the network's names
    S      offsets s on the line, in units of distance between parameters
    C      classes
    N      samples
    n      samples of one batch
    v      eigenvector (P,) of the largest eigenvalue of the Hessian of F, both at the class weights
           of the moment

Near s = 0 the line is the parabola F(0) + slope s + lambda_max s^2 / 2; the slope is v . grad F,
and 0 only at the bottom. The direction turns as training goes on: valleys at successive moments are
slices along different lines, not a map. v and -v are the same eigenvector, so the sign of each is
chosen to point along the one before.

Source of the picture: slices of the loss along eigenvectors of its Hessian, as in Z. Yao et al.,
"PyHessian: Neural networks through the lens of the Hessian", IEEE Big Data 2020
(arXiv:1912.07145); valleys of a dynamical loss, M. Ruiz-Garcia et al., ICML 2021
(arXiv:2102.03793).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from dynloss_core.data import Labelled
from dynloss_core.landscape.algorithms.lanczos import TopEigen
from dynloss_core.landscape.operators.hessian import hessian_top, trainable
from dynloss_core.landscape.refusals import LandscapeError, refuse_unmeasurable
from dynloss_core.losses import LossName, weighted_loss

__all__ = ["OFFSETS", "Valley", "valley"]

OFFSETS: tuple[float, ...] = tuple(index / 20 for index in range(-30, 31))
"""61 offsets from -1.5 to 1.5: on the spirals, F rises to a hundred times its value at the bottom.
"""

_SMALL = 64  # a sample of up to this many numbers counts as small
_AT_ONCE = 4096  # samples times offsets seen together: fastest where activations fit the cache


@dataclass(frozen=True, eq=False)
class Valley:
    """F on a line through the parameters, on the CPU, in float64.

    Args:
        offsets: (S,) s, in units of distance between parameters.
        weighted_loss: (S,) F(theta + s v) at the class weights of the moment.
        loss: (S,) the static loss on the same line.
        direction: (P,) v, of length 1.
        slope: the slope of F along v at s = 0.
        lambda_max: the largest eigenvalue of the Hessian of F, with eigenvector v.
        residual: length of H v - lambda_max v: an eigenvalue lies this close to lambda_max.
        converged: whether the residual met its tolerance.
        overlap: |cosine| between v and the direction before it; NaN without one.
    """

    offsets: Tensor
    weighted_loss: Tensor
    loss: Tensor
    direction: Tensor
    slope: float
    lambda_max: float
    residual: float
    converged: bool
    overlap: float

    def parabola(self) -> Tensor:
        """(S,) what F would be on the line if it were quadratic."""
        bottom = self.weighted_loss[self.offsets == 0][0]
        return bottom + self.slope * self.offsets + self.lambda_max * self.offsets**2 / 2


def valley(
    network: nn.Module,
    loss: LossName,
    data: Labelled,
    class_weights: Tensor,
    *,
    top: TopEigen | None = None,
    towards: Tensor | None = None,
    offsets: tuple[float, ...] = OFFSETS,
    batch_size: int | None = None,
) -> Valley:
    """The valley of one network at one moment.

    Args:
        network: the network, in the mode to measure it in; it is not changed.
        loss: which dynamical loss.
        data: the N samples F is a mean over.
        class_weights: (C,) Gamma at the moment of the measurement.
        top: the first eigenvalue and eigenvector in it are taken as the largest of the Hessian of F
            there; None finds them (see `hessian_top`).
        towards: (P,) the direction before, which decides the sign of v; None or 0 leaves the sign.
        offsets: S of them, 0 among them, ascending and symmetric.
        batch_size: samples seen at once; None for all. Changes nothing but the rounding.

    Returns:
        The valley; everything that depends on parameters that are not finite is NaN.

    Raises:
        LandscapeError: as `HessianOperator`; also for offsets that are not as above, or a direction
            that does not fit the network.
    """
    _check(offsets)
    refuse_unmeasurable(network, data.inputs[:2])
    if top is None:
        top = hessian_top(network, loss, data, class_weights, batch_size=batch_size)
    parameters = trainable(network)
    parameter = next(iter(parameters.values()))
    eigenvector = top.vectors[0].detach().cpu().double()  # (P,)
    dimension = sum(tensor.numel() for tensor in parameters.values())
    for vector in (eigenvector, eigenvector if towards is None else towards):
        if tuple(vector.shape) != (dimension,):
            raise LandscapeError(
                f"a direction of shape {tuple(vector.shape)} for {dimension} parameters",
                "give one number for each trainable parameter, in the order of their names",
            )
    direction, overlap = _turned(eigenvector, towards)
    line = _Line(network, parameters, direction.to(parameter.device, parameter.dtype), loss)
    at = torch.tensor(offsets, dtype=torch.float64)
    weights = torch.stack([class_weights.detach().cpu().double(), torch.ones(len(class_weights))])
    weights = weights.to(parameter.device, parameter.dtype)  # (2, C): of the moment, and static
    values = torch.zeros(2, len(at), dtype=torch.float64)
    slope = 0.0
    size = batch_size or len(data)
    for first in range(0, len(data), size):
        batch = data.at(slice(first, first + size)).to(parameter.dtype, parameter.device)
        share = len(batch) / len(data)
        values += share * line.values(at.to(parameter.device, parameter.dtype), batch, weights)
        slope += share * line.slope(batch, weights[0])
    return Valley(
        offsets=at,
        weighted_loss=values[0],
        loss=values[1],
        direction=direction,
        slope=slope,
        lambda_max=float(top.values[0]),
        residual=float(top.residuals[0]),
        converged=bool(top.converged[0]),
        overlap=overlap,
    )


class _Line:
    """The loss of one network at theta + s v."""

    def __init__(
        self, network: nn.Module, parameters: dict[str, Tensor], direction: Tensor, loss: LossName
    ) -> None:
        self._network, self._parameters, self._loss = network, parameters, loss
        sizes = [tensor.numel() for tensor in parameters.values()]
        parts = zip(parameters.items(), torch.split(direction, sizes), strict=True)
        self._along = {name: part.view_as(tensor) for (name, tensor), part in parts}

    @torch.no_grad()
    def values(self, at: Tensor, batch: Labelled, weights: Tensor) -> Tensor:
        """(2, S) losses at each offset, for each row of `weights` (2, C)."""
        pixels = max(1, batch.inputs[0].numel() // _SMALL)
        chunk = max(1, _AT_ONCE // (len(batch) * pixels))
        of_batch = partial(self._outputs, batch.inputs)
        outputs = vmap(of_batch, chunk_size=chunk)(at).double()  # (S, n, C)

        def loss(at_offset: Tensor, own: Tensor) -> Tensor:
            return weighted_loss(self._loss, at_offset, batch.targets, own, batch.groups)

        per_offset = vmap(loss, in_dims=(0, None))
        return torch.stack([per_offset(outputs, own.double()).cpu() for own in weights])

    def slope(self, batch: Labelled, weights: Tensor) -> float:
        """The derivative of F by s at 0."""

        def value(s: Tensor) -> Tensor:
            outputs = self._outputs(batch.inputs, s)
            return weighted_loss(self._loss, outputs, batch.targets, weights, batch.groups)

        zero = torch.zeros((), dtype=batch.inputs.dtype, device=batch.inputs.device)
        return float(jvp(value, (zero,), (torch.ones_like(zero),))[1])

    def _outputs(self, inputs: Tensor, s: Tensor) -> Tensor:
        moved = {name: self._parameters[name] + s * self._along[name] for name in self._along}
        outputs: Tensor = functional_call(self._network, moved, (inputs,))
        return outputs


def _turned(vector: Tensor, towards: Tensor | None) -> tuple[Tensor, float]:
    """The direction, with its sign chosen, and how well it agrees with the one before."""
    if towards is None or not bool(towards.any()) or not bool(vector.any()):
        return vector, float("nan")
    before = towards.detach().cpu().double()
    cosine = float(vector @ before / before.norm())
    return (-vector if cosine < 0 else vector), abs(cosine)


def _check(offsets: tuple[float, ...]) -> None:
    at = torch.tensor(offsets, dtype=torch.float64)
    if len(at) < 3 or not bool((at.diff() > 0).all()) or not torch.equal(at, -at.flip(0)):
        raise LandscapeError(
            f"{len(at)} offsets that are not ascending and symmetric",
            "use an odd number of them with 0 in the middle, such as the default",
        )
    if len(at) % 2 == 0:
        raise LandscapeError("the offsets leave out 0", "use an odd number of them")
