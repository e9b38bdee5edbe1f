"""Losses, curvature and checkpoints on a device against float64 on the CPU.

The contracts of the engines run on a GPU too where there is one, see `tests/devices.py`. These
tests are of what they leave out; each runs on the CPU as well, so that it is known to work.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynloss_core import DynamicalCrossEntropy, DynamicalMSE
from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.landscape import (
    HessianOperator,
    NTKOperator,
    TrackedProblem,
    choose_tracker,
    hutchinson_trace,
    stack_parameters,
    valley,
)
from dynloss_core.losses import LossName, weighted_loss
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    ConvnetEngine,
    Engine,
    FusedCPUEngine,
    FusedCUDAEngine,
    Probes,
    Setup,
    Valleys,
    VmappedEngine,
)
from tests.cases import CASES, Case
from tests.contracts.engines import assert_equal, setup_of
from tests.core.landscape.cases import CASES as LANDSCAPES
from tests.core.landscape.cases import LOSSES, LandscapeCase, normal, weights_of
from tests.devices import DEVICES, bound_to

ROUNDING = {"rtol": 1e-9, "atol": 1e-12}
MLP, IMAGES = CASES[0], next(case for case in CASES if case.name == "small convnet")
SOME = [LANDSCAPES[0], LANDSCAPES[2], LANDSCAPES[6], LANDSCAPES[-1]]

# without a GPU they compare the CPU with itself
pytestmark = [] if "cuda" in DEVICES else [pytest.mark.slow]

on_each_device = pytest.mark.parametrize("device", DEVICES)
each_landscape = pytest.mark.parametrize("case", SOME, ids=str)


@on_each_device
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_and_its_gradient(name: LossName, device: str) -> None:
    outputs, targets, gamma = 3 * normal(40, 5, seed=1), torch.arange(40) % 5, weights_of(5, seed=1)
    expected = outputs.clone().requires_grad_()
    of_cpu = weighted_loss(name, expected, targets, gamma)
    of_cpu.backward()  # type: ignore[no-untyped-call]
    found = outputs.to(device).requires_grad_()
    labels, weights = targets.to(device), gamma.to(device)
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")  # a loss never waits for the device
    try:
        loss = weighted_loss(name, found, labels, weights)
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert found.grad is not None
    assert loss.device.type == found.grad.device.type == device
    torch.testing.assert_close(loss.detach().cpu(), of_cpu.detach(), **ROUNDING)
    torch.testing.assert_close(found.grad.cpu(), expected.grad, **ROUNDING)


@on_each_device
@pytest.mark.parametrize("criterion", [DynamicalCrossEntropy(5, 7, 70.0), DynamicalMSE(5, 7, 70.0)])
def test_a_criterion_at_each_step(
    criterion: DynamicalCrossEntropy | DynamicalMSE, device: str
) -> None:
    criterion, outputs, targets = copy.deepcopy(criterion), normal(40, 5, seed=2), torch.arange(40)
    for _ in range(9):
        found = criterion(outputs.to(device), (targets % 5).to(device))
        torch.testing.assert_close(found.cpu(), criterion(outputs, targets % 5), **ROUNDING)
        criterion.step()


@on_each_device
@each_landscape
def test_operators(case: LandscapeCase, device: str) -> None:
    """Products, a trace and a valley."""
    network = copy.deepcopy(case.network).to(device)
    found = HessianOperator(network, case.loss, case.data, case.class_weights, batch_size=4)
    expected = HessianOperator(case.network, case.loss, case.data, case.class_weights)
    vectors = normal(3, expected.dimension, seed=3)
    product = found(vectors.to(device))
    assert product.device.type == device
    torch.testing.assert_close(product.cpu(), expected(vectors), **ROUNDING)
    kernels = [NTKOperator(each, case.data.inputs) for each in (network, case.network)]
    rows = normal(2, len(case.data), seed=4)
    torch.testing.assert_close(kernels[0](rows.to(device)).cpu(), kernels[1](rows), **ROUNDING)
    traces = [
        hutchinson_trace(each, each.dimension, probes=4, device=each.device)
        for each in (found, expected)
    ]
    assert traces[0].value == pytest.approx(traces[1].value, rel=1e-9)
    valleys = [
        valley(each, case.loss, case.data, case.class_weights, batch_size=5)
        for each in (network, case.network)
    ]
    for name in ("weighted_loss", "loss", "lambda_max", "slope"):
        one, other = (torch.as_tensor(getattr(each, name)) for each in valleys)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@on_each_device
@pytest.mark.parametrize("name", ["stacked", "sequential"])
@each_landscape
def test_a_tracker(case: LandscapeCase, name: str, device: str) -> None:
    """The largest eigenvalues of two members, and again from where it stopped."""
    parameters = stack_parameters([dict(case.network.named_parameters())] * 2)
    moments = [{n: scale * each.detach() for n, each in parameters.items()} for scale in (1, 1.01)]
    gamma = torch.stack([case.class_weights, torch.ones_like(case.class_weights)])
    problem = TrackedProblem(case.network, case.loss, [case.data], [0, 1])
    tracker = choose_tracker(problem, device, name)(problem, device=device)  # type: ignore[arg-type]
    for moment in moments:
        found = tracker.measure(moment, gamma)
        assert bool(found.hessian.converged.all())
        for member, weights in enumerate(gamma):
            network = copy.deepcopy(case.network)
            network.load_state_dict({n: each[member] for n, each in moment.items()})
            dense = HessianOperator(network, case.loss, case.data, weights).dense()
            top = torch.linalg.eigvalsh(dense)[-1]
            torch.testing.assert_close(found.hessian.value[member], top, rtol=1e-4, atol=1e-6)
            dense = NTKOperator(network, case.data.inputs).dense()
            top = torch.linalg.eigvalsh(dense)[-1]
            torch.testing.assert_close(found.ntk.value[member], top, rtol=1e-4, atol=0)
    again = choose_tracker(problem, device, name)(problem, device=device)  # type: ignore[arg-type]
    again.load_state_dict(tracker.state_dict())
    one, other = tracker.measure(moments[0], gamma), again.measure(moments[0], gamma)
    assert torch.equal(one.hessian.value, other.hessian.value)
    assert torch.equal(one.ntk.value, other.ntk.value)


def engines(device: str) -> list[tuple[type[Engine], Case]]:
    """An engine of each kind that saves in its own way, with a case that it trains."""
    fused = FusedCPUEngine if device == "cpu" else FusedCUDAEngine
    on_mlp = [(engine, MLP) for engine in (AutogradEngine, BatchedEngine, fused)]
    return [*on_mlp, (VmappedEngine, IMAGES), (ConvnetEngine, IMAGES)]


@pytest.mark.parametrize(
    ("device", "engine", "case"),
    [
        pytest.param(device, engine, case, id=f"{device}-{engine.__name__}")
        for device in DEVICES
        for engine, case in engines(device)
        if engine.refusal(case.problem, device) is None
    ],
)
def test_a_run_moves_between_devices(
    device: str, engine: type[Engine], case: Case, tmp_path: Path
) -> None:
    """A third on the device, a third on the CPU, the rest on the device again; with probes."""
    case = replace(case, problem=replace(case.problem, steps=24, evaluate_every=8))
    probes = Probes(8, (0, 1), valleys=Valleys(8, (0,)), samples=12, trace_probes=2)
    whole = AutogradEngine(setup_of(case), probes=probes).run()
    at_home = FusedCPUEngine if engine is FusedCUDAEngine else engine
    found, state = [], None
    for place, trained in (("cpu", at_home), (device, engine), ("cpu", at_home), (device, engine)):
        running = trained(setup_of(case), place, probes=probes)
        if state is not None:
            running.load_state_dict(state)
        found.append(next(running.evaluations()))
        save_checkpoint(tmp_path / "state.pt", running.state_dict())
        state = load_checkpoint(tmp_path / "state.pt")
    assert_equal(found, list(whole.evaluations), exactly=False)
    for row, evaluation in enumerate(found):
        assert evaluation.curvature is not None
        assert evaluation.valleys is not None
        assert whole.curvature is not None
        assert whole.valleys is not None
        for name in ("hessian_lambda_max", "ntk_lambda_max", "hessian_trace"):
            one, other = getattr(evaluation.curvature, name)[0], getattr(whole.curvature, name)[row]
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
        middle = len(whole.valleys.offsets) // 2
        one, other = evaluation.valleys.loss[0, 0, middle], whole.valleys.loss[row, 0, middle]
        torch.testing.assert_close(one, other, rtol=1e-8, atol=0)


def test_an_engine_bound_to_a_device_is_that_engine() -> None:
    bound = bound_to("cpu", BatchedEngine)
    assert bound.__name__ == "BatchedEngineOnCPU"
    assert bound.refusal(MLP.problem) is None
    assert bound.refusal(IMAGES.problem) is not None
    found = list(bound(Setup.build(MLP.problem, MLP.members), traced=[0]).evaluations())
    assert_equal(found, list(BatchedEngine(setup_of(MLP)).evaluations()), exactly=True)
