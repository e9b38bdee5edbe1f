"""What every dynamical loss promises: its derivatives, class losses and labels, in each form."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from torch import Tensor

from dynloss_core.losses import LOSSES, Loss
from dynloss_core.losses.registry import broadcast_weights
from dynloss_core.testing.agreement import assert_equal
from dynloss_core.testing.cases import CASES, setup_of
from dynloss_core.training import ENGINES, AutogradEngine

__all__ = ["LossContract", "batch"]

_INTEGERS = (
    torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip


def batch(seed: int, samples: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random logits (N, C), targets (N,) and class weights (C,) with mean 1, in float64."""
    draws = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=draws, dtype=torch.float64) * 3
    targets = torch.randint(classes, (samples,), generator=draws)
    weights = torch.rand(classes, generator=draws, dtype=torch.float64) + 0.1
    return logits, targets, weights * classes / weights.sum()


_SIZES = itertools.product(range(1, 10), range(1, 7))
_BATCHES = [batch(seed, *sizes) for seed, sizes in enumerate(_SIZES)]


def _stacked(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for an ensemble of one, samples last: (1, C, N), (1, C, N), (1, C)."""
    one_hot = F.one_hot(targets, logits.shape[1]).double()
    return logits.mT[None], one_hot.mT[None], weights[None]


class LossContract:
    """The tests of one loss, a row of `LOSSES`; forms that it does not have are skipped.

    Args:
        loss: the loss.
    """

    loss: ClassVar[Loss]

    def test_gradient_against_finite_differences(self) -> None:
        for logits, targets, weights in _BATCHES:

            def value(z: Tensor, targets: Tensor = targets, weights: Tensor = weights) -> Tensor:
                return self.loss.value(z, targets, weights)

            assert torch.autograd.gradcheck(value, logits.clone().requires_grad_())

    def test_class_losses_add_up_to_the_loss(self) -> None:
        for drawn in _BATCHES:
            outputs, one_hot, weights = _stacked(*drawn)
            total = (weights * self.loss.classes(outputs, one_hot)).sum()
            torch.testing.assert_close(total, self.loss.value(*drawn), rtol=1e-10, atol=1e-14)

    def test_a_sample_may_have_the_weight_of_another_group_than_its_class(self) -> None:
        """Each sample's loss is that of its class alone, weighted."""
        if self.loss.by_output:
            pytest.skip("it weights output units")
        draws = torch.Generator().manual_seed(0)
        for logits, targets, weights in _BATCHES:
            by_class = self.loss.value(logits, targets, weights)
            assert torch.equal(self.loss.value(logits, targets, weights, targets), by_class)
            groups = torch.randint(7, targets.shape, generator=draws)
            of_groups = torch.rand(7, generator=draws, dtype=torch.float64)
            ones = torch.ones_like(weights)
            alone = [
                self.loss.value(logits[j, None], targets[j, None], ones) for j in range(len(groups))
            ]
            expected = (of_groups[groups] * torch.stack(alone)).mean()
            actual = self.loss.value(logits, targets, of_groups, groups)
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-14)

    def test_closed_form_gradient_equals_autograd(self) -> None:
        if self.loss.gradient is None:
            pytest.skip("it has none")
        for drawn in _BATCHES:
            (expected,) = torch.func.grad(self.loss.value, argnums=(0,))(*drawn)
            outputs, one_hot, weights = _stacked(*drawn)
            own = broadcast_weights(self.loss, one_hot, weights)
            actual = self.loss.gradient(outputs, one_hot, own)
            torch.testing.assert_close(actual[0].mT, expected, rtol=1e-10, atol=1e-14)

    def test_closed_form_curvature_is_the_hessian(self) -> None:
        """Sample by sample; the blocks between samples are zero."""
        if self.loss.curvature is None:
            pytest.skip("it has none")
        for drawn in _BATCHES:
            whole = torch.func.hessian(self.loss.value)(*drawn)  # (N, C, N, C)
            outputs, one_hot, weights = _stacked(*drawn)
            own = broadcast_weights(self.loss, one_hot, weights)
            diagonal, outer = self.loss.curvature(outputs, one_hot, own)
            for j in range(len(whole)):
                d, u = diagonal[0, :, j], outer[0, :, j]
                actual = d.diag() - u[:, None] * u
                torch.testing.assert_close(actual, whole[j, :, j], rtol=0, atol=1e-14)

    def test_every_engine_that_has_its_forms_trains_it_alike(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case = replace(CASES[0], name="under another name")
        monkeypatch.setitem(LOSSES, case.problem.loss, self.loss)
        expected = list(AutogradEngine(setup_of(case)).evaluations())
        for engine in itertools.chain.from_iterable(ENGINES.values()):
            if engine.refusal(case.problem) is None:
                actual = list(engine(setup_of(case)).evaluations())
                assert_equal(actual, expected, exactly=engine is AutogradEngine)

    @pytest.mark.parametrize("dtype", _INTEGERS, ids=str)
    def test_labels_of_any_integer_type_give_the_same(self, dtype: torch.dtype) -> None:
        for logits, targets, weights in _BATCHES:
            actual, expected = (
                torch.func.grad_and_value(self.loss.value)(logits, labels, weights)
                for labels in (targets.to(dtype), targets)
            )
            assert all(map(torch.equal, actual, expected))

    @pytest.mark.parametrize("wrong", [3, 100, -1, -3, -100])
    @pytest.mark.parametrize("way", ["alone", "gradient", "in an ensemble"])
    def test_a_label_that_is_no_class_is_one_clear_error(self, way: str, wrong: int) -> None:
        """It is neither counted from the end, nor ignored, nor given an empty one-hot code."""
        drawn = batch(0, 5, 3)
        drawn[1][2] = wrong
        ways: dict[str, Callable[[], object]] = {
            "alone": lambda: self.loss.value(*drawn),
            "gradient": lambda: torch.func.grad(self.loss.value)(*drawn),
            "in an ensemble": lambda: torch.vmap(self.loss.value)(*(x[None] for x in drawn)),
        }
        with pytest.raises(ValueError, match=f"not a class index from 0 to 2: index {wrong}"):
            ways[way]()

    def test_what_is_no_class_index_is_refused_by_its_type(self) -> None:
        logits, targets, weights = batch(0, 3, 3)
        for other in (targets.double(), targets.bool(), targets.to(torch.complex64)):
            with pytest.raises(TypeError, match=f"an integer type, got {other.dtype}"):
                self.loss.value(logits, other, weights)
