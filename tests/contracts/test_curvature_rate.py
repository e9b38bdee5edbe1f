"""What every engine promises about a learning rate that follows the curvature."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.config import ConfigError
from dynloss_core.landscape import balanced_subset, hessian_top
from dynloss_core.models import MLPConfig
from dynloss_core.training import (
    AutogradEngine,
    CurvatureRate,
    Engine,
    Evaluation,
    LearningRateSchedule,
    Member,
    Probes,
    Setup,
)
from dynloss_core.training.rate_follower import caps_of
from tests.cases import CASES, MIXED, WITH_MOMENTUM, Case
from tests.contracts.engines import ENGINES, assert_equal, assert_same_trace, every_engine_unhurried

WIDE = "wide residual network, batch normalisation"
FEW = (
    "one hidden layer, full batch",
    "mini-batch with Nesterov, warm-up and decay",
    "small convnet",
    WIDE,
)


def following(case: Case, rule: CurvatureRate | None) -> Setup:
    schedule = replace(case.problem.learning_rate_schedule, curvature=rule)
    problem = replace(case.problem, learning_rate_schedule=schedule)
    return Setup.build(problem, case.members)


def tight(case: Case) -> CurvatureRate:
    """A rule that changes the rate of a member most of the time."""
    momentum = case.members[0].momentum > 0
    return CurvatureRate(every=3, target=0.02 if momentum else 0.1, samples=15)


def is_slow(engine: type[Engine], case: Case) -> bool:
    """What takes up to half a minute a test: images, and the engine that the others are compared
    with."""
    return case.name in (WIDE, "small convnet") or engine is AutogradEngine


some_pairs = pytest.mark.parametrize(
    ("engine", "case"),
    [
        pytest.param(
            engine,
            case,
            id=f"{engine.__name__}-{case.name}",
            marks=[pytest.mark.slow] if is_slow(engine, case) else [],
        )
        for case in CASES
        for engine in ENGINES
        if case.name in FEW and engine.refusal(case.problem) is None
    ],
)


@cache
def reference(case: Case, rule: CurvatureRate | None) -> list[Evaluation]:
    """The reference engine's evaluations, once for all engines that are compared with them."""
    return list(AutogradEngine(following(case, rule)).evaluations())


@some_pairs
def test_agrees_with_the_reference_under_an_active_cap(case: Case, engine: type[Engine]) -> None:
    expected = reference(case, tight(case))
    found = list(engine(following(case, tight(case))).evaluations())
    for one, other in zip(found, expected, strict=True):
        for name in ("learning_rate", "weighted_loss", "train_loss", "validation_loss"):
            a, b = getattr(one, name), getattr(other, name)
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-8)
    capped = torch.stack([each.learning_rate for each in expected])
    free = torch.stack([each.learning_rate for each in reference(case, None)])
    assert bool((capped <= free).all())
    assert bool((capped < free).any(0)[0])


@some_pairs
def test_a_cap_out_of_reach_changes_nothing(case: Case, engine: type[Engine]) -> None:
    plain = list(engine(following(case, None)).evaluations())
    free = list(engine(following(case, CurvatureRate(4, target=1e12, samples=9))).evaluations())
    assert_equal(free, plain, exactly=True)


@some_pairs
def test_resumes_where_it_stopped(case: Case, engine: type[Engine], tmp_path: Path) -> None:
    rule = tight(case)
    whole = list(engine(following(case, rule)).evaluations())
    first, found = engine(following(case, rule)), []
    for evaluation in first.evaluations():
        found.append(evaluation)
        if len(found) == 2:
            break
    save_checkpoint(tmp_path / "state.pt", first.state_dict())
    second = engine(following(case, rule))
    state = load_checkpoint(tmp_path / "state.pt")
    assert state is not None
    second.load_state_dict(state)
    found += list(second.evaluations())
    assert_equal(found, whole, exactly=True)
    for one, other in zip(found, whole, strict=True):
        assert torch.equal(one.learning_rate, other.learning_rate)


