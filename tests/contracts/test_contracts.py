"""A contract is worth what it refuses: wrong entries fail it, and anybody's right ones pass."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from dynloss_core.data import Labelled, SpiralsConfig, Splits
from dynloss_core.losses import LOSSES, KernelForm, Loss
from dynloss_core.testing import (
    CASES,
    DataSetContract,
    EngineContract,
    LossContract,
    ModelContract,
)
from dynloss_core.training import AutogradEngine
from dynloss_core.training.tracing import TraceBuffer
from tests.unfamiliar_networks import FOREIGN, AnotherActivation, ForeignConfig

ROOT = Path(__file__).parents[2]
ENTROPY = LOSSES["cross_entropy"]


def fails(test: Any, *arguments: object) -> None:
    with pytest.raises((AssertionError, GradcheckError)):
        test(*arguments)


# --- engines ---------------------------------------------------------------------------------------


class SlightlyOff(AutogradEngine):
    """That adds a millionth to every parameter."""

    def _advance(self, steps: int, trace: TraceBuffer | None) -> None:
        super()._advance(steps, trace)
        for network in self._networks:
            for parameter in network.parameters():
                parameter.data += 1e-6


class Forgetful(AutogradEngine):
    """That leaves the momentum out of what it saves."""

    def _load_parameters_state(self, state: Any) -> None:
        super()._load_parameters_state(state)
        for optimiser in self._optimisers:
            optimiser.state.clear()


class Neighbourly(AutogradEngine):
    """Whose members see how many they are."""

    def _outputs(self, split: Any) -> Tensor:
        return super()._outputs(split) * (1 + 1e-3 * len(self.setup.members))


def test_an_engine_that_is_slightly_off() -> None:
    class Contract(EngineContract):
        engine = SlightlyOff

    fails(Contract().test_agrees_with_the_reference, CASES[0])


def test_an_engine_that_saves_half(tmp_path: Path) -> None:
    class Contract(EngineContract):
        engine = Forgetful

    with_momentum = next(case for case in CASES if case.name == "mini-batch with momentum")
    fails(Contract().test_resumed_equals_uninterrupted_bit_for_bit, with_momentum, tmp_path)


def test_an_engine_whose_members_notice_each_other() -> None:
    class Contract(EngineContract):
        engine = Neighbourly

    fails(Contract().test_members_do_not_depend_on_their_neighbours_or_order)


def test_an_engine_that_refuses_everything_has_no_contract() -> None:
    class Refusing(AutogradEngine):
        @classmethod
        def refusal(cls, problem: object, device: str = "cpu") -> str:
            return "it is shy"

    class Contract(EngineContract):
        engine = Refusing

    fails(Contract().test_it_trains_a_case_with_several_members)


# --- losses ----------------------------------------------------------------------------------------


def contract_of(loss: Loss) -> LossContract:
    return type("Contract", (LossContract,), {"loss": loss})()


def detached(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Right in value, and with half the gradient."""
    value = ENTROPY.value(outputs, targets, weights)
    return value / 2 + value.detach() / 2


def lenient(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return ENTROPY.value(outputs, targets.clamp(0, outputs.shape[1] - 1), weights)


def test_a_loss_with_a_wrong_gradient() -> None:
    fails(contract_of(replace(ENTROPY, value=detached)).test_gradient_against_finite_differences)
    wrong = replace(ENTROPY, gradient=LOSSES["mse_sample_weighted"].gradient)
    fails(contract_of(wrong).test_closed_form_gradient_equals_autograd)


def test_a_loss_with_a_wrong_curvature() -> None:
    wrong = replace(ENTROPY, curvature=LOSSES["mse_sample_weighted"].curvature)
    fails(contract_of(wrong).test_closed_form_curvature_is_the_hessian)


def test_a_loss_whose_classes_do_not_add_up() -> None:
    wrong = replace(ENTROPY, classes=lambda outputs, one_hot: 2 * ENTROPY.classes(outputs, one_hot))
    fails(contract_of(wrong).test_class_losses_add_up_to_the_loss)


def test_a_loss_with_a_wrong_form_for_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(ENTROPY, kernel=KernelForm(softmax=False, by_output=False))
    test = contract_of(wrong).test_every_engine_that_has_its_forms_trains_it_alike
    fails(test, monkeypatch)


def test_a_loss_that_takes_any_label() -> None:
    wrong = contract_of(replace(ENTROPY, value=lenient))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        wrong.test_a_label_that_is_no_class_is_one_clear_error("alone", 3)


def test_a_loss_without_forms_keeps_the_rest() -> None:
    bare = contract_of(Loss(ENTROPY.value, ENTROPY.classes))
    bare.test_gradient_against_finite_differences()
    with pytest.raises(pytest.skip.Exception, match="it has none"):
        bare.test_closed_form_gradient_equals_autograd()


# --- networks and data sets ------------------------------------------------------------------------


class Boastful(AnotherActivation):
    """That says it is a plain perceptron, and has another activation."""

    relu_mlp = samplewise = True


def test_a_network_that_says_what_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FOREIGN, "boastful", lambda classes: Boastful(64, [6], classes))
    contract = type("Contract", (ModelContract,), {"model": ForeignConfig("boastful")})()
    fails(contract.test_every_engine_agrees_or_refuses)


@dataclass(frozen=True)
class Wandering(SpiralsConfig):
    """That draws from torch's random state, and has one sample more than it says."""

    def load(self, seed: int) -> Splits:
        def part() -> Labelled:
            return Labelled(torch.rand(self.training_samples + 1, 2), torch.zeros(22).long())

        return Splits(part(), part(), part(), self.num_classes)


def test_a_data_set_that_is_not_what_it_says() -> None:
    contract = type("Contract", (DataSetContract,), {"data": Wandering(points_per_class=7)})()
    fails(contract.test_what_is_loaded_is_what_was_declared)
    fails(contract.test_one_seed_is_one_draw)


# --- from outside ----------------------------------------------------------------------------------

ANYBODYS = """
from dataclasses import replace
from dynloss_core.losses import LOSSES
from dynloss_core.testing import CASES, EngineContract, LossContract
from dynloss_core.training import AutogradEngine

class TestRight(LossContract):
    loss = LOSSES["cross_entropy"]

class TestWrong(LossContract):
    loss = replace(LOSSES["cross_entropy"], gradient=LOSSES["mse_sample_weighted"].gradient)

class TestMine(EngineContract):
    engine = AutogradEngine
    cases = CASES[:1]
"""


def test_anybody_inherits_them(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(ANYBODYS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "-rA"]
    done = subprocess.run(
        [*command, "-k", "closed_form_gradient or reference", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    gradient = "test_closed_form_gradient_equals_autograd"
    assert f"PASSED test_mine.py::TestRight::{gradient}" in done.stdout
    assert f"FAILED test_mine.py::TestWrong::{gradient}" in done.stdout
    assert f"test_agrees_with_the_reference[{CASES[0].name}]" in done.stdout
    assert "1 failed, 2 passed" in done.stdout, done.stdout
