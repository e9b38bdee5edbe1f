"""Every loss keeps the contract of losses; and what the modules around them promise."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dynloss_core import DynamicalCrossEntropy, DynamicalMSE, weighted_cross_entropy, weighted_mse
from dynloss_core.losses import LOSSES as TABLE
from dynloss_core.losses import (
    DynamicalLoss,
    class_losses,
    kernel_form,
    output_curvature,
    output_gradient,
    refusal_of_form,
    weighted_loss,
)
from dynloss_core.testing import LossContract
from dynloss_core.testing.loss_contract import batch
from tests.contracts.inherited import inherited

LOSSES = list(TABLE)
MODULES = {
    "cross_entropy": DynamicalCrossEntropy,
    "mse_sample_weighted": DynamicalMSE,
    "mse_output_weighted": partial(DynamicalMSE, variant="output_weighted"),
}


batches = st.builds(batch, st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 6))

globals().update(inherited(LossContract, "loss", TABLE))


def by_hand(name: str, logits: Tensor, targets: Tensor, weights: Tensor) -> float:
    """The definitions, sample by sample."""
    total, classes = 0.0, logits.shape[1]
    for z, y in zip(logits.tolist(), targets.tolist(), strict=True):
        log_sum = torch.logsumexp(torch.tensor(z, dtype=torch.float64), 0).item()
        entropy = log_sum - z[y]
        if name == "cross_entropy":
            total += weights[y].item() * entropy
            continue
        if name == "cross_entropy_smoothed":
            mean = sum(log_sum - other for other in z) / classes
            total += weights[y].item() * (0.9 * entropy + 0.1 * mean)
            continue
        if name == "focal":
            total += weights[y].item() * (1 - math.exp(-entropy)) ** 2 * entropy
            continue
        for c in range(classes):
            weight = weights[y if name == "mse_sample_weighted" else c].item()
            total += weight * (z[c] - (c == y)) ** 2 / classes
    return total / len(logits)


@pytest.mark.parametrize("name", LOSSES)
@given(drawn=batches)
def test_equals_its_definition(name: str, drawn: tuple) -> None:
    assert weighted_loss(name, *drawn).item() == pytest.approx(by_hand(name, *drawn), rel=1e-10)


@given(drawn=batches)
def test_unit_weights_are_the_static_loss_bit_for_bit(drawn: tuple) -> None:
    logits, targets, _ = drawn
    ones = torch.ones(logits.shape[1], dtype=torch.float64)
    one_hot = F.one_hot(targets, logits.shape[1]).double()
    static = F.cross_entropy(logits, targets, reduction="none").mean()
    assert torch.equal(weighted_cross_entropy(logits, targets, ones), static)
    for variant in ("sample_weighted", "output_weighted"):
        squared = F.mse_loss(logits, one_hot, reduction="none").mean()
        assert torch.equal(weighted_mse(logits, targets, ones, variant=variant), squared)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(drawn=batches)
def test_it_is_torchs_own_to_the_last_bit(dtype: torch.dtype, drawn: tuple) -> None:
    """And so are its gradients: it is written in the operations that torch computes it with."""
    logits, targets, weights = drawn[0].to(dtype).requires_grad_(), drawn[1], drawn[2].to(dtype)
    ours = weighted_cross_entropy(logits, targets, weights)
    theirs = (weights[targets] * F.cross_entropy(logits, targets, reduction="none")).mean()
    assert torch.equal(ours, theirs)
    (of_ours,), (of_theirs,) = (torch.autograd.grad(loss, logits) for loss in (ours, theirs))
    assert torch.equal(of_ours, of_theirs)


def test_the_loss_of_many_networks_imports_no_symbols() -> None:
    """Under `vmap` torch's own would import SymPy, a third of a second in every process."""
    code = (
        "import sys, torch; from dynloss_core import weighted_cross_entropy as loss;"
        "networks, targets, weights = torch.ones(4, 3, 2), torch.tensor([0, 1, 1]), torch.ones(2);"
        "torch.vmap(lambda logits: loss(logits, targets, weights))(networks);"
        "print('sympy' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_divides_by_the_number_of_samples_not_by_their_weights() -> None:
    """On a batch of one class torch's own weighting cancels altogether; ours must not."""
    logits, targets = torch.randn(5, 3, dtype=torch.float64), torch.zeros(5, dtype=torch.int64)
    weights = torch.tensor([2.9, 0.05, 0.05], dtype=torch.float64)
    ours = weighted_cross_entropy(logits, targets, weights)
    static = F.cross_entropy(logits, targets)
    torch.testing.assert_close(ours, 2.9 * static)
    torch.testing.assert_close(F.cross_entropy(logits, targets, weight=weights), static)


def test_the_dynamical_losses_have_all_forms() -> None:
    for name in MODULES:
        assert None not in (TABLE[name].gradient, TABLE[name].curvature, TABLE[name].kernel)
    assert len({TABLE[name].kernel for name in MODULES}) == len(MODULES)
    assert all(loss.gradient for loss in TABLE.values()), "stacked networks take every loss"


def test_an_unknown_name_is_no_loss_anywhere() -> None:
    logits, targets, weights = batch(0, 5, 3)
    stacked = logits.mT[None], F.one_hot(targets, 3).double().mT[None], weights[None]
    uses = [
        lambda: weighted_loss("hinge", logits, targets, weights),
        lambda: class_losses("hinge", *stacked[:2]),
        lambda: output_gradient("hinge", *stacked),
        lambda: output_curvature("hinge", *stacked),
        lambda: kernel_form("hinge"),
        lambda: refusal_of_form("hinge", "gradient"),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="no loss 'hinge'; choose one of: cross_entropy, "):
            use()


@pytest.mark.parametrize("name", MODULES)
def test_module_follows_its_schedule(name: str) -> None:
    criterion: DynamicalLoss = MODULES[name](num_classes=3, period=4, amplitude=9.0)
    logits, targets, _ = batch(0, 8, 3)
    for step in range(13):
        weights = criterion.schedule(step, dtype=torch.float64)
        assert torch.equal(
            criterion(logits, targets), weighted_loss(name, logits, targets, weights)
        )
        criterion.step()


@pytest.mark.parametrize("name", MODULES)
def test_module_state_goes_on_where_it_was(name: str) -> None:
    criterion, other = (MODULES[name](num_classes=3, period=4, amplitude=9.0) for _ in range(2))
    for _ in range(6):
        criterion.step()
    other.load_state_dict(criterion.state_dict())
    logits, targets, _ = batch(1, 8, 3)
    assert other.current_step == 6
    assert torch.equal(criterion(logits, targets), other(logits, targets))


@pytest.mark.parametrize("name", MODULES)
def test_module_is_static_in_its_tail_and_in_evaluation(name: str) -> None:
    criterion = MODULES[name](3, 4, 9.0, total_steps=20, static_tail=5)
    logits, targets, _ = batch(2, 8, 3)
    static = weighted_loss(name, logits, targets, torch.ones(3, dtype=torch.float64))
    stop = criterion.schedule.stop
    assert stop == 12
    for step in range(20):
        assert torch.equal(criterion(logits, targets), static) == (step >= stop or step % 4 == 0)
        criterion.step()
    criterion.current_step = 2
    assert not torch.equal(criterion(logits, targets), static)
    assert torch.equal(criterion.eval()(logits, targets), static)


def test_module_refuses_a_tail_without_a_total() -> None:
    with pytest.raises(ValueError, match="total_steps"):
        DynamicalCrossEntropy(3, 10, 2.0, static_tail=5)
    with pytest.raises(ValueError, match="variant"):
        DynamicalMSE(3, 10, 2.0, variant="both")  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    logits, targets = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="class weights"):
        weighted_cross_entropy(logits, targets, torch.ones(2))
    with pytest.raises(ValueError, match="targets"):
        weighted_mse(logits, targets[:2], torch.ones(3))
    with pytest.raises(ValueError, match="variant"):
        weighted_mse(logits, targets, torch.ones(3), variant="both")  # type: ignore[arg-type]


