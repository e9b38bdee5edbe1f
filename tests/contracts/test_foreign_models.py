"""Networks that no engine was written for keep the contract of models; how they begin, and which
engine trains them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dynloss_core.config import ConfigError
from dynloss_core.landscape.refusals import LandscapeError
from dynloss_core.landscape.trackers.tracker import TrackedProblem
from dynloss_core.losses import LOSSES
from dynloss_core.models import (
    MLPConfig,
    Myrtle5Config,
    WideResNetConfig,
    initialise,
    traits_of,
)
from dynloss_core.seeding import Stream, generator
from dynloss_core.testing import ModelContract
from dynloss_core.testing.agreement import assert_equal
from dynloss_core.testing.cases import TWO_MEMBERS
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    ConvnetEngine,
    FusedCPUEngine,
    Setup,
    VmappedEngine,
    choose_engine,
)
from tests.contracts.inherited import inherited
from tests.unfamiliar_networks import FOREIGN, ForeignConfig, foreign_problem

ENSEMBLE_ENGINES = [FusedCPUEngine, BatchedEngine, VmappedEngine, ConvnetEngine]
TRAINED_BY_AUTOGRAD_ALONE = {
    "dropout",
    "dropout of channels",
    "random leaks",
    "trained slopes",
    "tied parameters",
    "frozen parameters",
    "an own class",
    "an inherited declaration",
    "hidden dropout",
    "a buffer that is left out",
    "own parameters and buffers",
    "an unused parameter",
    "a hook",
    "a layer with another forward",
    "a normalisation of one's own",
}


class Centring(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden - hidden.mean(0)


class AlwaysNoisy(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + torch.rand_like(hidden)


every_kind = pytest.mark.parametrize("kind", FOREIGN)


class TestAnEmbeddingThatPads(ModelContract):
    model = ForeignConfig("embedding that pads")
    measured = False


class TestRandomLeaks(ModelContract):
    """Torch cannot take its tangent kernel, and says so."""

    model = ForeignConfig("random leaks")
    measured = False


class TrackedLater(ModelContract):
    """The contract, with the trackers among the slow tests."""

    @pytest.mark.slow
    def test_the_chosen_tracker_agrees_with_the_sequential_one(self) -> None:
        super().test_the_chosen_tracker_agrees_with_the_sequential_one()


TRACKED = (  # one of each kind that trackers tell apart
    "a multilayer perceptron",
    "batch normalisation",
    "cumulative batch normalisation",
    "dropout",
    "embedding",
    "convolution along a line",
    "tied parameters",
    "own parameters and buffers",
)
for kind in (kind for kind in FOREIGN if kind not in ("embedding that pads", "random leaks")):
    contract = ModelContract if kind in TRACKED else TrackedLater
    globals().update(inherited(contract, "model", {kind: ForeignConfig(kind)}))


def setup_of(kind: str) -> Setup:
    return Setup.build(foreign_problem(kind), TWO_MEMBERS)


@every_kind
def test_auto_takes_an_engine_that_can(kind: str) -> None:
    problem, alone = foreign_problem(kind), kind in TRAINED_BY_AUTOGRAD_ALONE
    assert (ConvnetEngine.refusal(problem) is not None) == alone
    assert (choose_engine(problem) is AutogradEngine) == alone
    if alone:
        for engine in ENSEMBLE_ENGINES:
            assert engine.refusal(problem) is not None
        for name in ("convnet", "batched"):
            with pytest.raises(ConfigError, match="in the network 'foreign', "):
                choose_engine(problem, name)  # type: ignore[arg-type]


def test_what_is_frozen_stays_and_what_is_tied_stays_tied() -> None:
    engine = AutogradEngine(setup_of("frozen parameters"))
    before = engine.parameters(0)["1.weight"]
    engine.run()
    assert torch.equal(engine.parameters(0)["1.weight"], before)
    engine = AutogradEngine(setup_of("tied parameters"))
    engine.run()
    after = engine.parameters(0)
    assert torch.equal(after["3.weight"], after["5.weight"])
    assert not torch.equal(after["3.weight"], setup_of("tied parameters").networks[0][3].weight)


# --- how a network begins -------------------------------------------------------------------------


def begun(network: nn.Module, scheme: str = "lecun_normal") -> nn.Module:
    return initialise(network, scheme, generator(0, Stream.INITIALISATION))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "variance"),
    [(nn.Conv1d(20, 80, 3), 1 / 60), (nn.Conv3d(4, 90, 2), 1 / 32), (nn.Embedding(90, 40), 1.0)],
)
def test_a_rule_gives_its_variance(layer: nn.Module, variance: float) -> None:
    weight = begun(layer).weight
    assert weight.var().item() == pytest.approx(variance, rel=0.08)
    assert getattr(layer, "bias", None) is None or not bool(layer.bias.any())


def test_a_shared_parameter_is_drawn_once_by_the_first_layer() -> None:
    alone, table = nn.Embedding(9, 4), nn.Embedding(9, 4)
    out = nn.Linear(4, 9)
    out.weight = table.weight
    both = begun(nn.Sequential(table, out))
    assert torch.equal(both[1].weight, begun(alone).weight)
    assert not bool(both[1].bias.any())


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.LSTM(3, 2), "LSTM"),
        (nn.MultiheadAttention(4, 2), "MultiheadAttention"),
        (nn.ConvTranspose2d(1, 2, 3), "ConvTranspose2d"),
        (nn.Bilinear(2, 2, 2), "Bilinear"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "ParametrizationList"),
    ],
)
def test_a_layer_without_a_rule_is_refused_by_name_before_any_draw(
    layer: nn.Module, name: str
) -> None:
    network = nn.Sequential(nn.Linear(2, 2), layer)
    before = copy.deepcopy(network[0].weight)
    with pytest.raises(ConfigError, match=rf"'1.*' \({name}\) has no rule to initialise its "):
        begun(network)
    assert torch.equal(network[0].weight, before)


def test_draws_from_elsewhere_than_torch_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = np.random.default_rng(0)

    class Elsewhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.from_numpy(elsewhere.standard_normal(3)))

    monkeypatch.setitem(
        FOREIGN, "elsewhere", lambda c: nn.Sequential(nn.Flatten(), nn.Linear(64, c), Elsewhere())
    )
    with pytest.raises(ConfigError, match=r"'foreign' builds a different '2\.scale' each time"):
        setup_of("elsewhere")


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: nn.BatchNorm1d(64, track_running_stats=False), "in different batches"),
        (Centring, "in different batches"),
        (AlwaysNoisy, "from call to call"),
    ],
)
def test_a_network_that_does_not_evaluate_samples_alone_is_refused(
    layer: Callable[[], nn.Module], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its metrics would depend on how many samples are seen at once."""
    monkeypatch.setitem(
        FOREIGN, "odd", lambda c: nn.Sequential(nn.Flatten(), layer(), nn.Linear(64, c))
    )
    with pytest.raises(
        ConfigError, match=f"'foreign' in evaluation gives a sample different outputs {reason}"
    ):
        setup_of("odd")


