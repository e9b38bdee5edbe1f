"""Networks and data whose landscape the tests measure, listed once. All in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynloss_core.data import Labelled
from dynloss_core.losses import LossName
from dynloss_core.models import MLP, Myrtle5

LOSSES: list[LossName] = ["cross_entropy", "mse_sample_weighted", "mse_output_weighted"]


@dataclass(frozen=True)
class LandscapeCase:
    """A network with its parameters drawn, samples, and class weights of some moment."""

    name: str
    network: nn.Module
    loss: LossName
    data: Labelled
    class_weights: Tensor

    def __str__(self) -> str:
        return self.name


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=draws(seed), dtype=torch.float64)


def symmetric(size: int, seed: int) -> Tensor:
    drawn = normal(size, size, seed=seed)
    return (drawn + drawn.T) / 2


def network_like(network: nn.Module, seed: int, scale: float = 0.7) -> nn.Module:
    """The same network in float64 with parameters drawn from a seed, biases too."""
    network = network.double()
    with torch.no_grad():
        for place, parameter in enumerate(network.parameters()):
            parameter.copy_(scale * normal(*parameter.shape, seed=1000 * seed + place))
    return network


def labelled(samples: int, shape: tuple[int, ...], classes: int, seed: int) -> Labelled:
    targets = torch.randint(classes, (samples,), generator=draws(seed))
    return Labelled(normal(samples, *shape, seed=seed + 1), targets)


def weights_of(classes: int, seed: int) -> Tensor:
    raw = torch.rand(classes, generator=draws(seed), dtype=torch.float64) + 0.05
    return classes * raw / raw.sum()


def mlp_case(
    hidden: list[int],
    *,
    inputs: int = 2,
    classes: int = 3,
    loss: LossName = "cross_entropy",
    samples: int = 21,
    seed: int = 0,
) -> LandscapeCase:
    return LandscapeCase(
        name=f"{inputs}-{hidden}-{classes}, {loss}",
        network=network_like(MLP(inputs, hidden, classes), seed),
        loss=loss,
        data=labelled(samples, (inputs,), classes, seed),
        class_weights=weights_of(classes, seed),
    )


CONVNET = LandscapeCase(
    name="convnet",
    network=network_like(Myrtle5(1, 2, 4), seed=5, scale=0.4),
    loss="cross_entropy",
    data=labelled(6, (1, 8, 8), 4, seed=5),
    class_weights=weights_of(4, seed=5),
)
CASES = [
    *(mlp_case([11], loss=loss) for loss in LOSSES),
    *(mlp_case([], loss=loss, inputs=4) for loss in LOSSES),
    mlp_case([5, 4, 6], seed=2),
    mlp_case([7], inputs=9, classes=5, seed=3),
    mlp_case([6], classes=2, seed=4),
    CONVNET,
]
