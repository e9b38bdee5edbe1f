"""Runs of the Triton kernel, and the same runs by autograd."""

from __future__ import annotations

import os
from functools import partial

import torch
from torch import Tensor

from dynloss_core.compute.fused_steps_triton import train_steps
from dynloss_core.losses import LossName, class_losses, weighted_loss
from dynloss_core.oscillation import GroupWeights, Oscillation

Tensors = dict[str, Tensor]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
LOSSES: tuple[LossName, ...] = ("cross_entropy", "mse_sample_weighted", "mse_output_weighted")
PARAMETERS = ("weights", "velocity", "bias", "bias_velocity")
RESULTS = (*PARAMETERS, "class_losses", "correct")


def ensemble(
    *,
    members: int = 3,
    width: int = 7,
    count: int = 13,
    classes: int = 3,
    inputs: int = 2,
    steps: int = 3,
    sets: int | None = None,
    absent: int | None = None,
    friction: bool = False,
    groups: int | None = None,
    seed: int = 0,
) -> Tensors:
    """What `train_steps` takes, in float64 on the CPU: random, and midway through training.

    A = 1, T = 2 and a long period are among its schedules; with `friction`, no momentum and no
    weight decay are among its members. Class `absent` has no sample. With `groups`, a sample's
    weight is that of one of so many.
    """
    random = torch.Generator().manual_seed(seed)
    normal = partial(torch.randn, generator=random, dtype=torch.float64)
    sets = members if sets is None else sets
    there = torch.tensor([c for c in range(classes) if c != absent])
    targets = there[torch.randint(len(there), (sets, count), generator=random)]
    each = torch.arange(members)
    rolling = float(friction)
    grouped = {}
    if groups is not None:
        grouped = {
            "groups": torch.randint(groups, (members, count), generator=random),
            "class_weights": torch.rand(
                steps, members, groups, generator=random, dtype=torch.float64
            ),
        }
    return {
        "weights": normal(members, inputs + 1 + classes, width) * 0.5,
        "velocity": normal(members, inputs + 1 + classes, width) * 0.1 * rolling,
        "bias": normal(members, classes) * 0.1,
        "bias_velocity": normal(members, classes) * 0.1 * rolling,
        "samples": normal(sets, inputs, count),
        "one_hot": torch.nn.functional.one_hot(targets, classes).mT.double().contiguous(),
        "class_weights": GroupWeights(
            Oscillation(),
            classes,
            torch.tensor([2, 3, 1000])[each % 3],
            torch.tensor([70.0, 1.0, 5.0])[each % 3],
            torch.full((members,), steps),
            range(members),
        )(torch.arange(steps)),
        "rates": torch.rand(steps, members, generator=random, dtype=torch.float64) * 0.3 + 0.1,
        "momentum": torch.tensor([0.9, 0.0, 0.5]).double()[each % 3] * rolling,
        "weight_decay": torch.tensor([0.02, 0.1, 0.0]).double()[each % 3] * rolling,
        "active": each,
        **grouped,
    }


def train(
    start: Tensors,
    loss: LossName = "cross_entropy",
    *,
    nesterov: bool = False,
    traced: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Tensors:
    """What the kernel makes of `start`, and its trace, NaN where it wrote nothing."""
    after = {
        name: tensor.to(DEVICE, dtype if tensor.is_floating_point() else None, copy=True)
        for name, tensor in start.items()
    }
    trace = nothing_seen(after)
    count = start["samples"].shape[2]
    train_steps(**after, **(trace if traced else {}), count=count, loss=loss, nesterov=nesterov)
    return {name: tensor.cpu() for name, tensor in (after | trace).items()}


def train_by_autograd(start: Tensors, loss: LossName, *, nesterov: bool = False) -> Tensors:
    """The same by `torch.optim.SGD`, in float64."""
    after = {name: tensor.clone() for name, tensor in start.items()}
    trace = nothing_seen(after)
    inputs = start["samples"].shape[1]
    for m in start["active"].tolist():
        rows, bias = after["weights"][m].requires_grad_(), after["bias"][m].requires_grad_()
        friction = float(after["momentum"][m])
        optimiser = torch.optim.SGD(
            [rows, bias],
            momentum=friction,
            weight_decay=float(after["weight_decay"][m]),
            nesterov=nesterov and friction > 0,
        )
        if friction > 0:
            optimiser.state[rows]["momentum_buffer"] = after["velocity"][m]
            optimiser.state[bias]["momentum_buffer"] = after["bias_velocity"][m]
        samples, one_hot = (after[name][m % len(after[name])] for name in ("samples", "one_hot"))
        targets = one_hot.argmax(0)
        for t, rate in enumerate(after["rates"][:, m].tolist()):
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            hidden = torch.relu(samples.T @ rows[:inputs] + rows[inputs])  # (N, W)
            outputs = hidden @ rows[inputs + 1 :].T + bias  # (N, C)
            trace["class_losses"][t, m] = class_losses(loss, outputs.detach().T, one_hot)
            trace["correct"][t, m] = (outputs.argmax(-1) == targets).sum()
            groups = after["groups"][m] if "groups" in after else None
            value = weighted_loss(loss, outputs, targets, after["class_weights"][t, m], groups)
            if groups is not None:
                trace["weighted"][t, m] = value.detach()
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return {name: tensor.detach() for name, tensor in (after | trace).items()}


def nothing_seen(tensors: Tensors) -> Tensors:
    rates, classes = tensors["rates"], tensors["bias"].shape[1]
    like = {"class_losses": rates[..., None].repeat(1, 1, classes), "correct": rates}
    like |= {"weighted": rates} if "groups" in tensors else {}
    return {name: torch.full_like(tensor, torch.nan) for name, tensor in like.items()}


def assert_close(
    found: Tensors, expected: Tensors, *, rtol: float = 1e-9, atol: float = 1e-12
) -> None:
    rolling = expected["momentum"] > 0  # torch keeps no velocity of the others
    for name in (*RESULTS, *(["weighted"] if "groups" in expected else [])):
        a, b = found[name].double(), expected[name]
        if "velocity" in name:
            a, b = a[rolling], b[rolling]
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, equal_nan=True)


def assert_same_bits(found: Tensors, expected: Tensors, members: list[int] | slice) -> None:
    for name in PARAMETERS:
        assert torch.equal(found[name][members], expected[name][members])
    for name in ("class_losses", "correct"):
        assert torch.equal(found[name][:, members], expected[name][:, members])
