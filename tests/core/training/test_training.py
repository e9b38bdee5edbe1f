from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dynloss_core.config import ConfigError
from dynloss_core.models import MLPConfig, Myrtle5Config, WideResNetConfig
from dynloss_core.training import (
    ENGINES,
    AutogradEngine,
    BatchedEngine,
    ConvnetEngine,
    EngineName,
    FusedCPUEngine,
    FusedCUDAEngine,
    LearningRateSchedule,
    Member,
    Problem,
    Setup,
    VmappedEngine,
    choose_engine,
    steps_per_epoch,
)
from dynloss_core.training.problem.ensemble import batch_order
from tests.cases import CASES, SMALL_SPIRALS


def test_the_two_arms_share_data_initialisation_and_batch_order() -> None:
    problem = Problem(data=SMALL_SPIRALS, batch_size=4, steps=10, static_tail=0)
    setup = Setup.build(problem, [Member(0.1, seed=5, period=4, amplitude=9.0), Member(0.3, 5)])
    assert setup.splits[0] is setup.splits[1]
    assert setup.networks[0] is setup.networks[1]
    for step in range(10):
        assert torch.equal(setup.batch(0, step), setup.batch(1, step))  # type: ignore[arg-type]


def test_an_epoch_visits_every_sample_once() -> None:
    problem = Problem(data=SMALL_SPIRALS, batch_size=7, steps=10, static_tail=0)
    setup = Setup.build(problem, [Member(0.1, seed=5)])
    assert steps_per_epoch(problem) == 3
    for epoch in range(2):
        batches = [setup.batch(0, 3 * epoch + i) for i in range(3)]
        visited = torch.cat([each for each in batches if each is not None])
        assert sorted(visited.tolist()) == list(range(21))
    assert not torch.equal(batch_order(5, 0, 21), batch_order(5, 1, 21))


def test_learning_rate_schedules() -> None:
    constant = LearningRateSchedule()
    assert [constant.factor(t, 10) for t in (0, 9)] == [1.0, 1.0]
    linear = LearningRateSchedule(warmup=0.5, decay="linear", final=0.2)
    factors = [linear.factor(t, 100) for t in range(101)]
    assert factors[0] == pytest.approx(1 / 51)
    assert max(factors) == factors[50] == 1.0
    assert factors[75] == pytest.approx(0.6)
    assert factors[100] == pytest.approx(0.2)
    cosine = LearningRateSchedule(decay="cosine", final=0.1)
    assert cosine.factor(50, 100) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"seed": -1}, "seed"),
        ({"period": 1}, "period"),
        ({"amplitude": 0.9}, "amplitude"),
        ({"amplitude": 2.0}, "period"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -0.1}, "weight_decay"),
    ],
)
def test_a_member_refuses_values_outside_their_range(values: dict, key: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Member(**{"learning_rate": 0.1, "seed": 0, **values})
    assert refusal.value.key == key


def test_a_batch_larger_than_the_data_is_refused() -> None:
    problem = Problem(data=SMALL_SPIRALS, batch_size=22, steps=1, static_tail=0)
    with pytest.raises(ConfigError, match="exceeds the 21 training samples"):
        Setup.build(problem, [Member(0.1, 0)])


def test_the_fastest_engine_that_can_is_chosen() -> None:
    assert choose_engine(CASES[0].problem) is FusedCPUEngine
    assert choose_engine(CASES[0].problem, device="cuda") is FusedCUDAEngine
    assert choose_engine(CASES[0].problem, "fused", device="cuda") is FusedCUDAEngine
    mini_batches = next(case.problem for case in CASES if case.problem.batch_size)
    assert choose_engine(mini_batches) is BatchedEngine
    with pytest.raises(
        ConfigError, match="cannot train this problem: it only trains on full batches"
    ):
        choose_engine(mini_batches, "fused")
    assert choose_engine(CASES[0].problem, "autograd") is AutogradEngine
    convolutions = next(case.problem for case in CASES if case.name == "small convnet")
    assert choose_engine(convolutions) is VmappedEngine
    assert choose_engine(convolutions, "batched") is VmappedEngine
    wider = replace(convolutions, model=Myrtle5Config(channels=64))
    for large in (wider, replace(convolutions, model=WideResNetConfig())):
        assert choose_engine(large) is ConvnetEngine


def test_every_engine_stands_in_the_table_under_its_name() -> None:
    assert {"auto", *ENGINES} == set(typing.get_args(EngineName))
    for name, engines in ENGINES.items():
        assert {engine.name for engine in engines} == {name}


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Problem(loss="hinge"), "loss"),  # type: ignore[arg-type]
        (lambda: Problem(dtype="float16"), "dtype"),  # type: ignore[arg-type]
        (lambda: LearningRateSchedule(decay="step"), "decay"),  # type: ignore[arg-type]
        (lambda: MLPConfig(initialisation="xavier"), "initialisation"),  # type: ignore[arg-type]
        (lambda: Myrtle5Config(initialisation=None), "initialisation"),  # type: ignore[arg-type]
        (lambda: WideResNetConfig(normalisation="layer"), "normalisation"),  # type: ignore[arg-type]
        (lambda: choose_engine(CASES[0].problem, "fast"), "engine"),  # type: ignore[arg-type]
    ],
)
def test_an_unknown_name_given_in_python_is_refused(make: Callable[[], object], key: str) -> None:
    """As it is in a file: none of them falls through to another choice."""
    with pytest.raises(ConfigError) as refusal:
        make()
    assert refusal.value.key == key
