"""The engines that the contracts are held against, and when two of them agree."""

from __future__ import annotations

import pytest
import torch

from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    ConvnetEngine,
    Evaluation,
    FusedCPUEngine,
    Setup,
    Trace,
    VmappedEngine,
)
from tests.cases import CASES, Case
from tests.devices import ON_CUDA

ENGINES = [AutogradEngine, BatchedEngine, VmappedEngine, ConvnetEngine, FusedCPUEngine, *ON_CUDA]
METRICS = (
    "weighted_loss",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
)

NUMBERS_OF_A_TRACE = ("weighted_loss", "loss", "accuracy", "class_weights")

every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda each: each.__name__)
every_pair = pytest.mark.parametrize(
    ("engine", "case"),
    [
        pytest.param(engine, case, id=f"{engine.__name__}-{case.name}")
        for engine in ENGINES
        for case in CASES
        if engine.refusal(case.problem) is None
    ],
)


def setup_of(case: Case) -> Setup:
    return Setup.build(case.problem, case.members)


def assert_equal(found: list[Evaluation], expected: list[Evaluation], *, exactly: bool) -> None:
    assert [each.step for each in found] == [each.step for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.diverged_step, other.diverged_step)
        for metric in METRICS:
            a, b = getattr(one, metric), getattr(other, metric)
            if exactly:
                torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
            else:
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)


def assert_same_trace(found: Trace | None, expected: Trace | None, *, exactly: bool) -> None:
    assert found is not None
    assert expected is not None
    assert torch.equal(found.steps, expected.steps)
    assert torch.equal(found.members, expected.members)
    tolerance = {"rtol": 0.0, "atol": 0.0} if exactly else {"rtol": 1e-9, "atol": 1e-12}
    for name in NUMBERS_OF_A_TRACE:
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(one, other, equal_nan=True, **tolerance)
