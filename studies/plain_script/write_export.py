"""Writing a winner as a plain PyTorch script, with one file of tensors beside it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynloss_core.atomic import write_atomically
from dynloss_core.config import ConfigError
from dynloss_core.data import Labelled
from dynloss_core.oscillation.orders import active_groups
from dynloss_core.oscillation.weights import shift_of
from dynloss_core.training import Setup
from dynloss_core.training.problem.dropout_masks import dropout_seed
from dynloss_core.training.problem.ensemble import batch_order
from studies.plain_script.refusals import refuse_what_is_not_plain
from studies.plain_script.script import script_of
from studies.plain_script.weights_code import takes_turns
from studies.storage.recorded_winner import RecordedWinner

__all__ = ["export_winner"]


def export_winner(winner: RecordedWinner, into: Path) -> Path:
    """Write `train_<study>_<arm>.py`, which trains the winner with torch alone, and the `.pt` file
    that it reads.

    Args:
        winner: the winner.
        into: the folder to write to; made if it is missing.

    Returns:
        The path of the script.

    Raises:
        ConfigError: if a script cannot express how the winner is trained, if another script is
            there already, or if the folder cannot be written.
    """
    refuse_what_is_not_plain(winner.problem, winner.study.name)
    setup = Setup.build(winner.problem, [winner.member])
    data, shift = _tensors(winner, setup)
    text = script_of(winner, setup, shift, data)
    path = into / f"train_{winner.study.name}_{winner.arm}.py"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        remedy = "delete it, or choose another folder with --into"
        raise ConfigError("", "holds another script already", remedy, str(path))
    content = io.BytesIO()
    torch.save(data, content)
    try:
        write_atomically(path.with_suffix(".pt"), content.getvalue())
        write_atomically(path, text)
    except OSError as error:
        problem = f"cannot be written: {error.strerror}"
        raise ConfigError("", problem, "choose another folder with --into", str(into)) from None
    return path


def _tensors(winner: RecordedWinner, setup: Setup) -> tuple[dict[str, Any], int]:
    """What the script reads, by name, and the steps by which the oscillation begins later in its
    turn."""
    problem, member, (splits,) = winner.problem, winner.member, setup.splits
    data: dict[str, Any] = {"network": setup.networks[0].state_dict()}
    for name in ("train", "validation", "test"):
        samples: Labelled = getattr(splits, name)
        inputs = samples.inputs
        if samples.scale is None:
            inputs = inputs.to(problem.torch_dtype)
        data[f"{name}_inputs"], data[f"{name}_targets"] = inputs.contiguous(), samples.targets
    if splits.train.scale is not None:
        scale, shape = splits.train.scale, (1, -1, 1, 1)
        mean, deviation = (
            torch.tensor(values, dtype=torch.float64).view(shape)
            for values in (scale.mean, scale.deviation)
        )
        data["factor"] = (1 / (255 * deviation)).to(problem.torch_dtype)
        data["offset"] = (-mean / deviation).to(problem.torch_dtype)
    if problem.batch_size is not None:
        data["batch_order"] = _batch_order(setup, member.seed)
    if setup.traits.draws:
        seeds = [dropout_seed(member.seed, step) for step in range(problem.steps)]
        data["dropout_seeds"] = torch.tensor(seeds)
    return data, _oscillation(winner, setup, data)


def _batch_order(setup: Setup, seed: int) -> Tensor:
    """The order in which each epoch visits the training set, (epochs, N)."""
    problem, samples = setup.problem, len(setup.splits[0].train)
    assert problem.batch_size is not None
    epochs = -(-problem.steps // (samples // problem.batch_size))
    orders = torch.stack([batch_order(seed, epoch, samples) for epoch in range(epochs)])
    return orders.to(torch.int16 if samples < 2**15 else torch.int32)


def _oscillation(winner: RecordedWinner, setup: Setup, data: dict[str, Any]) -> int:
    """Add what was drawn at random about the oscillation, and return the shift of all groups."""
    problem, member = winner.problem, winner.member
    if member.amplitude == 1:
        return 0
    oscillation, train = problem.oscillation, setup.splits[0].train
    groups = oscillation.count(setup.num_classes, len(train))
    if train.groups is not None:
        data["groups"] = train.groups
    shift = shift_of(oscillation, groups, member.nominal_period, member.seed)
    if not takes_turns(problem):
        data["shifts"] = shift
        return 0
    if oscillation.order != "cyclic" and groups > 1:
        turns = (problem.steps + int(shift)) // member.nominal_period + 1
        drawn = active_groups(oscillation.order, groups, turns, member.seed)
        data["turns"] = torch.from_numpy(drawn)
    return int(shift)
