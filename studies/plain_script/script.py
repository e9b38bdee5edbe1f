"""The text of a plain PyTorch script that trains a winner."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dynloss_core import __version__, keys
from dynloss_core.training import Setup
from studies.plain_script.loss_code import loss_code
from studies.plain_script.network_code import network_code
from studies.plain_script.weights_code import weights_code, weights_constants
from studies.storage.recorded_winner import RecordedWinner

__all__ = ["script_of"]

_LINES = 20  # of progress
_IMAGES = 256  # evaluated at once
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class _ScriptInputs:
    """What decides how a script looks.

    Args:
        winner: the winner.
        setup: its setup, of one member.
        shift: steps by which the oscillation begins later in its turn.
        data: what is in the file beside it, by name.
    """

    winner: RecordedWinner
    setup: Setup
    shift: int
    data: Mapping[str, object]

    @property
    def oscillates(self) -> bool:
        return self.winner.member.amplitude > 1

    @property
    def groups(self) -> int:
        problem = self.winner.problem
        samples = problem.data.training_samples
        return problem.oscillation.count(self.setup.num_classes, samples)

    @property
    def has_schedule(self) -> bool:
        schedule = self.winner.problem.learning_rate_schedule
        return schedule.decay != "constant" or schedule.warmup > 0

    @property
    def has_modes(self) -> bool:
        return self.setup.traits.couples_samples or self.setup.traits.draws


def script_of(winner: RecordedWinner, setup: Setup, shift: int, data: Mapping[str, object]) -> str:
    """The script.

    Args:
        winner: the winner; its problem is one that can be exported.
        setup: its setup, of one member.
        shift: steps by which the oscillation begins later in its turn.
        data: what is in the file of tensors beside it, by name.
    """
    given = _ScriptInputs(winner, setup, shift, data)
    network = network_code(winner.problem)
    parts = [_constants(given), network.definition]
    if given.oscillates:
        parts.append(weights_code(winner.problem, winner.member, given.groups, shift))
    parts.append(loss_code(winner.problem, oscillates=given.oscillates))
    if given.has_schedule:
        parts.append(_schedule(given))
    if winner.problem.sam_radius:
        parts.append(_CLIMB)
    parts += [_evaluation(given), _main(given, network.construction)]
    body = "\n\n".join(parts)
    needs_math = ["import math"] if "math." in body else []
    imports = sorted([*network.imports, *needs_math, "from pathlib import Path"], key=_as_sorted)
    head = "\n".join(["from __future__ import annotations", "", *imports])
    return f"""{_docstring(given)}
{head}

import torch
import torch.nn.functional as F
from torch import Tensor, nn

{body}

if __name__ == "__main__":
    main()
"""


def _as_sorted(line: str) -> tuple[bool, str]:
    """Imports of modules before imports from them."""
    return line.startswith("from"), line


def _docstring(given: _ScriptInputs) -> str:
    winner, problem = given.winner, given.winner.problem
    point = ", ".join(f"{name} {value!r}" for name, value in winner.point.items())
    return f'''"""The winner of the study {winner.study.name}, trained by plain PyTorch.

arm       {winner.arm}, search {winner.search} of {winner.study.searches}
point     {point}
seed      {winner.member.seed}
data      {problem.data.name}
made by   {_command(winner)}

