"""Networks that no engine was written for, each with its configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dynloss_core.models import MLP, Dropout
from dynloss_core.testing.cases import BytesConfig, short_problem
from dynloss_core.training import Problem

__all__ = ["FOREIGN", "ForeignConfig", "foreign_problem"]

SIDE = 8


class Own(nn.Module):
    """A network whose forward nobody but its author knows."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inner = nn.Linear(SIDE * SIDE, 6)
        self.last = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.middle(torch.relu(self.inner(images.flatten(1)))))  # type: ignore[no-any-return]

    def middle(self, hidden: Tensor) -> Tensor:
        return hidden


class Declared(Own):
    """That does nothing but what its layers do, and says so."""

    samplewise: ClassVar[bool] = True


class Inherited(Declared):
    """That does something else, and inherits what its parent says."""

    def middle(self, hidden: Tensor) -> Tensor:
        return hidden - hidden.mean(0) if self.training else hidden


class HiddenDropout(Own):
    """That drops activations by the function, not by a layer."""

    def middle(self, hidden: Tensor) -> Tensor:
        return nn.functional.dropout(hidden, 0.3, self.training)


class Centred(Own):
    """That normalises by its batch by hand, and keeps a running mean that its state leaves out."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(6), persistent=False)

    def middle(self, hidden: Tensor) -> Tensor:
        if not self.training:
            return hidden - self.mean
        now = hidden.mean(0)
        self.mean.mul_(0.9).add_(now.detach(), alpha=0.1)
        return hidden - now


class Held(Own):
    """That holds parameters and a buffer itself, drawn when it is built."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.scale = nn.Parameter(torch.rand(6) + 0.5)
        self.shift: Tensor
        self.register_buffer("shift", torch.randn(6))

    def middle(self, hidden: Tensor) -> Tensor:
        return hidden * self.scale + self.shift


class Unused(Own):
    """That has a parameter which its outputs do not depend on."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.aside = nn.Linear(2, 2)


class OwnNormalisation(nn.BatchNorm1d):
    """That is one of torch's by its parent, and something else by its forward."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * (hidden.mean(0) if self.training else 0.1)


class AnotherActivation(MLP):
    """That holds what a multilayer perceptron does, and is none."""

    samplewise: ClassVar[bool] = True

    def forward(self, images: Tensor) -> Tensor:
        into, out = self.layers
        return out(torch.tanh(into(images.flatten(1))))


class Tokens(nn.Module):
    """Pixels as numbers of rows in an embedding."""

    samplewise: ClassVar[bool] = True

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1)[:, :6] * 2).long().clamp(-3, 3) + 3


def tied(classes: int) -> nn.Module:
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6),
        nn.Linear(6, classes),
    )  # fmt: skip
    network[5].weight = network[3].weight
    return network


def frozen(classes: int) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, classes))
    network[1].requires_grad_(False)
    return network


def hooked(classes: int) -> nn.Module:
    def centre(layer: nn.Module, _inputs: object, hidden: Tensor) -> Tensor:
        return hidden - hidden.mean(0) if layer.training else hidden

    network = perceptron(nn.ReLU())(classes)
    network[2].register_forward_hook(centre)
    return network


def patched(classes: int) -> nn.Module:
    network = MLP(SIDE * SIDE, [6], classes)
    network.layers[0].forward = lambda images: images[:, :6]
    return network


def without_biases(classes: int) -> nn.Module:
    network = MLP(SIDE * SIDE, [6], classes)
    network.layers[1] = nn.Linear(6, classes, bias=False)
    return network


def convolution(*behind: nn.Module) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        head = nn.Conv2d(1, 4, 3, padding=1), *behind, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
        return nn.Sequential(*head, nn.Linear(64, classes))

    return build


def perceptron(*behind: nn.Module) -> Callable[[int], nn.Module]:
    def build(classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), *behind, nn.Linear(6, classes))

    return build


FOREIGN: dict[str, Callable[[int], nn.Module]] = {
    "batch normalisation": lambda c: convolution(nn.BatchNorm2d(4))(c),
    "cumulative batch normalisation": lambda c: convolution(nn.BatchNorm2d(4, momentum=None))(c),
    "instance normalisation": lambda c: convolution(nn.InstanceNorm2d(4))(c),
    "instance normalisation with statistics": lambda c: convolution(
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    )(c),
    "group normalisation": lambda c: convolution(nn.GroupNorm(2, 4))(c),
    "layer normalisation": lambda c: perceptron(nn.LayerNorm(6), nn.GELU())(c),
    "dropout": lambda c: perceptron(nn.ReLU(), nn.Dropout(0.3))(c),
    "dropout of channels": lambda c: convolution(nn.Dropout2d(0.3))(c),
    "our own dropout": lambda c: convolution(Dropout(0.3))(c),
    "dropout of nothing": lambda c: perceptron(nn.ReLU(), nn.Dropout(0.0))(c),
    "random leaks": lambda c: perceptron(nn.RReLU())(c),
    "convolution along a line": lambda c: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(1, 3, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(90, c)
    ),
    "trained slopes": lambda c: perceptron(nn.PReLU())(c),
    "embedding": lambda c: nn.Sequential(
        Tokens(), nn.Embedding(7, 4), nn.Flatten(), nn.Linear(24, c)
    ),
    "embedding that pads": lambda c: nn.Sequential(
        Tokens(), nn.Embedding(7, 4, padding_idx=3), nn.Flatten(), nn.Linear(24, c)
    ),
    "tied parameters": tied,
    "frozen parameters": frozen,
    "an own class": Own,
    "a declared class": Declared,
    "an inherited declaration": Inherited,
    "hidden dropout": HiddenDropout,
    "a buffer that is left out": Centred,
    "own parameters and buffers": Held,
    "an unused parameter": Unused,
    "a hook": hooked,
    "a layer with another forward": patched,
    "a normalisation of one's own": lambda c: perceptron(OwnNormalisation(6))(c),
    "a multilayer perceptron": lambda c: MLP(SIDE * SIDE, [6, 5], c),
    "a perceptron without biases": without_biases,
    "a perceptron with another activation": lambda c: AnotherActivation(SIDE * SIDE, [6], c),
}


@dataclass(frozen=True)
class ForeignConfig:
    """One of them."""

    kind: str
    name: str = "foreign"
    initialisation: str = "lecun_normal"

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return FOREIGN[self.kind](num_classes)


def foreign_problem(kind: str, **changes: Any) -> Problem:
    """Few small images in mini-batches."""
    problem = short_problem(ForeignConfig(kind), BytesConfig(channels=1))  # type: ignore[arg-type]
    return replace(problem, **changes)
