"""The oscillating weights of a winner as code: no more of the formula than it uses.

Symbols as in `dynloss_core.oscillation.weights`.
"""

from __future__ import annotations

from dynloss_core.oscillation import GROUPS
from dynloss_core.training import Member, Problem

__all__ = ["ELEVATIONS", "takes_turns", "weights_code", "weights_constants"]

ELEVATIONS = {
    "triangle": "2 * min(tau, PERIOD - tau) / PERIOD",
    "sine": "math.sin(math.pi * tau / PERIOD) ** 2",
    "square": "float(PERIOD <= 4 * tau < 3 * PERIOD)",
    "sawtooth": "tau / (PERIOD - 1)",
}
"""s of a number tau, by the name of the shape."""

_ELEVATIONS_OF_ALL = {
    "triangle": "2 * torch.minimum(tau, PERIOD - tau) / PERIOD",
    "sine": "torch.sin(torch.pi * tau / PERIOD) ** 2",
    "square": "((4 * tau >= PERIOD) & (4 * tau < 3 * PERIOD)).double()",
    "sawtooth": "tau / (PERIOD - 1)",
}
"""The same of tensors."""

_DOCSTRING = '''    """Gamma, (G,): the weights in the update that follows `step` updates."""
'''
_IN_ORDER = {
    "cyclic": "turn % GROUPS",
    "permuted": 'int(DATA["turns"][turn])',
    "random": 'int(DATA["turns"][turn])',
}


def takes_turns(problem: Problem) -> bool:
    """Whether one group is active at a time; else each oscillates at a phase of its own."""
    return GROUPS[problem.oscillation.groups].takes_turns


def weights_constants(problem: Problem, member: Member, groups: int, shift: int) -> list[str]:
    """The lines of the constants that `weights_code` uses.

    Args:
        problem: the problem.
        member: its period and amplitude.
        groups: G.
        shift: steps by which the oscillation begins later in its turn.
    """
    of = "the classes" if problem.oscillation.is_by_class else f"{problem.oscillation.groups}"
    lines = [
        f"PERIOD = {member.nominal_period}  # T, in steps: how long one turn lasts",
        f"AMPLITUDE = {member.amplitude!r}  # A",
        f"GROUPS = {groups}  # G, how many take turns: {of}"
        if takes_turns(problem)
        else f"GROUPS = {groups}  # G, each training sample by itself",
    ]
    if shift:
        lines.append(f"SHIFT = {shift}  # steps by which the first turn has begun already")
    stop = member.stop(problem.steps, problem.static_tail)
    if stop < problem.steps:
        lines.append(f"STATIC_FROM = {stop}  # the step from which all weights are 1")
    return lines


def weights_code(problem: Problem, member: Member, groups: int, shift: int) -> str:
    """The function `weights_at` of a step; arguments as for `weights_constants`."""
    oscillation = problem.oscillation
    ends = member.stop(problem.steps, problem.static_tail) < problem.steps
    raised = "1 + (AMPLITUDE - 1) * elevation"
    raised = raised if oscillation.direction == "up" else f"1 / ({raised})"
    step = "step + SHIFT" if shift else "step"
    if not takes_turns(problem):
        return _all_groups_code(
            _ELEVATIONS_OF_ALL[oscillation.shape], raised, ends, oscillation.normalised
        )
    elevation = ELEVATIONS[oscillation.shape]
    if groups == 1 and not oscillation.is_by_class:
        return _one_group_code(elevation, raised, step, ends, oscillation.normalised)
    result = "weights * (GROUPS / (GROUPS - 1 + raw))" if oscillation.normalised else "weights"
    comment = "  # their mean is 1" if oscillation.normalised else ""
    return f"""def weights_at(step: int) -> Tensor:
{_DOCSTRING}    weights = torch.ones(GROUPS, dtype=torch.float64)
{_static("weights") if ends else ""}    turn, tau = divmod({step}, PERIOD)
    elevation = {elevation}
    raw = {raised}
    weights[{_IN_ORDER[oscillation.order]}] = raw
    return {result}{comment}
"""


def _one_group_code(elevation: str, raised: str, step: str, ends: bool, normalised: bool) -> str:
    """The weight of the only group: the whole loss rises and falls."""
    mean = (
        "\n\nMEAN = sum(raw_weight(tau) for tau in range(PERIOD)) / PERIOD\n" if normalised else ""
    )
    result = f"raw_weight(({step}) % PERIOD)" if step != "step" else "raw_weight(step % PERIOD)"
    result = f"{result} / MEAN" if normalised else result
    static = _static("torch.ones(GROUPS)") if ends else ""
    return f"""def raw_weight(tau: int) -> float:
    \"\"\"The weight of the whole loss at step tau of a period.\"\"\"
    elevation = {elevation}
    return {raised}
{mean}

def weights_at(step: int) -> Tensor:
{_DOCSTRING}{static}    return torch.full((GROUPS,), {result}, dtype=torch.float64)
"""


def _all_groups_code(elevation: str, raised: str, ends: bool, normalised: bool) -> str:
    """The weights of groups that all oscillate, each at a phase of its own."""
    result = "raw * (GROUPS / raw.sum())  # their mean is 1" if normalised else "raw"
    static = _static("torch.ones(GROUPS)") if ends else ""
    return f"""def weights_at(step: int) -> Tensor:
{_DOCSTRING}{static}    tau = ((step + DATA["shifts"]) % PERIOD).double()
    elevation = {elevation}
    raw = {raised}
    return {result}
"""


def _static(ones: str) -> str:
    return f"    if step >= STATIC_FROM:\n        return {ones}\n"
