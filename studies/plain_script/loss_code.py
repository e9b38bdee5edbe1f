"""The built-in losses as code: what each sample, or each output, contributes."""

from __future__ import annotations

from dynloss_core.losses import LOSSES
from dynloss_core.losses.weighted import FOCUS, SMOOTHING
from dynloss_core.training import Problem

__all__ = ["ELEMENTS", "loss_code"]

_SQUARED = "(outputs - F.one_hot(targets, outputs.shape[1])) ** 2"

ELEMENTS = {
    "cross_entropy": ["return F.cross_entropy(outputs, targets, reduction='none')"],
    "cross_entropy_smoothed": [
        "return F.cross_entropy(",
        f"    outputs, targets, reduction='none', label_smoothing={SMOOTHING}",
        ")",
    ],
    "focal": [
        "log_p = outputs.log_softmax(1).gather(1, targets[:, None])[:, 0]",
        f"return -((1 - log_p.exp()) ** {FOCUS}) * log_p",
    ],
    "mse_sample_weighted": [f"return ({_SQUARED}).mean(1)"],
    "mse_output_weighted": [f"return {_SQUARED}"],
}
"""Lines that compute it from outputs (N, C) and targets (N,), by the name of the loss."""


def loss_code(problem: Problem, *, oscillates: bool) -> str:
    """The functions `losses`, whose mean is the static loss, and `weighted_loss`, which is F.

    Args:
        problem: its loss is in `ELEMENTS`.
        oscillates: whether there are weights at all.
    """
    by_output = LOSSES[problem.loss].by_output
    shape = "(N, C): the loss of each output" if by_output else "(N,): the loss of each sample"
    lines = [line.replace("'", '"') for line in ELEMENTS[problem.loss]]
    body = "".join(f"    {line}\n" for line in lines)
    code = f"""def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    \"\"\"{shape} of outputs (N, C) and classes (N,).\"\"\"
{body}"""
    if not oscillates:
        return code
    if by_output:
        arguments, weighted, whose = "weights: Tensor", "weights", "(C,) of the outputs"
    elif problem.oscillation.is_by_class:
        arguments, weighted, whose = "weights: Tensor", "weights[targets]", "(C,) of the classes"
    else:
        arguments, weighted = "groups: Tensor, weights: Tensor", "weights[groups]"
        whose = "(G,) of the groups (N,)"
    return f"""{code}

def weighted_loss(outputs: Tensor, targets: Tensor, {arguments}) -> Tensor:
    \"\"\"F, with the weights {whose}. It divides by the number of samples, not by
    the sum of their weights.\"\"\"
    return ({weighted} * losses(outputs, targets)).mean()
"""