def test_traits_of_the_known_networks() -> None:
    traits = traits_of(MLPConfig(width=7, depth=2).build((2,), 3))
    assert traits.unusual is None
    assert traits.relu_mlp == (2, 7, 7, 3)
    assert traits.one_hidden_layer is None
    assert traits_of(MLPConfig(width=7).build((1, 8, 8), 3)).one_hidden_layer == (64, 7, 3)
    assert traits_of(MLPConfig(depth=0).build((2,), 3)).relu_mlp == (2, 3)
    for channels, config in ((6, Myrtle5Config(channels=6)), (None, WideResNetConfig())):
        traits = traits_of(config.build((3, 8, 8), 10))
        assert (traits.channels, traits.relu_mlp) == (channels, None)
    network = MLPConfig().build((2,), 3)

    class Another(type(network)):  # type: ignore[misc]
        pass

    assert "Another" in str(traits_of(Another(2, [3], 3)).unusual)


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if kind != "a multilayer perceptron"])
def test_nothing_but_a_multilayer_perceptron_is_taken_for_one(kind: str) -> None:
    assert foreign_problem(kind).traits.relu_mlp is None
    assert "multilayer perceptrons, not 'foreign'" in str(
        BatchedEngine.refusal(foreign_problem(kind))
    )


def test_a_foreign_configuration_of_a_known_network_has_its_engines() -> None:
    assert choose_engine(foreign_problem("a multilayer perceptron")) is BatchedEngine


# --- curvature ------------------------------------------------------------------------------------


def test_a_network_whose_derivative_is_no_hessian_is_not_measured() -> None:
    setup = setup_of("embedding that pads")
    data = [setup.splits[0].train.to(torch.float64, "cpu")]
    with pytest.raises(LandscapeError, match="leaves row 3 out of its gradient"):
        TrackedProblem(setup.networks[0].eval(), "cross_entropy", data, [1, 2])


# --- a loss of which only the value is known --------------------------------------------------------


def test_a_loss_without_a_form_is_refused_by_the_engines_that_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = foreign_problem("layer normalisation", model=MLPConfig(width=5))
    bare = replace(LOSSES["cross_entropy"], gradient=None, curvature=None, kernel=None)
    expected = list(AutogradEngine(Setup.build(problem, TWO_MEMBERS)).evaluations())
    monkeypatch.setitem(LOSSES, "cross_entropy", bare)
    assert "'cross_entropy' has no closed-form gradient" in str(BatchedEngine.refusal(problem))
    engine = choose_engine(problem)
    assert engine not in (BatchedEngine, FusedCPUEngine)
    assert_equal(
        list(engine(Setup.build(problem, TWO_MEMBERS)).evaluations()), expected, exactly=False
    )