@every_engine_unhurried
def test_recording_changes_nothing(engine: type[Engine]) -> None:
    case = CASES[0]
    plain = engine(following(case, tight(case)), traced=[0]).run()
    probes = Probes(2, (0, 2))
    probed = engine(following(case, tight(case)), traced=[0], probes=probes).run()
    assert_equal(list(probed.evaluations), list(plain.evaluations), exactly=True)
    assert_same_trace(probed.trace, plain.trace, exactly=True)
    assert plain.trace is not None
    assert probed.curvature is not None
    rates = plain.trace.learning_rate[probed.curvature.steps[:-1], 0]
    assert torch.equal(probed.curvature.learning_rate[:-1, 0], rates)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=case.name,
            marks=[pytest.mark.slow] if case.name in (WIDE, "small convnet") else [],
        )
        for case in CASES
        if case.name in FEW
    ],
)
def test_the_rate_is_the_target_over_the_largest_eigenvalue(case: Case) -> None:
    """Measured by itself, at each evaluation where the rule measures too."""
    rule = replace(tight(case), every=case.problem.evaluate_every)
    setup = following(case, rule)
    engine, problem = AutogradEngine(setup), setup.problem
    for evaluation in engine.evaluations():
        if evaluation.step % rule.every:
            continue
        weights = setup.class_weights(torch.tensor([evaluation.step]))[0]
        for m, member in enumerate(setup.members):
            network = copy.deepcopy(setup.networks[m]).eval()
            network.load_state_dict(engine.parameters(m))
            data = balanced_subset(setup.splits[m].train, rule.samples).to(torch.float64, "cpu")
            top = hessian_top(network, problem.loss, data, weights[m])
            factor = problem.learning_rate_schedule.factor(evaluation.step, problem.steps)
            expected = min(member.learning_rate * factor, rule.target / float(top.values[0]))
            assert float(evaluation.learning_rate[m]) == pytest.approx(expected, rel=1e-4)


@every_engine_unhurried
def test_a_parabola_in_closed_form(engine: type[Engine]) -> None:
    """A linear network with the squared error: the Hessian is 2 / C times the second moment of the
    inputs with their ones, whatever the parameters are. At target 1 no rate is too large."""
    problem = replace(
        CASES[0].problem,
        model=MLPConfig(width=1, depth=0),
        loss="mse_sample_weighted",
        learning_rate_schedule=LearningRateSchedule(curvature=CurvatureRate(every=10)),
    )
    if engine.refusal(problem) is not None:
        pytest.skip("it does not train linear networks")
    setup = Setup.build(problem, [Member(1e6, seed=1), Member(1e6, seed=2), Member(1e-3, seed=2)])
    evaluations = list(engine(setup).evaluations())
    for m in range(2):
        inputs = setup.splits[m].train.inputs
        with_ones = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
        moment = 2 / setup.num_classes * with_ones.T @ with_ones / len(inputs)
        bound = 1 / float(torch.linalg.eigvalsh(moment)[-1])
        for evaluation in evaluations:
            assert float(evaluation.learning_rate[m]) == pytest.approx(bound, rel=1e-5)
    losses = torch.stack([each.train_loss for each in evaluations])
    assert bool((losses.diff(dim=0) <= 0).all())
    assert all(float(each.learning_rate[2]) == 1e-3 for each in evaluations)


@every_engine_unhurried
def test_a_diverged_member_leaves_the_others_their_caps(engine: type[Engine]) -> None:
    case = CASES[0]
    rule = CurvatureRate(every=3, target=0.3, samples=15)
    wild = replace(MIXED[0], learning_rate=1e300, weight_decay=1e300)  # past any cap
    together = following(Case("wild", case.problem, (wild, *MIXED)), rule)
    alone = following(case, rule)
    found, sound = list(engine(together).evaluations()), list(engine(alone).evaluations())
    assert int(found[-1].diverged_step[0]) > 0
    torch.testing.assert_close(found[-1].train_loss[1:], sound[-1].train_loss)
    torch.testing.assert_close(found[-1].learning_rate[1:], sound[-1].learning_rate)


def test_caps_where_there_is_no_eigenvalue_to_trust() -> None:
    value = torch.tensor([4.0, -1.0, 4.0, 4.0, torch.nan], dtype=torch.float64)
    converged = torch.tensor([True, True, False, False, False])
    before = torch.tensor([9.0, 9.0, 9.0, 0.1, 0.3], dtype=torch.float64)
    expected = torch.tensor([0.5, torch.inf, 0.5, 0.1, 0.3], dtype=torch.float64)
    assert torch.equal(caps_of(value, converged, 2.0, before), expected)


@pytest.mark.parametrize(("key", "value"), [("every", 0), ("target", 0.0), ("samples", 1)])
def test_refuses_numbers_out_of_range(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        CurvatureRate(**{"every": 5, key: value})  # type: ignore[arg-type]


def test_weight_decay_and_momentum_stay_as_they_are() -> None:
    """Only the rate is capped: a target that holds it constant is a run at that rate."""
    case = next(each for each in CASES if each.name == "mini-batch with momentum")
    rule = CurvatureRate(every=1000, target=0.02)
    capped = list(AutogradEngine(following(case, rule)).evaluations())
    rates = capped[0].learning_rate.tolist()
    members = tuple(
        replace(member, learning_rate=rate)
        for member, rate in zip(WITH_MOMENTUM, rates, strict=True)
    )
    slow = list(AutogradEngine(Setup.build(case.problem, members)).evaluations())
    assert_equal(capped, slow, exactly=True)
