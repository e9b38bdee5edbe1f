from __future__ import annotations

import math

import pytest
import torch

from dynloss_core.models import MLP, MLPConfig, Myrtle5Config, initialise
from dynloss_core.seeding import Stream, generator


@pytest.mark.parametrize(
    ("scheme", "gain"),
    [("lecun_normal", 1 / 40), ("glorot_normal", 2 / 540), ("he_normal", 2 / 40)],
)
def test_initialisation_has_its_variance_and_zero_biases(scheme: str, gain: float) -> None:
    network = initialise(MLP(40, [500], 3), scheme, generator(0, Stream.INITIALISATION))  # type: ignore[arg-type]
    weight = network.layers[0].weight
    assert weight.var().item() == pytest.approx(gain, rel=0.05)
    assert abs(weight.mean().item()) < 3 * math.sqrt(gain / weight.numel())
    for layer in network.layers:
        assert bool((layer.bias == 0).all())


def test_dtypes_start_alike() -> None:
    one, other = MLPConfig(width=4).build((2,), 3), MLPConfig(width=4).build((2,), 3).double()
    for network in (one, other):
        initialise(network, "lecun_normal", generator(0, Stream.DATA))
    for single, double in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(single, double.float())


def test_a_convolution_counts_its_field_in_the_fan() -> None:
    network = initialise(
        Myrtle5Config(channels=30).build((3, 8, 8), 10),
        "lecun_normal",
        generator(0, Stream.INITIALISATION),
    )
    weight = network.convolutions[1].weight
    assert weight.var().item() == pytest.approx(1 / (30 * 9), rel=0.05)


def test_an_mlp_counts_its_parameters_by_formula() -> None:
    network = MLPConfig(width=50, depth=2).build((2,), 3)
    assert sum(p.numel() for p in network.parameters()) == 2 * 50 + 50 + 50 * 50 + 50 + 50 * 3 + 3
