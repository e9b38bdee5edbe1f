"""Trackers that follow the curvature of an ensemble while it trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dynloss_core.data import SpiralsConfig
from dynloss_core.landscape import (
    LandscapeError,
    TrackedProblem,
    Tracking,
    choose_tracker,
    hessian_top,
    ntk_top,
    stack_parameters,
)
from dynloss_core.losses import LossName
from dynloss_core.models import MLP, MLPConfig, Myrtle5
from dynloss_core.training import FusedCPUEngine, Member, Problem, Setup
from tests.core.landscape.cases import LOSSES, labelled, network_like, weights_of
from tests.core.landscape.ensembles import Ensemble, assert_same, drift, member
from tests.core.landscape.reference import moments

each_loss = pytest.mark.parametrize("loss", LOSSES)


@pytest.fixture(params=["compiled", "stacked", "sequential"])
def tracker_name(request: pytest.FixtureRequest) -> str:
    if request.param == "compiled":
        pytest.importorskip("numba")
    return str(request.param)


@each_loss
@pytest.mark.parametrize("width", [1, 11, 64])
def test_equals_the_members_one_by_one(loss: LossName, width: int, tracker_name: str) -> None:
    ensemble = Ensemble(loss=loss, width=width)
    found = ensemble.measured(ensemble.tracker(tracker_name, tolerance=1e-8, ntk_samples=9))
    assert found.hessian.converged.all()
    assert found.ntk.converged.all()
    for m, network in enumerate(ensemble.networks):
        data, gamma = ensemble.data[m], ensemble.class_weights[m]
        expected = hessian_top(network, loss, data, gamma, tolerance=1e-9).values[0]
        torch.testing.assert_close(found.hessian.value[m], expected, rtol=1e-9, atol=1e-9)
        expected = ntk_top(network, data.inputs[:9], tolerance=1e-9).values[0]
        torch.testing.assert_close(found.ntk.value[m], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "classes"), [(2, 4)], ids=lambda value: str(value))
def test_other_numbers_of_inputs_and_classes(inputs: int, classes: int, tracker_name: str) -> None:
    network = network_like(MLP(inputs, [9], classes), seed=3)
    data, gamma = labelled(13, (inputs,), classes, seed=3), weights_of(classes, seed=3)
    problem = TrackedProblem(network, "cross_entropy", [data], [0])
    tracker = choose_tracker(problem, name=tracker_name)(problem, Tracking(tolerance=1e-8))  # type: ignore[arg-type]
    found = tracker.measure(stack_parameters([dict(network.named_parameters())]), gamma[None])
    expected = hessian_top(network, "cross_entropy", data, gamma, tolerance=1e-9).values
    torch.testing.assert_close(found.hessian.value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "network",
    [MLP(2, [5, 4], 3), MLP(2, [], 3), Myrtle5(1, 2, 3)],
    ids=["two hidden layers", "linear", "convnet"],
)
def test_other_networks(network: nn.Module) -> None:
    shape = (1, 8, 8) if isinstance(network, Myrtle5) else (2,)
    members = [network_like(type_like(network), seed, scale=0.4) for seed in (1, 2)]
    data, gamma = labelled(9, shape, 3, seed=1), torch.stack([weights_of(3, s) for s in (1, 2)])
    problem = TrackedProblem(members[0], "cross_entropy", [data], [0, 1])
    tracking = Tracking(tolerance=1e-8, max_samples_per_pass=12)
    tracker = choose_tracker(problem)(problem, tracking)
    assert tracker.name == "stacked"
    found = tracker.measure(
        stack_parameters([dict(each.named_parameters()) for each in members]), gamma
    )
    for m, each in enumerate(members):
        top = hessian_top(each, "cross_entropy", data, gamma[m], tolerance=1e-9)
        torch.testing.assert_close(found.hessian.value[m], top.values[0], rtol=1e-9, atol=1e-9)
        top = ntk_top(each, data.inputs, tolerance=1e-9)
        torch.testing.assert_close(found.ntk.value[m], top.values[0], rtol=1e-9, atol=1e-9)


def type_like(network: nn.Module) -> nn.Module:
    if isinstance(network, MLP):
        sizes = [int(layer.out_features) for layer in network.layers]  # type: ignore[arg-type]
        return MLP(2, sizes[:-1], sizes[-1])
    return Myrtle5(1, 2, 3)


def test_a_member_does_not_see_its_neighbours(tracker_name: str) -> None:
    """Bit for bit, also what it starts from the next time."""
    ensemble, other = Ensemble(3), Ensemble(3)
    for place in (0, 2):
        network_like(other.networks[place], seed=40 + place)
    here, there = ensemble.tracker(tracker_name), other.tracker(tracker_name)
    for seed in range(4):
        one = ensemble.measured(here)
        two = other.measured(there)
        assert_same(member(one, 1), member(two, 1))
        drift(ensemble, seed)
        drift(other, seed)


def test_a_member_measured_alone_yields_the_same(tracker_name: str) -> None:
    ensemble = Ensemble(3)
    everyone = ensemble.tracker(tracker_name)
    singles = [ensemble.alone(m).tracker(tracker_name) for m in range(3)]
    for seed in range(3):
        together = ensemble.measured(everyone)
        for m, single in enumerate(singles):
            one = ensemble.alone(m)
            alone = one.measured(single)
            assert_same(member(together, m), member(alone, 0), tolerance=1e-9)
        drift(ensemble, seed)


def test_threads_change_nothing(tracker_name: str) -> None:
    ensemble = Ensemble(5)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        tracker = ensemble.tracker(tracker_name)
        found.append(ensemble.measured(tracker))
    torch.set_num_threads(before)
    for m in range(5):
        assert_same(member(found[0], m), member(found[1], m), tolerance=1e-12)


def test_resumed_equals_uninterrupted_bit_for_bit(tracker_name: str) -> None:
    ensemble = Ensemble(2)
    tracker = ensemble.tracker(tracker_name)
    ensemble.measured(tracker)
    drift(ensemble, seed=1)
    state = tracker.state_dict()
    expected = ensemble.measured(tracker)
    resumed = ensemble.tracker(tracker_name)
    resumed.load_state_dict(state)
    found = ensemble.measured(resumed)
    for m in range(2):
        assert_same(member(found, m), member(expected, m))


def test_one_tracker_goes_on_where_another_stopped() -> None:
    pytest.importorskip("numba")
    ensemble = Ensemble(2)
    for first, second in (("compiled", "stacked"), ("stacked", "compiled")):
        one, other = ensemble.tracker(first), ensemble.tracker(second)
        ensemble.measured(one)
        other.load_state_dict(one.state_dict())
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
        again = ensemble.measured(one)
        found = ensemble.measured(other)
        torch.testing.assert_close(found.hessian.value, again.hessian.value, rtol=1e-6, atol=0)
        assert (found.hessian.iterations - again.hessian.iterations).abs().max() <= 1
    with pytest.raises(LandscapeError, match="a tracker's state of shapes"):
        Ensemble(3).tracker("stacked").load_state_dict(one.state_dict())


def test_a_diverged_member_is_nan_and_disturbs_nobody(tracker_name: str) -> None:
    ensemble = Ensemble(3)
    fine = ensemble.measured(ensemble.tracker(tracker_name))
    tracker = ensemble.tracker(tracker_name)
    lost = {name: tensor.detach().clone() for name, tensor in ensemble.parameters.items()}
    for tensor in lost.values():
        tensor[1] = torch.nan
    found = tracker.measure(lost, ensemble.class_weights)
    assert found.hessian.value[1].isnan()
    assert found.ntk.residual[1].isnan()
    assert not found.hessian.converged[1]
    for m in (0, 2):
        assert_same(member(found, m), member(fine, m))
    later = ensemble.measured(tracker)
    torch.testing.assert_close(later.hessian.value, fine.hessian.value, rtol=1e-5, atol=0)


def test_parameters_of_zero_leave_the_output_biases(tracker_name: str) -> None:
    """Where a frozen member is, only the biases of the outputs count."""
    ensemble = Ensemble(1)
    with torch.no_grad():
        for parameter in ensemble.networks[0].parameters():
            parameter.zero_()
    found = ensemble.measured(ensemble.tracker(tracker_name, tolerance=1e-9))
    gamma = ensemble.class_weights[0][ensemble.data[0].targets].mean()
    assert found.hessian.value.item() == pytest.approx(gamma.item() / 3, rel=1e-9)
    assert found.ntk.value.item() == pytest.approx(20.0, rel=1e-12)


def test_single_precision_parameters(tracker_name: str) -> None:
    ensemble = Ensemble(2)
    exact = ensemble.measured(ensemble.tracker(tracker_name))
    single = {name: tensor.float() for name, tensor in ensemble.parameters.items()}
    found = ensemble.tracker(tracker_name).measure(single, ensemble.class_weights)
    assert found.hessian.value.dtype == torch.float64
    torch.testing.assert_close(found.hessian.value, exact.hessian.value, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.ntk.value, exact.ntk.value, rtol=1e-4, atol=0)
    assert found.hessian.converged.all()


def test_gives_up_honestly(tracker_name: str) -> None:
    ensemble = Ensemble(2)
    tracker = ensemble.tracker(tracker_name, tolerance=1e-9, max_iterations=3)
    found = ensemble.measured(tracker)
    assert not found.hessian.converged.any()
    assert (found.hessian.iterations == 3).all()
    assert (found.hessian.residual > 1e-9 * found.hessian.value).all()


def test_a_start_that_is_no_longer_the_largest_is_left(tracker_name: str) -> None:
    """The class weights jump from one class to another, and the eigenvector with them."""
    ensemble = Ensemble(3, width=40)
    tracker = ensemble.tracker(tracker_name)
    for active in range(3):
        gamma = torch.full((3, 3), 0.05).double()
        gamma[:, active] = 2.9
        for _ in range(3):  # the start is then an eigenvector to many digits
            found = tracker.measure(ensemble.parameters, gamma)
        for m, network in enumerate(ensemble.networks):
            top = hessian_top(network, "cross_entropy", ensemble.data[m], gamma[m], tolerance=1e-8)
            torch.testing.assert_close(found.hessian.value[m], top.values[0], rtol=1e-5, atol=0)


def test_follows_the_reference_trajectories(trajectory: Path, tracker_name: str) -> None:
    run = moments(trajectory)
    problem = TrackedProblem(
        MLP(2, [run.parameters["layers.0.bias"].shape[1]], 3), "cross_entropy", [run.data], [0]
    )
    tracker = choose_tracker(problem, name=tracker_name)(problem, Tracking(tolerance=1e-5))  # type: ignore[arg-type]
    found = [
        tracker.measure(
            {name: each[k : k + 1] for name, each in run.parameters.items()}, gamma[None]
        )
        for k, gamma in enumerate(run.class_weights)
    ]
    value = torch.cat([each.hessian.value for each in found])
    torch.testing.assert_close(value, run.hessian, rtol=1e-8, atol=0)
    kernel = torch.cat([each.ntk.value for each in found])
    torch.testing.assert_close(3 * kernel, run.ntk, rtol=1e-8, atol=0)


@pytest.mark.slow
def test_follows_chaos(tracker_name: str) -> None:
    """A run beyond its instabilities, at 3 times the paper's learning rate, every 25 steps: values
    are those of a cold start, to the square of the tolerance, and what is said of them holds."""
    pytest.importorskip("numba")
    member = Member(3.0, seed=2, period=200, amplitude=20.0)
    problem = Problem(
        data=SpiralsConfig(points_per_class=30),
        model=MLPConfig(width=30),
        dtype="float64",
        steps=3000,
        static_tail=0,
        evaluate_every=25,
    )
    setup = Setup.build(problem, [member])
    engine = FusedCPUEngine(setup)
    data, network = setup.splits[0].train, MLP(2, [30], 3).double()
    tracked = TrackedProblem(network, "cross_entropy", [data], [0])
    tracker = choose_tracker(tracked, name=tracker_name)(tracked)  # type: ignore[arg-type]
    warm, cold, residual, products = [], [], [], 0
    for evaluation in engine.evaluations():
        gamma = setup.class_weights(torch.tensor([evaluation.step]))[0]
        found = tracker.measure(stack_parameters([engine.parameters(0)]), gamma)
        assert found.hessian.converged.all()
        network.load_state_dict(engine.parameters(0))
        one = stack_parameters([engine.parameters(0)])
        fresh = choose_tracker(tracked, name="stacked")(tracked, Tracking(tolerance=1e-7))
        cold.append(fresh.measure(one, gamma).hessian.value)
        warm.append(found.hessian.value)
        residual.append(found.hessian.residual)
        products += found.hessian.iterations.item()
    error = (torch.cat(warm) - torch.cat(cold)).abs()
    assert (error <= torch.cat(residual) + 1e-6).all()
    assert (error / torch.cat(cold)).max() < 1e-4
    assert products / len(warm) < 9


def test_refuses_parameters_and_class_weights_that_do_not_fit(tracker_name: str) -> None:
    ensemble = Ensemble(3)
    tracker = ensemble.tracker(tracker_name)
    with pytest.raises(LandscapeError, match="stack those of all members"):
        tracker.measure(ensemble.alone(0).parameters, ensemble.class_weights)
    with pytest.raises(LandscapeError, match=r"class weights of shape \(2, 3\), expected \(3, 3\)"):
        tracker.measure(ensemble.parameters, ensemble.class_weights[:2])
