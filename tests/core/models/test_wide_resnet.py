from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dynloss_core.config import ConfigError, build
from dynloss_core.models import Myrtle5Config, WideResNet, WideResNetConfig, initialise
from dynloss_core.models.wide_resnet import Normalisation
from dynloss_core.seeding import Stream, generator

every_normalisation = pytest.mark.parametrize("normalisation", ["batch", "group", "none"])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def network_of(config: WideResNetConfig, shape: tuple[int, ...] = (3, 32, 32)) -> WideResNet:
    draws = generator(0, Stream.INITIALISATION)
    return initialise(config.build(shape, 10), config.initialisation, draws)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("depth", "widening", "millions", "exactly"),
    [  # arXiv:1605.07146, tables 2, 4 and 5; exact counts by the formula of the next test
        (40, 1, 0.6, 563_930),
        (40, 2, 2.2, 2_243_546),
        (16, 4, 2.7, 2_748_890),
        (40, 4, 8.9, 8_949_210),
        (16, 8, 11.0, 10_961_370),
        (22, 8, 17.2, 17_158_106),
        (28, 10, 36.5, 36_479_194),
    ],
)
def test_has_the_published_number_of_parameters(
    depth: int, widening: int, millions: float, exactly: int
) -> None:
    config = WideResNetConfig(depth=depth, widening=widening)
    with torch.device("meta"):
        found = size(config.build((3, 32, 32), 10))
    assert found == exactly
    assert found / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("depth", "widening"), [(10, 1), (16, 4), (22, 3)])
@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 100)])
@every_normalisation
def test_counts_its_parameters_by_formula(
    depth: int, widening: int, channels: int, classes: int, normalisation: Normalisation
) -> None:
    config = WideResNetConfig(depth=depth, widening=widening, normalisation=normalisation)
    bare = normalisation == "none"
    widths = [16, *(16 * widening * 2**stage for stage in range(3))]
    expected = 9 * channels * 16 + bare * 16 + widths[-1] * classes + classes
    for stage in range(3):
        for index in range((depth - 4) // 6):
            before, after = widths[stage + (index > 0)], widths[stage + 1]
            expected += 9 * before * after + 9 * after * after
            expected += 2 * after + 1 if bare else 2 * before + 2 * after
            if before != after:
                expected += before * after
    expected += 0 if bare else 2 * widths[-1]
    assert size(config.build((channels, 28, 28), classes)) == expected


@pytest.mark.parametrize("channels", [1, 16, 64])
@pytest.mark.parametrize("inputs", [1, 3])
def test_myrtle5_counts_its_parameters_by_formula(channels: int, inputs: int) -> None:
    first, others, last = 9 * inputs + 1, 3 * (9 * channels + 1), 10 * (channels + 1)
    network = Myrtle5Config(channels=channels).build((inputs, 28, 28), 10)
    assert size(network) == (first + others) * channels + last


@every_normalisation
def test_takes_images_of_any_channels_and_size(normalisation: Normalisation) -> None:
    config = WideResNetConfig(depth=10, widening=1, normalisation=normalisation)
    for channels, height, width in ((1, 28, 28), (3, 32, 32), (2, 4, 9), (1, 8, 8)):
        network = network_of(config, (channels, height, width))
        assert network(torch.zeros(2, channels, height, width)).shape == (2, 10)


def test_without_normalisation_it_starts_as_its_shortcuts() -> None:
    network = network_of(WideResNetConfig(depth=16, widening=1, normalisation="none"), (3, 8, 8))
    images = torch.randn(5, 3, 8, 8)
    hidden = network.stem(images)
    for block in network.blocks:
        hidden = hidden if block.shortcut is None else block.shortcut(torch.relu(hidden))
    expected = network.linear(torch.relu(hidden).mean((2, 3)))
    torch.testing.assert_close(network(images), expected)


@every_normalisation
@pytest.mark.parametrize("depth", [10, 40])
def test_starts_with_gradients_of_ordinary_size(normalisation: Normalisation, depth: int) -> None:
    """Neither vanishing nor exploding with depth, whatever normalises."""
    config = WideResNetConfig(depth=depth, widening=1, normalisation=normalisation)
    network = network_of(config, (3, 16, 16))
    outputs = network(torch.randn(32, 3, 16, 16))
    assert 0.1 < outputs.std().item() < 10
    nn.functional.cross_entropy(outputs, torch.arange(32) % 10).backward()
    assert 0.01 < network.stem.weight.grad.norm().item() < 30


@every_normalisation
def test_it_learns_with_every_normalisation(normalisation: Normalisation) -> None:
    config = WideResNetConfig(depth=16, widening=1, normalisation=normalisation)
    network = network_of(config, (1, 8, 8))
    images, targets = torch.randn(64, 1, 8, 8), torch.arange(64) % 10
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(images), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2


def test_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    config = WideResNetConfig(depth=10, widening=1, dropout=0.3)
    dropout = network_of(config).blocks[0].dropout
    ones = torch.ones(200, 16, 8, 8)
    found = dropout(ones)
    assert (found == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert found.mean().item() == pytest.approx(1, abs=0.02)
    assert found.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert torch.equal(dropout.eval()(ones), ones)


def test_dropout_is_the_same_however_activations_lie_in_memory() -> None:
    network = network_of(WideResNetConfig(depth=10, widening=1, dropout=0.5)).double()
    images, found = torch.randn(4, 3, 8, 8, dtype=torch.float64), []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(1)
        one = copy.deepcopy(network).to(memory_format=layout)
        found.append(one(images.contiguous(memory_format=layout)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"depth": 18}, "18 is not 6 n \\+ 4; use 16 or 22"),
        ({"depth": 4}, "use 10 or 16"),
        ({"widening": 0}, "below 1"),
        ({"dropout": 1.0}, "not a fraction"),
        ({"normalisation": "layer"}, "choose one of: batch, group, none"),
    ],
)
def test_sizes_and_shares_out_of_range_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(WideResNetConfig, values)


@pytest.mark.parametrize(("config", "side"), [(WideResNetConfig(), 4), (Myrtle5Config(), 8)])
def test_wants_images(config: WideResNetConfig | Myrtle5Config, side: int) -> None:
    with pytest.raises(ConfigError, match=f"at least {side} x {side} pixels"):
        config.build((2,), 3)
