"""Every oscillation, by every engine that takes it: against a loop of a few lines, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from dynloss_core import ClassWeightSchedule, DynamicalCrossEntropy
from dynloss_core.config import ConfigError
from dynloss_core.data import Labelled, SpiralsConfig, Splits
from dynloss_core.landscape import (
    HessianOperator,
    TrackedProblem,
    Tracking,
    choose_tracker,
    stack_parameters,
    valley,
)
from dynloss_core.landscape.trackers.choose_tracker import CurvatureTrackerName
from dynloss_core.losses import LossName
from dynloss_core.models import MLPConfig
from dynloss_core.oscillation import GROUPS, ORDERS, SHAPES, GroupsName, Oscillation
from dynloss_core.seeding import Stream, generator
from dynloss_core.testing import ShapeContract
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    ConvnetEngine,
    FusedCPUEngine,
    Member,
    Probes,
    Problem,
    Setup,
    VmappedEngine,
    choose_engine,
)
from tests.contracts.engines import ENGINES
from tests.contracts.inherited import inherited

STEPS, TAIL, PERIOD, AMPLITUDE = 40, 7, 6, 5.0
PROBLEM = Problem(
    data=SpiralsConfig(points_per_class=9),
    model=MLPConfig(width=5),
    steps=STEPS,
    static_tail=TAIL,
    evaluate_every=10,
    dtype="float64",
)
OSCILLATIONS = {
    "published": Oscillation(),
    **{f"{groups} groups": Oscillation(groups=groups) for groups in GROUPS if groups != "own"},
    **{f"{order} order": Oscillation(order=order) for order in ORDERS},
    **{shape: Oscillation(shape=shape) for shape in SHAPES},
    "down": Oscillation(direction="down"),
    "later": Oscillation(phase=0.4),
    "raw": Oscillation(normalised=False),
    "five random groups": Oscillation(groups="random", number=5, order="permuted"),
    "one group, raw": Oscillation(groups="all", shape="sine", normalised=False),
    "samples, raw": Oscillation(groups="samples", shape="square", normalised=False),
}


def elevation(shape: str, tau: int) -> float:
    return {
        "triangle": 2 * min(tau, PERIOD - tau) / PERIOD,
        "sine": math.sin(math.pi * tau / PERIOD) ** 2,
        "square": float(PERIOD / 4 <= tau < 3 * PERIOD / 4),
        "sawtooth": tau / (PERIOD - 1),
    }[shape]


def raw_weight(oscillation: Oscillation, step: int, phase: float) -> float:
    tau = (step + math.floor(phase * PERIOD)) % PERIOD
    m = 1 + (AMPLITUDE - 1) * elevation(oscillation.shape, tau)
    return m if oscillation.direction == "up" else 1 / m


def weights_by_hand(oscillation: Oscillation, groups: int, step: int, seed: int) -> list[float]:
    if oscillation.groups == "samples":
        phases = generator(seed, Stream.OSCILLATION, 2).random(groups)
        raw = [raw_weight(oscillation, step, phase) for phase in phases]
    elif oscillation.groups == "all":
        whole = [raw_weight(oscillation, tau, 0) for tau in range(PERIOD)]
        mean = sum(whole) / PERIOD if oscillation.normalised else 1
        return [raw_weight(oscillation, step, oscillation.phase) / mean]
    else:
        turn, place = divmod((step + math.floor(oscillation.phase * PERIOD)) // PERIOD, groups)
        draws = generator(seed, Stream.OSCILLATION, 1, turn)
        active = {
            "cyclic": lambda: place,
            "permuted": lambda: draws.permutation(groups)[place],
            "random": lambda: draws.integers(groups, size=groups)[place],
        }[oscillation.order]()
        m = raw_weight(oscillation, step, oscillation.phase)
        raw = [m if group == active else 1.0 for group in range(groups)]
    scale = groups / sum(raw) if oscillation.normalised else 1
    return [scale * value for value in raw]


def trained_by_hand(oscillation: Oscillation, seed: int) -> tuple[list[torch.Tensor], list[float]]:
    """The parameters of one network at the end, and F before each update."""
    setup = Setup.build(replace(PROBLEM, oscillation=oscillation), [Member(0.3, seed=seed)])
    data, network = setup.splits[0].train, setup.networks[0]
    parameters = [tensor.detach().clone().requires_grad_() for tensor in network.parameters()]
    groups = oscillation.assign(data.targets, 3, seed)
    stop = (STEPS - TAIL) // PERIOD * PERIOD
    seen = []
    for step in range(STEPS):
        count = oscillation.count(3, len(data))
        weights = weights_by_hand(oscillation, count, step, seed) if step < stop else [1.0] * count
        into, offset, out, bias = parameters
        outputs = torch.relu(data.inputs @ into.T + offset) @ out.T + bias
        losses = cross_entropy(outputs, data.targets, reduction="none")
        loss = sum(weights[g] * one for g, one in zip(groups.tolist(), losses, strict=True)) / len(
            losses
        )
        seen.append(loss.item())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for tensor, gradient in zip(parameters, gradients, strict=True):
                tensor -= 0.3 * gradient
    return [tensor.detach() for tensor in parameters], seen


@pytest.mark.parametrize("oscillation", OSCILLATIONS.values(), ids=OSCILLATIONS)
def test_every_engine_against_a_loop_of_a_few_lines(oscillation: Oscillation) -> None:
    problem = replace(PROBLEM, oscillation=oscillation)
    members = [Member(0.3, seed=seed, period=PERIOD, amplitude=AMPLITUDE) for seed in (3, 4)] + [
        Member(0.3, seed=3)
    ]
    expected = [trained_by_hand(oscillation, seed) for seed in (3, 4)]
    able = [engine for engine in ENGINES if engine.refusal(problem) is None]
    assert {FusedCPUEngine, BatchedEngine, VmappedEngine, ConvnetEngine, AutogradEngine} <= set(
        able
    )
    for engine in able:
        trained = engine(Setup.build(problem, members), traced=(0, 1, 2))
        history = trained.run()
        assert history.trace is not None
        for row, (parameters, seen) in enumerate(expected):
            found = trained.parameters(row).values()
            for one, other in zip(found, parameters, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
            loss = torch.tensor(seen, dtype=torch.float64)
            torch.testing.assert_close(
                history.trace.weighted_loss[:, row], loss, rtol=1e-9, atol=1e-11
            )
            reported = torch.stack([each.weighted_loss[row] for each in history.evaluations[:-1]])
            torch.testing.assert_close(reported, loss[::10], rtol=1e-9, atol=1e-11)
        static = history.trace.weighted_loss[:, 2]
        torch.testing.assert_close(static, history.trace.loss[:, 2], rtol=1e-12, atol=0)


@pytest.mark.parametrize("oscillation", OSCILLATIONS.values(), ids=OSCILLATIONS)
def test_amplitude_one_is_the_static_loss_bit_for_bit(oscillation: Oscillation) -> None:
    problem = replace(PROBLEM, oscillation=oscillation)
    engine = choose_engine(problem, "autograd")
    flat = engine(Setup.build(problem, [Member(0.3, seed=3, period=5, amplitude=1.0)]))
    static = choose_engine(PROBLEM, "autograd")(Setup.build(PROBLEM, [Member(0.3, seed=3)]))
    flat.run()
    static.run()
    for name, tensor in static.parameters(0).items():
        assert torch.equal(flat.parameters(0)[name], tensor)


def test_stratified_groups_that_have_one_turn_are_all_classes_in_equal_shares() -> None:
    targets = torch.arange(3).repeat_interleave(torch.tensor([20, 10, 5]))
    for seed in range(5):
        stratified = Oscillation(groups="stratified", number=5).assign(targets, 3, seed)
        table = torch.zeros(5, 3).index_put((stratified, targets), torch.ones(35), accumulate=True)
        assert table.sum(1).tolist() == [7.0] * 5
        assert (table - torch.tensor([4.0, 2.0, 1.0])).abs().max() <= 1
        random = Oscillation(groups="random").assign(targets, 3, seed)
        assert sorted(random.bincount().tolist()) == [11, 12, 12]
        assert not torch.equal(random, Oscillation(groups="random").assign(targets, 3, seed + 5))


@given(
    st.sampled_from(list(OSCILLATIONS)), st.integers(2, 400), st.floats(1, 100),
    st.lists(st.integers(0, 5000), min_size=1, max_size=6), st.integers(0, 2**31),
)  # fmt: skip
def test_weights_are_the_same_whoever_asks_and_when(
    name: str, period: int, amplitude: float, steps: list[int], seed: int
) -> None:
    oscillation = OSCILLATIONS[name]
    groups = oscillation.count(3, 8)
    schedule = ClassWeightSchedule(groups, period, amplitude, oscillation=oscillation, seed=seed)
    together = schedule(torch.tensor(steps), dtype=torch.float64)
    assert bool((together > 0).all())
    for row, step in zip(together, steps, strict=True):
        assert torch.equal(row, schedule(step, dtype=torch.float64))
    if oscillation.normalised and groups > 1:
        np.testing.assert_allclose(together.mean(-1), 1, rtol=1e-12)


def test_a_cycle_of_the_whole_loss_has_a_mean_of_one() -> None:
    for shape in SHAPES:
        oscillation = Oscillation(groups="all", shape=shape)
        for period in (2, 3, 10, 101):
            schedule = ClassWeightSchedule(1, period, 70.0, oscillation=oscillation)
            mean = schedule(torch.arange(period), dtype=torch.float64).mean()
            assert float(mean) == pytest.approx(1, rel=1e-12)


def test_the_module_takes_groups() -> None:
    oscillation = Oscillation(groups="random", number=2)
    targets = torch.tensor([0, 1, 2, 0])
    groups = oscillation.assign(targets, 3, seed=1)
    criterion = DynamicalCrossEntropy(3, 4, 3.0, oscillation=oscillation)
    criterion.current_step = 2
    logits = torch.randn(4, 3, dtype=torch.float64)
    losses = cross_entropy(logits, targets, reduction="none")
    weights = torch.tensor([1.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(
        criterion(logits, targets, groups), (weights[groups] * losses).mean()
    )
    with pytest.raises(ValueError, match="give the group of each sample"):
        criterion(logits, targets)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"groups": "clusters"}, "groups: 'clusters' is not one of the choices"),
        ({"number": 3}, "number: given for groups 'classes'; use it with random, stratified"),
        ({"groups": "random", "number": 1}, "number: 1 is below 2; use >= 2, or groups: all"),
        ({"groups": "own"}, "number: missing for groups 'own'; give the number of groups"),
        ({"phase": 1.0}, r"phase: 1.0 is not a fraction of a period; use \[0, 1\)"),
    ],
)
def test_what_cannot_oscillate_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Oscillation(**changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class HalvesConfig(SpiralsConfig):
    """Spirals whose training points are in one of two halves, the inner or the outer."""

    def load(self, seed: int) -> Splits:
        splits = super().load(seed)
        outer = splits.train.inputs.norm(dim=1) > 0.5
        return replace(splits, train=replace(splits.train, groups=outer.long()))


def test_a_data_set_may_give_groups_of_its_own() -> None:
    data = HalvesConfig(points_per_class=12)
    own = replace(PROBLEM, data=data, oscillation=Oscillation(groups="own", number=2))
    members = [Member(0.3, seed=3, period=PERIOD, amplitude=AMPLITUDE)]
    setup = Setup.build(own, members)
    given = data.load(3).train.groups
    assert given is not None
    assert torch.equal(setup.splits[0].train.groups, given)
    expected = list(AutogradEngine(setup).evaluations())
    for engine in (BatchedEngine, FusedCPUEngine):
        found = list(engine(Setup.build(own, members)).evaluations())
        torch.testing.assert_close(found[-1].train_loss, expected[-1].train_loss)
    by_class = Setup.build(replace(PROBLEM, data=data), members)
    assert by_class.groups() is None, "classes oscillate, whatever groups there are"
    plain = Setup.build(replace(PROBLEM, data=SpiralsConfig(points_per_class=12)), members)
    one, other = (list(AutogradEngine(each).evaluations())[-1] for each in (by_class, plain))
    assert torch.equal(one.train_loss, other.train_loss)


def test_own_groups_must_be_there() -> None:
    problem = replace(PROBLEM, oscillation=Oscillation(groups="own", number=2))
    with pytest.raises(ConfigError, match="groups: 'own', but the data set gives no groups"):
        Setup.build(problem, [Member(0.3, seed=0)])


def test_own_groups_are_counted_from_nought() -> None:
    with pytest.raises(ConfigError, match="number: 2, but a training sample is in group 2"):
        Oscillation(groups="own", number=2).assign(torch.zeros(3), 2, 0, torch.tensor([0, 1, 2]))


def test_a_loss_that_weights_outputs_has_no_groups_of_samples() -> None:
    with pytest.raises(ConfigError, match=r"oscillation\.groups: the loss 'mse_output_weighted'"):
        replace(PROBLEM, loss="mse_output_weighted", oscillation=Oscillation(groups="all"))


@pytest.mark.parametrize(
    "tracker", ["compiled", "stacked", pytest.param("sequential", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("groups", ["random", "all", "samples"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse_sample_weighted"])
def test_the_curvature_is_that_of_the_loss_of_the_groups(
    loss: LossName, groups: GroupsName, tracker: CurvatureTrackerName
) -> None:
    """Against a dense Hessian, of losses that are added up sample by sample."""
    problem = replace(PROBLEM, loss=loss, oscillation=Oscillation(groups=groups))
    members = [Member(0.3, seed=seed, period=PERIOD, amplitude=AMPLITUDE) for seed in (3, 4)]
    setup = Setup.build(problem, members)
    weights = setup.class_weights(torch.tensor([4]))[0]  # (M, G)
    tracked = TrackedProblem(
        setup.networks[0], loss, [splits.train for splits in setup.splits], [3, 4]
    )
    networks = [dict(network.named_parameters()) for network in setup.networks]
    tracking = Tracking(tolerance=1e-7)
    measured = choose_tracker(tracked, name=tracker)(tracked, tracking).measure(
        stack_parameters(networks), weights
    )
    for row, (network, splits) in enumerate(zip(setup.networks, setup.splits, strict=True)):
        data = splits.train
        assert data.groups is not None
        sizes = [tensor.numel() for tensor in network.parameters()]

        def value(
            flat: torch.Tensor,
            own: torch.Tensor = weights[row],
            data: Labelled = data,
            network: torch.nn.Module = network,
            sizes: list[int] = sizes,
        ) -> torch.Tensor:
            parts = zip(network.named_parameters(), flat.split(sizes), strict=True)
            named = {name: part.view_as(tensor) for (name, tensor), part in parts}
            outputs = torch.func.functional_call(network, named, (data.inputs,))
            if loss == "cross_entropy":
                losses = cross_entropy(outputs, data.targets, reduction="none")
            else:
                losses = ((outputs - torch.eye(3).double()[data.targets]) ** 2).mean(-1)
            return (own[data.groups] * losses).mean()

        flat = torch.cat([tensor.detach().flatten() for tensor in network.parameters()])
        dense = torch.func.hessian(value)(flat)
        largest = torch.linalg.eigvalsh(dense)[-1]
        torch.testing.assert_close(measured.hessian.value[row], largest, rtol=1e-6, atol=0)
        operator = HessianOperator(network, loss, data, weights[row], batch_size=10)
        torch.testing.assert_close(operator.dense(), dense, rtol=0, atol=1e-12)
        line = valley(network, loss, data, weights[row], batch_size=10)
        along = [value(flat + float(s) * line.direction) for s in line.offsets]
        torch.testing.assert_close(line.weighted_loss, torch.stack(along), rtol=1e-9, atol=1e-12)


def test_an_engine_measures_the_curvature_of_what_it_trains_on() -> None:
    """Of groups too, and on the way of the caps of learning rates."""
    problem = replace(PROBLEM, oscillation=Oscillation(groups="stratified"))
    members = [Member(0.3, seed=seed, period=PERIOD, amplitude=AMPLITUDE) for seed in (3, 4)]
    runs = [
        engine(Setup.build(problem, members), probes=Probes(members=(0, 1), every=5)).run()
        for engine in (FusedCPUEngine, AutogradEngine)
    ]
    fused, reference = (run.curvature for run in runs)
    assert fused is not None
    assert reference is not None
    torch.testing.assert_close(
        fused.hessian_lambda_max, reference.hessian_lambda_max, rtol=1e-6, atol=1e-9
    )


globals().update(inherited(ShapeContract, "shape", {shape: shape for shape in SHAPES}))
