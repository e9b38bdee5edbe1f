"""What a network that no engine was written for is promised: one seed gives one network, the number
of threads changes nothing, resumed equals uninterrupted, and every engine agrees or refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.config import ConfigError
from dynloss_core.landscape.refusals import LandscapeError
from dynloss_core.landscape.trackers.choose_tracker import choose_tracker, stack_parameters
from dynloss_core.landscape.trackers.tracker import TrackedProblem, Tracking
from dynloss_core.losses import LOSSES
from dynloss_core.models import (
    MLPConfig,
    Myrtle5Config,
    WideResNetConfig,
    initialise,
    traits_of,
)
from dynloss_core.seeding import Stream, generator
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    ConvnetEngine,
    Engine,
    Evaluation,
    FusedCPUEngine,
    Member,
    Setup,
    VmappedEngine,
    choose_engine,
)
from tests.contracts.engines import assert_equal
from tests.foreign import FOREIGN, foreign_problem

MEMBERS = (
    Member(0.05, seed=1, period=3, amplitude=20.0, momentum=0.9, weight_decay=1e-2),
    Member(0.1, seed=2),
)
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


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.random.set_rng_state(state)


def setup_of(kind: str) -> Setup:
    return Setup.build(foreign_problem(kind), MEMBERS)


def trained(engine: type[Engine], kind: str) -> list[Evaluation]:
    return list(engine(setup_of(kind)).evaluations())


@every_kind
def test_one_seed_is_one_network(kind: str) -> None:
    """Whatever torch's random state is, which is left alone."""
    states = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002  the state that is not ours
        before = torch.random.get_rng_state()
        states.append([network.state_dict() for network in setup_of(kind).networks])
        assert torch.equal(torch.random.get_rng_state(), before)
    for one, other in zip(*states, strict=True):
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    first, second = states[0]
    assert not all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@every_kind
def test_the_number_of_threads_changes_nothing(kind: str) -> None:
    found = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        torch.manual_seed(len(found))
        found.append(trained(AutogradEngine, kind))
    assert_equal(found[1], found[0], exactly=True)
    assert_equal(found[2], found[0], exactly=True)


@every_kind
@pytest.mark.parametrize("engine", ENSEMBLE_ENGINES, ids=lambda each: each.__name__)
def test_an_engine_agrees_or_refuses(kind: str, engine: type[Engine]) -> None:
    problem = foreign_problem(kind)
    if engine.refusal(problem) is not None:
        if engine is ConvnetEngine:
            assert kind in TRAINED_BY_AUTOGRAD_ALONE
        return
    assert kind not in TRAINED_BY_AUTOGRAD_ALONE
    torch.set_num_threads(2)
    found, expected = engine(setup_of(kind)), AutogradEngine(setup_of(kind))
    assert_equal(list(found.evaluations()), list(expected.evaluations()), exactly=False)
    for member in range(len(MEMBERS)):
        wanted = expected.parameters(member)
        assert found.parameters(member).keys() == wanted.keys()
        for name, tensor in found.parameters(member).items():
            torch.testing.assert_close(tensor, wanted[name], rtol=1e-9, atol=1e-12)


@every_kind
def test_auto_takes_an_engine_that_can(kind: str) -> None:
    engine = choose_engine(foreign_problem(kind))
    assert (engine is AutogradEngine) == (kind in TRAINED_BY_AUTOGRAD_ALONE)
    if engine is AutogradEngine:
        for name in ("convnet", "batched"):
            with pytest.raises(ConfigError, match="of the network 'foreign', "):
                choose_engine(foreign_problem(kind), name)  # type: ignore[arg-type]


@every_kind
def test_resumed_equals_uninterrupted_bit_for_bit(kind: str, tmp_path: Path) -> None:
    engine = choose_engine(foreign_problem(kind))
    whole = trained(engine, kind)
    first, found = engine(setup_of(kind)), []
    for evaluation in first.evaluations():
        found.append(evaluation)
        if len(found) == 2:
            break
    save_checkpoint(tmp_path / "state.pt", first.state_dict())
    second, state = engine(setup_of(kind)), load_checkpoint(tmp_path / "state.pt")
    assert state is not None
    second.load_state_dict(state)
    assert_equal(found + list(second.evaluations()), whole, exactly=True)


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
    with pytest.raises(ConfigError, match=rf"'1.*' \({name}\) has no rule that initialises its "):
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
    with pytest.raises(ConfigError, match=r"'foreign' builds another '2\.scale' each time"):
        setup_of("elsewhere")


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: nn.BatchNorm1d(64, track_running_stats=False), "in other company"),
        (Centring, "in other company"),
        (AlwaysNoisy, "at every call"),
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
        ConfigError, match=f"'foreign' in evaluation gives a sample other outputs {reason}"
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


def tracked(kind: str) -> TrackedProblem:
    setup = setup_of(kind)
    data = [setup.splits[0].train.to(torch.float64, "cpu")]
    return TrackedProblem(setup.networks[0].eval(), "cross_entropy", data, [1, 2])


@every_kind
def test_the_chosen_tracker_agrees_with_the_sequential_one(kind: str) -> None:
    if kind == "embedding that pads":
        with pytest.raises(LandscapeError, match="leaves row 3 out of its gradient"):
            tracked(kind)
        return
    if kind == "random leaks":
        pytest.skip("torch cannot take its tangent kernel, and says so")
    problem = tracked(kind)
    networks = [network.state_dict() for network in setup_of(kind).networks]
    weights = torch.tensor([[1.0, 2.0, 0.5], [1.0, 1.0, 1.0]], dtype=torch.float64)
    found = [
        choose_tracker(problem, name=name)(problem, Tracking(tolerance=1e-6)).measure(
            stack_parameters(networks), weights
        )
        for name in ("auto", "sequential")
    ]
    torch.testing.assert_close(found[0].hessian.value, found[1].hessian.value, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found[0].ntk.value, found[1].ntk.value, rtol=1e-6, atol=1e-9)


# --- a loss of which only the value is known --------------------------------------------------------


def test_a_loss_without_a_form_is_refused_by_the_engines_that_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = foreign_problem("layer normalisation", model=MLPConfig(width=5))
    bare = replace(LOSSES["cross_entropy"], gradient=None, curvature=None, kernel=None)
    expected = list(AutogradEngine(Setup.build(problem, MEMBERS)).evaluations())
    monkeypatch.setitem(LOSSES, "cross_entropy", bare)
    assert "'cross_entropy' has no gradient" in str(BatchedEngine.refusal(problem))
    engine = choose_engine(problem)
    assert engine not in (BatchedEngine, FusedCPUEngine)
    assert_equal(list(engine(Setup.build(problem, MEMBERS)).evaluations()), expected, exactly=False)