INTEGERS = [
    torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_labels_of_any_integer_type(name: str, dtype: torch.dtype) -> None:
    criterion = MODULES[name](num_classes=3, period=10, amplitude=70.0)
    criterion.current_step = 5
    logits, targets = batch(0, 3, 3)[0], torch.tensor([2, 1, 1])  # as a mask: all three weights
    assert torch.equal(criterion(logits, targets.to(dtype)), criterion(logits, targets))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_a_compiled_loss_is_the_loss_and_asserts_too(name: str) -> None:
    torch.compiler.reset()  # it compiles one function only so many times
    compiled = torch.compile(partial(weighted_loss, name), fullgraph=True)
    logits, targets, weights = batch(0, 5, 3)
    for kind in (torch.int64, torch.uint8, torch.int16):
        found = compiled(logits, targets.to(kind), weights)
        torch.testing.assert_close(found, weighted_loss(name, logits, targets, weights))
    targets[1] = -1
    with pytest.raises(RuntimeError, match="out of bounds"):
        compiled(logits, targets, weights)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LOSSES)
def test_labels_of_any_integer_type_on_cuda_without_waiting(name: str) -> None:
    logits, targets, weights = (each.cuda() for each in batch(0, 5, 3))
    expected = weighted_loss(name, logits, targets, weights)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [weighted_loss(name, logits, targets.to(dtype), weights) for dtype in INTEGERS]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(each, expected) for each in found)


ASSERTS_ON_CUDA = """
import torch
from dynloss_core.losses import weighted_loss
targets = torch.tensor([0, {wrong}], device="cuda")
weighted_loss("{name}", torch.zeros(2, 3, device="cuda"), targets, torch.ones(3, device="cuda"))
torch.cuda.synchronize()
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("wrong", [3, -1, -100])
@pytest.mark.parametrize("name", LOSSES)
def test_a_label_that_is_no_class_is_asserted_on_cuda(name: str, wrong: int) -> None:
    """In a process of its own: a device-side assertion ends the use of the GPU."""
    code = ASSERTS_ON_CUDA.format(name=name, wrong=wrong)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "device-side assert" in done.stderr


def test_the_readme_example_trains() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(64, 5), torch.randint(10, (64,))
    model = torch.nn.Linear(5, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    criterion = DynamicalCrossEntropy(num_classes=10, period=50, amplitude=20)
    before = F.cross_entropy(model(inputs), targets)
    for _ in range(200):
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        criterion.step()
    assert F.cross_entropy(model(inputs), targets) < before
    assert criterion.current_step == 200
