"""Networks whose landscape cannot be measured, refused with the reason and a remedy.

Curvature is a property of ONE function of the parameters, a mean over independent samples. A
network that draws random numbers is a different function at every call. One that normalises by
batch statistics couples its samples, so the data set cannot be split into batches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["LandscapeError", "refuse_unmeasurable"]

_SAME = 1e-3  # far above the effect of summation order, far below that of dropout


class LandscapeError(ValueError):
    """A refused measurement; its message is one line: what is wrong, and what to do.

    Args:
        problem: what is wrong, with the value.
        remedy: what to do instead.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem, self.remedy = problem, remedy
        super().__init__(problem, remedy)

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def refuse_unmeasurable(network: nn.Module, inputs: Tensor) -> None:
    """Refuse a network whose outputs are random or couple samples.

    Args:
        network: the network, in the mode it is to be measured in.
        inputs: (n, ...) a few samples on any device. The network sees them three times.

    Raises:
        LandscapeError: for active dropout, batch statistics, an embedding with a padding index,
            outputs that differ from call to call or depend on the other samples, or a network
            without trainable parameters.
    """
    first = next((parameter for parameter in network.parameters() if parameter.requires_grad), None)
    if first is None:
        raise LandscapeError(
            f"{type(network).__name__} has no trainable parameters",
            "set requires_grad on those to be measured",
        )
    for name, module in network.named_modules():
        called = f"{type(module).__name__} {name!r}"
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            raise LandscapeError(
                f"{called} is active: the loss changes from call to call",
                "call network.eval() first",
            )
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            raise LandscapeError(
                f"{called} leaves row {module.padding_idx} out of its gradient, though outputs may "
                "depend on it: the derivative of that gradient is not a Hessian",
                "build it without padding_idx",
            )
        if isinstance(module, _BatchNorm):
            if not module.track_running_stats:
                raise LandscapeError(
                    f"{called} always normalises by its batch: samples are not independent",
                    "build it with track_running_stats=True and call network.eval()",
                )
            if module.training:
                raise LandscapeError(
                    f"{called} is in training mode: it normalises by its batch, and measuring "
                    "would move its running statistics",
                    "call network.eval() first",
                )
    with torch.no_grad():
        few = inputs.to(first.device, first.dtype)
        together, again, alone = network(few), network(few), network(few[:1])
    if not torch.allclose(together, again, rtol=_SAME, atol=_SAME, equal_nan=True):
        raise LandscapeError(
            f"{type(network).__name__} gives different outputs at every call",
            "switch off its randomness, by network.eval() or in its own configuration",
        )
    if not torch.allclose(together[:1], alone, rtol=_SAME, atol=_SAME, equal_nan=True):
        raise LandscapeError(
            f"{type(network).__name__} gives one sample different outputs in different batches",
            "measure it in a mode in which samples are independent",
        )
