"""What training yields: typed records, the same from every engine.

M is the number of members. Tensors live on the CPU, metrics in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Evaluation", "HeldOut"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The ensemble after `step` updates.

    A diverged member has NaN in every metric from the evaluation that found it on.

    Args:
        step: updates done.
        weighted_loss: (M,) F on the training set at the class weights of the NEXT update.
        train_loss: (M,) static loss on the training set.
        train_accuracy: (M,) in [0, 1].
        validation_loss: (M,) static loss on the validation set.
        validation_accuracy: (M,) in [0, 1].
        diverged_step: (M,) the step at which a member was found to have diverged; -1: it has not.
    """

    step: int
    weighted_loss: Tensor
    train_loss: Tensor
    train_accuracy: Tensor
    validation_loss: Tensor
    validation_accuracy: Tensor
    diverged_step: Tensor


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Static metrics on the test set, (M,) each; to report a choice already made, never to make it.

    Args:
        test_loss: static loss.
        test_accuracy: in [0, 1].
    """

    test_loss: Tensor
    test_accuracy: Tensor
