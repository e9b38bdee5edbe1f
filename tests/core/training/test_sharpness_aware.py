"""Sharpness-aware minimisation against a plain loop, closed forms, and its limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dynloss_core.config import ConfigError
from dynloss_core.models import MLPConfig, Myrtle5Config, WideResNetConfig
from dynloss_core.testing.cases import MIXED, SMALL_SPIRALS, WITH_MOMENTUM, BytesConfig
from dynloss_core.training import AutogradEngine, Engine, Problem, Setup, choose_engine
from dynloss_core.training.engines.fused_cpu import FusedCPUEngine
from dynloss_core.training.engines.stacked_mlp import BatchedEngine
from dynloss_core.training.engines.stacked_networks import VmappedEngine
from dynloss_core.training.optimisers.sharpness_aware import steepest_ascent


def problem(**changes: Any) -> Problem:
    defaults: dict[str, Any] = {
        "data": SMALL_SPIRALS,
        "model": MLPConfig(width=11),
        "dtype": "float64",
        "steps": 40,
        "static_tail": 8,
        "evaluate_every": 40,
        "sam_radius": 0.1,
    }
    return Problem(**{**defaults, **changes})


def plain_loop(setup: Setup, m: int) -> dict[str, torch.Tensor]:
    """The parameters of a member after the run: algorithm 1 of the paper, with the update of
    torch's documentation of SGD."""
    told, member, split = setup.problem, setup.members[m], setup.splits[m].train
    network = setup.networks[m]
    w = {name: each.detach().double().clone() for name, each in network.named_parameters()}
    velocity = {name: torch.zeros_like(each) for name, each in w.items()}
    gamma = setup.class_weights(torch.arange(told.steps))[:, m]

    def gradient(at: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        at = {name: each.clone().requires_grad_() for name, each in at.items()}
        x, y = split.inputs.double(), split.targets
        z = torch.func.functional_call(network, at, (x,))
        log_p = z - z.logsumexp(1, keepdim=True)
        loss = -(gamma[step, y] * log_p[torch.arange(len(y)), y]).mean()
        return dict(zip(at, torch.autograd.grad(loss, list(at.values())), strict=True))

    for step in range(told.steps):
        g = gradient(w, step)
        norm = sum(each.pow(2).sum() for each in g.values()) ** 0.5
        g = gradient({name: w[name] + told.sam_radius * g[name] / norm for name in w}, step)
        for name in w:
            d = g[name] + member.weight_decay * w[name]
            velocity[name] = member.momentum * velocity[name] + d
            move = d + member.momentum * velocity[name] if told.nesterov else velocity[name]
            w[name] = w[name] - member.learning_rate * move
    return w


@pytest.mark.parametrize("engine", [AutogradEngine, BatchedEngine, FusedCPUEngine, VmappedEngine])
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_plain_loop(engine: type[Engine], nesterov: bool) -> None:
    for members in (MIXED, WITH_MOMENTUM):
        told = problem(nesterov=nesterov)
        setup = Setup.build(told, members)
        trained = engine(setup)
        trained.train(told.steps)
        for m in range(len(members)):
            found, expected = trained.parameters(m), plain_loop(setup, m)
            for name, each in expected.items():
                torch.testing.assert_close(found[name], each, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("engine", [AutogradEngine, BatchedEngine, FusedCPUEngine, VmappedEngine])
def test_a_vanishing_radius_is_the_plain_gradient(engine: type[Engine]) -> None:
    found = []
    for radius in (0.0, 1e-13):
        trained = engine(Setup.build(problem(sam_radius=radius), MIXED))
        trained.train(40)
        found.append(trained.parameters(0))
    for name, each in found[0].items():
        torch.testing.assert_close(found[1][name], each, rtol=1e-6, atol=1e-9)


@given(
    curvature=st.floats(0.1, 10.0),
    start=st.just(0.0) | st.floats(1e-6, 5.0) | st.floats(-5.0, -1e-6),
    radius=st.floats(0.01, 1.0),
)
def test_on_a_parabola(curvature: float, start: float, radius: float) -> None:
    """The gradient of c w^2 / 2 is c w, and c (w + rho sign w) where it is taken."""
    (ascent,) = steepest_ascent([torch.tensor([curvature * start])], radius)
    expected = radius * (start > 0) - radius * (start < 0) if curvature * start else 0.0
    assert float(ascent) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_stacked_networks_have_a_norm_each() -> None:
    draws = torch.Generator().manual_seed(0)
    gradients = [torch.randn(3, 4, 2, generator=draws), torch.randn(3, 5, generator=draws)]
    gradients[0][1], gradients[1][1] = 0, 0
    together = steepest_ascent(gradients, 0.5, stacked=True)
    for m in range(3):
        alone = steepest_ascent([each[m] for each in gradients], 0.5)
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(all_[m], one)
    norms = sum(each.square().flatten(1).sum(1) for each in together).sqrt()
    torch.testing.assert_close(norms, torch.tensor([0.5, 0.0, 0.5]))


def test_batch_statistics_are_those_of_where_it_stands() -> None:
    """The second pass, where the loss is largest, leaves no trace in them."""
    told = problem(
        data=BytesConfig(), model=WideResNetConfig(depth=10, widening=1), batch_size=8, steps=1,
        static_tail=0, evaluate_every=1,
    )  # fmt: skip
    buffers = []
    for radius in (0.0, 0.5):
        trained = AutogradEngine(Setup.build(replace(told, sam_radius=radius), MIXED[1:2]))
        trained.train(1)
        named = trained.parameters(0)
        buffers.append({name: each for name, each in named.items() if "running" in name})
    assert buffers[0]
    for name, each in buffers[0].items():
        assert torch.equal(buffers[1][name], each)


def test_which_engine_takes_it() -> None:
    assert choose_engine(problem()) is FusedCPUEngine
    images = problem(data=BytesConfig(), model=Myrtle5Config(channels=16), batch_size=32)
    assert choose_engine(images) is AutogradEngine
    with pytest.raises(ConfigError, match="does not support sharpness-aware"):
        choose_engine(images, "convnet")


@pytest.mark.parametrize("radius", [-1.0, float("inf"), float("nan")])
def test_a_radius_is_a_distance(radius: float) -> None:
    with pytest.raises(ConfigError, match="sam_radius"):
        problem(sam_radius=radius)


def test_a_flat_network_stays_where_it_is() -> None:
    """Without a gradient there is no direction, and nothing becomes NaN."""
    setup = Setup.build(problem(), MIXED[:1])
    for network in setup.networks:
        for each in network.parameters():
            nn.init.zeros_(each)
    for engine in (AutogradEngine, BatchedEngine, FusedCPUEngine, VmappedEngine):
        trained = engine(setup)
        trained.train(3)
        hidden = trained.parameters(0)["layers.0.weight"]
        assert torch.equal(hidden, torch.zeros_like(hidden))