It needs torch, and the .pt file beside it: the samples, the initial network, and what was drawn at
random. The record is by dynloss {__version__}, which rounds sums in another order: in float32,
long runs may end elsewhere.
"""
'''


def _command(winner: RecordedWinner) -> str:
    """The command that makes the script."""
    words = ["dynloss", "export", winner.study.name, "--arm", winner.arm]
    words += ["--search", str(winner.search), "--seed", str(winner.member.seed)]
    for name in winner.study.scientific:
        words += ["--setting", f"{name}={winner.point[name]}"]
    return shlex.join(words)


def _constants(given: _ScriptInputs) -> str:
    problem, member = given.winner.problem, given.winner.member
    lines = [
        f"STEPS = {problem.steps:_}  # optimiser updates",
        f"LEARNING_RATE = {member.learning_rate!r}",
    ]
    if problem.batch_size is not None:
        lines.append(f"BATCH_SIZE = {problem.batch_size}")
    if given.oscillates:
        lines += weights_constants(problem, member, given.groups, given.shift)
    if problem.sam_radius:
        lines.append(f"RADIUS = {problem.sam_radius!r}  # of sharpness-aware minimisation")
    lines += ["", "RECORDED = {  # loss and accuracy at the end, in the study"]
    recorded = given.winner.recorded(problem, member)
    for split in _SPLITS:
        loss, accuracy = recorded.get(f"{split}_loss"), recorded.get(f"{split}_accuracy")
        if loss is not None and accuracy is not None:
            lines.append(f'    "{split}": ({loss!r}, {accuracy!r}),')
    lines += [
        "}",
        "",
        'DEVICE = "cpu"  # or "cuda"',
        'DATA = torch.load(Path(__file__).with_suffix(".pt"), DEVICE, weights_only=True)',
        "",
    ]
    return "\n".join(lines)


def _schedule(given: _ScriptInputs) -> str:
    schedule = given.winner.problem.learning_rate_schedule
    lines = [
        "def learning_rate(step: int) -> float:",
        '    """Of the update that follows `step` updates."""',
    ]
    steps, since = "STEPS", "step"
    if schedule.warmup:
        steps, since = "max(STEPS - warm, 1)", "(step - warm)"
        lines += [
            f"    warm = {schedule.warmup!r} * STEPS",
            "    if step < warm:",
            "        return LEARNING_RATE * ((step + 1) / (warm + 1))",
        ]
    if schedule.decay == "constant":
        lines.append("    return LEARNING_RATE")
    else:
        lines.append(f"    done = {since} / {steps}")
        final = schedule.final
        factor = {
            "linear": f"1 + ({final!r} - 1) * done",
            "cosine": f"{final!r} + (1 - {final!r}) * (1 + math.cos(math.pi * done)) / 2",
        }[schedule.decay]
        lines.append(f"    return LEARNING_RATE * ({factor})")
    return "\n".join([*lines, ""])


_CLIMB = '''def climb(model: nn.Module) -> list[Tensor]:
    """Move the parameters to where F is largest within RADIUS, to first order; return them as they
    were. Their gradients are dropped."""
    held = list(model.parameters())
    were = [each.detach().clone() for each in held]
    with torch.no_grad():
        norm = sum(each.grad.square().sum() for each in held).sqrt()
        for each in held:
            if norm > 0:
                each.add_(each.grad * (RADIUS / norm))
            each.grad = None
    return were
'''


def _evaluation(given: _ScriptInputs) -> str:
    is_image = len(given.winner.problem.data.input_shape) == 3
    outputs = "model(seen(inputs))" if "factor" in given.data else "model(inputs)"
    if is_image:
        part = outputs.replace("inputs", "part")
        outputs = f"torch.cat([{part} for part in inputs.split({_IMAGES})])"
    seen = ""
    if "factor" in given.data:
        seen = '''def seen(images: Tensor) -> Tensor:
    """Bytes (N, channels, H, W) as the network sees them."""
    factor, offset = DATA["factor"], DATA["offset"]  # (1, channels, 1, 1)
    return torch.addcmul(offset, images.to(factor.dtype), factor)


'''
    mode = "    model.eval()\n" if given.has_modes else ""
    return f'''{seen}@torch.no_grad()
def evaluated(model: nn.Module, split: str) -> tuple[float, float]:
    """Static loss and accuracy on a split."""
    inputs, targets = DATA[f"{{split}}_inputs"], DATA[f"{{split}}_targets"]
{mode}    outputs = {outputs}.double()
    accuracy = (outputs.argmax(1) == targets).double().mean()
    return float(losses(outputs, targets).mean()), float(accuracy)
'''


def _main(given: _ScriptInputs, construction: str) -> str:
    dtype = given.winner.problem.dtype
    every = max(1, given.winner.problem.steps // _LINES)
    loop = "\n".join(f"        {line}" for line in _loop(given))
    names, stored = _samples(given)
    whole = f"    {', '.join(names)} = " + ", ".join(f'DATA["{name}"]' for name in stored)
    is_small = given.winner.problem.traits.relu_mlp is not None
    threads = "    torch.set_num_threads(1)  # more only wait for each other\n" if is_small else ""
    before = f"{whole}\n" if given.winner.problem.batch_size is None else ""
    return f'''def main() -> None:
    """Train, and print what the study recorded beside what comes out."""
{threads}    model = {construction}
    model = model.to(DEVICE, torch.{dtype})
    model.load_state_dict(DATA["network"])
    optimiser = {_optimiser(given)}
{before}    for step in range(STEPS):
{loop}
        if step % {every} == 0:
            print(f"step {{step:>8}}  F {{loss.item():.6g}}", flush=True)
    for split in ("train", "validation", "test"):
        loss, accuracy = evaluated(model, split)
        print(f"{{split:<10}}  loss {{loss:.10g}}  accuracy {{accuracy:.6f}}", end="")
        if split in RECORDED:
            loss, accuracy = RECORDED[split]
            print(f"  recorded: loss {{loss:.10g}}  accuracy {{accuracy:.6f}}", end="")
        print()
'''


def _optimiser(given: _ScriptInputs) -> str:
    member, arguments = given.winner.member, ["model.parameters()", "lr=LEARNING_RATE"]
    values = {name: getattr(member, name) for name in (keys.MOMENTUM, keys.WEIGHT_DECAY)}
    arguments += [f"{name}={value!r}" for name, value in values.items() if value]
    if given.winner.problem.nesterov and member.momentum > 0:
        arguments.append("nesterov=True")
    line = f"torch.optim.SGD({', '.join(arguments)})"
    if len(line) <= 80:
        return line
    return f"torch.optim.SGD(\n        {', '.join(arguments)}\n    )"


def _loop(given: _ScriptInputs) -> Iterator[str]:
    """The lines of one update."""
    problem, (names, stored) = given.winner.problem, _samples(given)
    if problem.batch_size is not None:
        yield 'epoch, place = divmod(step, DATA["batch_order"].shape[1] // BATCH_SIZE)'
        yield "chosen = slice(place * BATCH_SIZE, (place + 1) * BATCH_SIZE)"
        yield 'batch = DATA["batch_order"][epoch, chosen].long()'
        for name, place in zip(names, stored, strict=True):
            yield f'{name} = DATA["{place}"][batch]'
    if given.has_schedule:
        yield 'optimiser.param_groups[0]["lr"] = learning_rate(step)'
    if given.has_modes:
        yield "model.train()"
    yield "optimiser.zero_grad()"
    if given.setup.traits.draws:
        yield 'torch.manual_seed(int(DATA["dropout_seeds"][step]))'
    yield from _backward(given, names)
    if problem.sam_radius:
        yield "were = climb(model)"
        yield from _backward(given, names, again=True)
        yield "with torch.no_grad():"
        yield "    for parameter, before in zip(model.parameters(), were):"
        yield "        parameter.copy_(before)"
    yield "optimiser.step()"


def _samples(given: _ScriptInputs) -> tuple[list[str], list[str]]:
    """The variables that hold the samples of a step, and where all of them are stored."""
    names, stored = ["inputs", "targets"], ["train_inputs", "train_targets"]
    if "groups" in given.data:
        names, stored = [*names, "groups"], [*stored, "groups"]
    return names, stored


def _backward(given: _ScriptInputs, names: list[str], *, again: bool = False) -> Iterator[str]:
    inputs, *others = names
    shown = f"seen({inputs})" if "factor" in given.data else inputs
    if given.oscillates:
        if not again:
            yield f"outputs = model({shown})"
            yield "weights = weights_at(step).to(outputs)"
        outputs = f"model({shown})" if again else "outputs"
        computed = f"weighted_loss({outputs}, {', '.join(others)}, weights)"
    else:
        computed = f"losses(model({shown}), targets).mean()"
    if again:
        yield f"{computed}.backward()"
    else:
        yield f"loss = {computed}"
        yield "loss.backward()"
