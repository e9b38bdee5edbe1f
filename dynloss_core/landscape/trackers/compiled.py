"""The curvature of an ensemble by one compiled function per member, on the CPU.

Members are spread over torch's threads; how they are spread does not change the results.
Symbols as in `tracker` and `curvature_kernel`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from dynloss_core.landscape.algorithms.random_vectors import Purpose, start_vectors
from dynloss_core.landscape.trackers.tracker import (
    Curvature,
    CurvatureTracker,
    LargestEigenvalue,
    TrackedProblem,
)
from dynloss_core.losses import kernel_form, one_hot_rows, refusal_of_form

__all__ = ["CompiledTracker"]

_NAMES = ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias")
_MAX_SUMS = 12  # C (D + 1): the kernel's sums must fit the registers
_LANES = 8  # doubles in a vector


class CompiledTracker(CurvatureTracker):
    """Computes in float64 whatever the dtype of the parameters; compiled when first used."""

    name = "compiled"

    def _prepare(self) -> None:
        from dynloss_core.compute.curvature_kernel import curvature_kernel

        problem = self.problem
        sizes = problem.traits.one_hidden_layer
        assert sizes is not None
        self._inputs, self._width, _ = sizes
        rows, stored = self._inputs + 1 + self.classes, _padded(self._width)
        self._weights = np.zeros((1, self.members, rows, stored))  # padding is never written
        self._biases = np.zeros((1, self.members, self.classes))
        x, targets = problem.samples(torch.float64, torch.device("cpu"))
        self._samples = _pad(x.mT)
        self._one_hot = _pad(one_hot_rows(targets, self.classes, torch.float64))
        groups = problem.groups(torch.device("cpu"))
        self._groups = _pad(targets if groups is None else groups)
        self._ntk_x = _pad(x[:, : self.ntk_samples].mT)
        directions = rows * stored + self.classes
        self._directions = np.zeros((self.members, 2, directions))
        self._fresh = self._to_kernel(start_vectors(self.dimension, problem.seeds))
        self._ntk_directions = np.zeros((self.members, 2, self._ntk_x.shape[-1]))
        self._ntk_fresh = _pad(start_vectors(self.ntk_samples, problem.seeds, Purpose.NTK_START))
        self._loss = kernel_form(problem.loss)
        self._kernel = curvature_kernel(self._inputs, self.classes)

    @classmethod
    def refusal(cls, problem: TrackedProblem, device: str = "cpu") -> str | None:
        if torch.device(device).type != "cpu":
            return "it only runs on the CPU"
        sizes = problem.traits.one_hidden_layer
        if sizes is None or problem.data[0].inputs.ndim != 2:
            return "it only follows networks with one hidden layer, on flat inputs"
        if sizes[2] * (sizes[0] + 1) > _MAX_SUMS:
            limit = f"C (D + 1) <= {_MAX_SUMS} for C classes and D inputs"
            return f"it only follows networks with {limit}"
        if importlib.util.find_spec("numba") is None:
            return "it needs numba (pip install numba)"
        return refusal_of_form(problem.loss, "kernel")

    def _measure(self, parameters: Mapping[str, Tensor], class_weights: Tensor) -> Curvature:
        return _curvature(
            self._results(
                {name: tensor[None] for name, tensor in parameters.items()}, class_weights
            )[0]
        )

    def _follow(self, parameters: Mapping[str, Tensor], class_weights: Tensor) -> Curvature:
        return _curvature(self._results(parameters, class_weights))

    def _results(self, parameters: Mapping[str, Tensor], class_weights: Tensor) -> np.ndarray:
        """Value, residual, number of products and convergence, (k, M, 2, 4), for the Hessian and
        the tangent kernel at k moments. One call of the compiled code serves them all: a call costs
        as much as the measurement of a small network."""
        moments = len(next(iter(parameters.values())))
        self._take(parameters, moments)
        weights = class_weights.detach().cpu().to(torch.float64)
        weights = weights.view(moments, self.members, -1).contiguous()
        results = np.empty((moments, self.members, 2, 4))
        tracking = self.tracking
        arguments = (
            self._weights, self._biases, self._samples, self._one_hot, self._groups,
            weights.numpy(), len(self.problem.data[0]), self._ntk_x, self.ntk_samples,
            self._fresh, self._directions, self._ntk_fresh, self._ntk_directions,
            tracking.share, np.array(tracking.tolerances), tracking.max_iterations, results,
        )  # fmt: skip
        every = np.arange(self.members)
        threads = min(torch.get_num_threads(), self.members)
        if threads == 1:
            self._kernel(*self._loss, every, *arguments)
        else:
            with ThreadPoolExecutor(threads) as pool:
                parts = [every[first::threads].copy() for first in range(threads)]
                list(pool.map(lambda part: self._kernel(*self._loss, part, *arguments), parts))
        return results

    def _take(self, parameters: Mapping[str, Tensor], moments: int) -> None:
        """Copy the parameters (k, M, ...) into the kernel's layout."""
        if len(self._weights) != moments:
            self._weights = np.zeros((moments, *self._weights.shape[1:]))
            self._biases = np.zeros((moments, *self._biases.shape[1:]))
        into, offset, out, bias = (parameters[name].detach().cpu().numpy() for name in _NAMES)
        width, inputs = self._width, self._inputs
        self._weights[..., :inputs, :width] = into.swapaxes(-1, -2)
        self._weights[..., inputs, :width] = offset
        self._weights[..., inputs + 1 :, :width] = out
        self._biases[:] = bias

    def _to_kernel(self, vectors: Tensor) -> np.ndarray:
        """Convert directions (..., P) in the order of the names to (..., R S + C)."""
        inputs, width, classes = self._inputs, self._width, self.classes
        sizes = [width * inputs, width, classes * width, classes]
        into, offset, out, bias = torch.split(vectors, sizes, dim=-1)
        lead = vectors.shape[:-1]
        rows = torch.cat(
            [into.view(*lead, width, inputs).mT, offset[..., None, :], out.view(*lead, -1, width)],
            dim=-2,
        )
        flat = torch.from_numpy(_pad(rows)).flatten(-2)
        return torch.cat([flat, bias], dim=-1).numpy()

    def _found(self) -> tuple[Tensor, Tensor]:
        kept = torch.from_numpy(self._directions)
        cut = self._weights[0, 0].size
        rows = kept[..., :cut].view(self.members, 2, -1, _padded(self._width))[..., : self._width]
        into, offset, out = torch.split(rows, [self._inputs, 1, self.classes], dim=-2)
        parts = [into.mT, offset, out, kept[..., None, cut:]]
        hessian = torch.cat([part.flatten(2) for part in parts], dim=-1)
        return hessian, torch.from_numpy(self._ntk_directions)[..., : self.ntk_samples]

    def _resume_from(self, hessian: Tensor, ntk: Tensor) -> None:
        self._directions[:] = self._to_kernel(hessian)
        self._ntk_directions[:] = _pad(ntk)


def _padded(length: int) -> int:
    return -(-length // _LANES) * _LANES


def _pad(tensor: Tensor) -> np.ndarray:
    """Pad the last axis by zeros to whole vectors."""
    padding = (0, _padded(tensor.shape[-1]) - tensor.shape[-1])
    return torch.nn.functional.pad(tensor, padding).contiguous().numpy()


def _curvature(results: np.ndarray) -> Curvature:
    hessian, ntk = (_largest(results[..., which, :]) for which in range(2))
    return Curvature(hessian, ntk)


def _largest(results: np.ndarray) -> LargestEigenvalue:
    value, residual, iterations, converged = np.moveaxis(results, -1, 0)
    return LargestEigenvalue(
        torch.from_numpy(value),
        torch.from_numpy(residual),
        torch.from_numpy(converged > 0),
        torch.from_numpy(iterations.astype(np.int64)),
    )
