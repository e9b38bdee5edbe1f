"""What training yields: typed records, the same from every engine.

Symbols
    M      members
    K      members whose every step is traced
    C      classes
    n      steps
    k      moments at which the curvature, or a valley, was measured
    S      offsets on the line through a valley
    E      evaluations

Tensors live on the CPU, metrics in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

__all__ = ["CurvatureSeries", "Evaluation", "HeldOut", "History", "Trace", "ValleySeries"]


@dataclass(frozen=True, eq=False)
class _TimeSeries:
    """What is recorded along a run: tensors whose first axis is time, except those that hold for
    the whole run."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Join consecutive parts with the same members and offsets."""
        first = {field.name: getattr(parts[0], field.name) for field in fields(cls)}
        longer = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name, value in first.items()
            if value is not None and name not in ("members", "offsets")
        }
        return cls(**{**first, **longer})


@dataclass(frozen=True, eq=False)
class Trace(_TimeSeries):
    """Every step of some members.

    Row i is the state *after* `steps[i]` updates, as seen by the next update: with its class
    weights and, in mini-batch training, on its batch. A diverged member has NaN from the evaluation
    that detected the divergence onwards.

    Args:
        steps: (n,) updates done.
        members: (K,) indices of the members in the ensemble.
        weighted_loss: (n, K) F at `class_weights`.
        loss: (n, K) static loss.
        accuracy: (n, K) in [0, 1].
        class_weights: (n, K, C) of the next update; where other groups oscillate, the mean weight
            of the samples of each class.
        learning_rate: (n, K) of the next update.
    """

    steps: Tensor
    members: Tensor
    weighted_loss: Tensor
    loss: Tensor
    accuracy: Tensor
    class_weights: Tensor
    learning_rate: Tensor


@dataclass(frozen=True, eq=False)
class CurvatureSeries(_TimeSeries):
    """The curvature of some members along their training.

    Row i is the landscape of F after `steps[i]` updates, at the class weights of the next update. A
    diverged member has NaN.

    Args:
        steps: (k,) updates done.
        members: (K,) indices of the members in the ensemble.
        hessian_lambda_max: (k, K) largest eigenvalue of the Hessian of F.
        hessian_residual: (k, K) an eigenvalue lies this close to the value.
        hessian_converged: (k, K) whether the residual met its tolerance.
        ntk_lambda_max: (k, K) largest eigenvalue of the tangent kernel of the first training
            samples, averaged over the outputs.
        learning_rate: (k, K) of the next update.
        hessian_trace: (k, K) estimated trace of the Hessian of F; None if it was not asked for.
        hessian_trace_error: (k, K) standard error of the estimate.
    """

    steps: Tensor
    members: Tensor
    hessian_lambda_max: Tensor
    hessian_residual: Tensor
    hessian_converged: Tensor
    ntk_lambda_max: Tensor
    learning_rate: Tensor
    hessian_trace: Tensor | None = None
    hessian_trace_error: Tensor | None = None


@dataclass(frozen=True, eq=False)
class ValleySeries(_TimeSeries):
    """F on a line through the parameters of some members, along their training.

    Row i is the landscape of F after `steps[i]` updates, at the class weights of the next update;
    see `landscape.valley`. A diverged member has NaN.

    Args:
        steps: (k,) updates done.
        members: (K,) indices of the members in the ensemble.
        offsets: (S,) on the line, in units of distance between parameters.
        weighted_loss: (k, K, S) F.
        loss: (k, K, S) static loss on the same line.
        class_weights: (k, K, C) of the next update.
        slope: (k, K) slope of F at offset 0.
        overlap: (k, K) |cosine| between the directions of this moment and the one before.
        hessian_lambda_max: (k, K) as in `CurvatureSeries`.
        hessian_residual: (k, K) likewise.
        hessian_converged: (k, K) likewise.
    """

    steps: Tensor
    members: Tensor
    offsets: Tensor
    weighted_loss: Tensor
    loss: Tensor
    class_weights: Tensor
    slope: Tensor
    overlap: Tensor
    hessian_lambda_max: Tensor
    hessian_residual: Tensor
    hessian_converged: Tensor


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The ensemble after `step` updates.

    A diverged member has NaN in every metric from the evaluation that detected the divergence
    onwards, a stopped one after the evaluation at which it was stopped.

    Args:
        step: updates done.
        weighted_loss: (M,) F on the training set at the class weights of the NEXT update.
        train_loss: (M,) static loss on the training set.
        train_accuracy: (M,) in [0, 1].
        validation_loss: (M,) static loss on the validation set.
        validation_accuracy: (M,) in [0, 1].
        diverged_step: (M,) the step at which a member was found to have diverged; -1 if it has not.
        learning_rate: (M,) of the next update, even if the member has diverged.
        trace: every step since the last evaluation, of the traced members.
        curvature: moments since the last evaluation up to this one, of the probed members.
        valleys: likewise, of the members whose valleys were asked for.
    """

    step: int
    weighted_loss: Tensor
    train_loss: Tensor
    train_accuracy: Tensor
    validation_loss: Tensor
    validation_accuracy: Tensor
    diverged_step: Tensor
    learning_rate: Tensor
    trace: Trace | None = None
    curvature: CurvatureSeries | None = None
    valleys: ValleySeries | None = None


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Static metrics on the test set, (M,) each; to report a choice already made, never to make it.

    Args:
        test_loss: static loss.
        test_accuracy: in [0, 1].
    """

    test_loss: Tensor
    test_accuracy: Tensor


@dataclass(frozen=True, eq=False)
class History:
    """A whole run (see `Engine.run`).

    Args:
        evaluations: E evaluations, in the order of their steps.
        trace: every step of the traced members; None without any.
        curvature: the curvature of the probed members; None without any.
        valleys: the valleys of the members whose valleys were asked for; None without any.
        parameters: the parameters of each member at the end, named as in its network's
            `state_dict`.
    """

    evaluations: tuple[Evaluation, ...]
    trace: Trace | None
    curvature: CurvatureSeries | None
    valleys: ValleySeries | None
    parameters: tuple[dict[str, Tensor], ...]

    @property
    def steps(self) -> Tensor:
        """(E,) updates done at each evaluation."""
        return torch.tensor([evaluation.step for evaluation in self.evaluations])

    def curve(self, metric: str) -> Tensor:
        """A metric of `Evaluation` over the run, (E, M)."""
        return torch.stack([getattr(evaluation, metric) for evaluation in self.evaluations])
