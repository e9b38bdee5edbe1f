"""What every engine promises about probes: they see the landscape and leave the training alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from dynloss_core.landscape import (
    HessianOperator,
    NTKOperator,
    balanced_subset,
    hessian_top,
    hutchinson_trace,
    ntk_top,
)
from dynloss_core.models import MLPConfig
from dynloss_core.training import (
    AutogradEngine,
    ConvnetEngine,
    CurvatureSeries,
    Engine,
    FusedCPUEngine,
    Probes,
    Setup,
    Valleys,
    ValleySeries,
)
from tests.cases import CASES, MIXED, Case
from tests.contracts.engines import (
    assert_equal,
    assert_same_trace,
    every_engine,
    every_engine_unhurried,
    every_pair,
    setup_of,
)

EVERY = 7


def probes_of(case: Case) -> Probes:
    return Probes(EVERY, tuple(range(len(case.members))))


def series_of(case: Case, engine: type[Engine]) -> CurvatureSeries:
    series = engine(setup_of(case), probes=probes_of(case)).run().curvature
    assert series is not None
    return series


SOME = ("one hidden layer, full batch", "sample-weighted MSE", "mini-batch with momentum")


@every_pair
def test_probes_change_nothing(case: Case, engine: type[Engine]) -> None:
    if case.name not in SOME:
        pytest.skip("a case like the others, for probes")
    plain = engine(setup_of(case), traced=[0]).run()
    probed = engine(setup_of(case), traced=[0], probes=probes_of(case)).run()
    assert_equal(list(probed.evaluations), list(plain.evaluations), exactly=True)
    assert_same_trace(probed.trace, plain.trace, exactly=True)
    assert plain.curvature is None
    assert probed.curvature is not None
    due = range(0, case.problem.steps + 1, EVERY)
    assert probed.curvature.steps.tolist() == list(due)


@every_engine_unhurried
def test_probes_see_the_landscape_of_that_moment(engine: type[Engine]) -> None:
    case = CASES[0]
    setup = setup_of(case)
    found = series_of(case, engine)
    running = engine(setup)
    for evaluation in running.evaluations():
        if evaluation.step % EVERY:
            continue
        row = found.steps.tolist().index(evaluation.step)
        for member, splits in enumerate(setup.splits):
            network = copy.deepcopy(setup.networks[member])
            network.load_state_dict(running.parameters(member))
            weights = setup.class_weights(torch.tensor([evaluation.step]))[0, member]
            hessian = HessianOperator(network, case.problem.loss, splits.train, weights).dense()
            expected = torch.linalg.eigvalsh(hessian)[-1]
            value = found.hessian_lambda_max[row, member]
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
            kernel = NTKOperator(network, splits.train.inputs[:50]).dense()
            expected = torch.linalg.eigvalsh(kernel)[-1]
            torch.testing.assert_close(
                found.ntk_lambda_max[row, member], expected, rtol=1e-4, atol=0
            )


@every_engine
def test_probes_resume_where_they_stopped(engine: type[Engine]) -> None:
    case = CASES[0]
    whole = engine(setup_of(case), probes=probes_of(case)).run().curvature
    first, series = engine(setup_of(case), probes=probes_of(case)), []
    for evaluation in first.evaluations():
        series.append(evaluation.curvature)
        if evaluation.step == 30:
            break
    second = engine(setup_of(case), probes=probes_of(case))
    second.load_state_dict(first.state_dict())
    series.append(second.run().curvature)
    assert whole is not None
    joined = CurvatureSeries.joined([each for each in series if each is not None])
    assert torch.equal(joined.steps, whole.steps)
    for name in ("hessian_lambda_max", "hessian_residual", "ntk_lambda_max"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))


def with_valleys(case: Case) -> Probes:
    members = tuple(range(len(case.members)))
    return Probes(EVERY, members, valleys=Valleys(2 * EVERY, members[:2]))


@every_pair
def test_valleys_change_neither_training_nor_curvature(case: Case, engine: type[Engine]) -> None:
    if case.name not in SOME:
        pytest.skip("a case like the others, for valleys")
    plain = engine(setup_of(case), traced=[0], probes=probes_of(case)).run()
    seen = engine(setup_of(case), traced=[0], probes=with_valleys(case)).run()
    assert_equal(list(seen.evaluations), list(plain.evaluations), exactly=True)
    assert_same_trace(seen.trace, plain.trace, exactly=True)
    assert plain.valleys is None
    assert plain.curvature is not None
    assert seen.curvature is not None
    assert seen.valleys is not None
    for name in ("steps", "hessian_lambda_max", "hessian_residual", "ntk_lambda_max"):
        assert torch.equal(getattr(seen.curvature, name), getattr(plain.curvature, name))
    valleys = seen.valleys
    assert valleys.steps.tolist() == list(range(0, case.problem.steps + 1, 2 * EVERY))
    assert valleys.members.tolist() == [0, 1]
    assert torch.equal(valleys.hessian_lambda_max, seen.curvature.hessian_lambda_max[::2, :2])
    first = seen.evaluations[0].weighted_loss[:2]
    middle = len(valleys.offsets) // 2
    torch.testing.assert_close(valleys.weighted_loss[0, :, middle], first, rtol=1e-12, atol=0)


@every_engine
def test_valleys_resume_where_they_stopped(engine: type[Engine]) -> None:
    case = CASES[0]
    whole = engine(setup_of(case), probes=with_valleys(case)).run().valleys
    first, series = engine(setup_of(case), probes=with_valleys(case)), []
    for evaluation in first.evaluations():
        series.append(evaluation.valleys)
        if evaluation.step == 30:
            break
    second = engine(setup_of(case), probes=with_valleys(case))
    second.load_state_dict(first.state_dict())
    series.append(second.run().valleys)
    assert whole is not None
    joined = ValleySeries.joined([each for each in series if each is not None])
    for name in ("steps", "weighted_loss", "loss", "slope", "hessian_residual", "class_weights"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))
    assert torch.equal(joined.overlap[1:], whole.overlap[1:])
    assert bool((whole.overlap[1:] <= 1 + 1e-12).all())


@pytest.mark.parametrize("name", ["one hidden layer, full batch", "three hidden layers"])
def test_some_members_are_probed_as_all_would_be(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    everyone = series_of(case, AutogradEngine)
    some = AutogradEngine(setup_of(case), probes=Probes(EVERY, (2,))).run().curvature
    assert some is not None
    assert some.members.tolist() == [2]
    torch.testing.assert_close(some.hessian_lambda_max[:, 0], everyone.hessian_lambda_max[:, 2])


def test_refuses_probes_of_nobody_and_of_strangers() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Probes(5, ())
    with pytest.raises(ValueError, match="use >= 1"):
        Probes(0, (0,))
    with pytest.raises(ValueError, match="use a multiple"):
        Probes(5, (0,), valleys=Valleys(7, (0,)))
    with pytest.raises(ValueError, match="probe them too"):
        Probes(5, (0,), valleys=Valleys(5, (1,)))
    setup = Setup.build(CASES[0].problem, CASES[0].members)
    with pytest.raises(ValueError, match="members 0 to 2"):
        AutogradEngine(setup, probes=Probes(5, (3,)))


def test_parameters_kept_on_the_way_are_those_of_a_run_that_stops_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many moments the compiled loop passes at once, and across its looks at the class
    weights: bit for bit."""
    pytest.importorskip("numba")
    from dynloss_core.training.engines import fused_cpu

    case = CASES[0]
    stopping = Engine._advance_by_moments, Engine._moments_at_once

    def series() -> CurvatureSeries:
        probes = Probes(2, tuple(range(len(case.members))))
        found = FusedCPUEngine(setup_of(case), probes=probes).run().curvature
        assert found is not None
        return found

    expected = series()
    monkeypatch.setattr(fused_cpu, "_CHUNK", 3)
    in_chunks = series()
    for name, method in zip(("_advance_by_moments", "_moments_at_once"), stopping, strict=True):
        monkeypatch.setattr(FusedCPUEngine, name, method)
    one_by_one = series()
    for found in (in_chunks, one_by_one):
        for name in ("steps", "hessian_lambda_max", "hessian_residual", "ntk_lambda_max"):
            assert torch.equal(getattr(found, name), getattr(expected, name))


def operator_at(engine: Engine, member: int, samples: int | None) -> HessianOperator:
    """The Hessian of F of a member as it is, on a subset."""
    setup = engine.setup
    network = copy.deepcopy(setup.networks[member]).eval()
    network.load_state_dict(engine.parameters(member))
    data = balanced_subset(setup.splits[member].train, samples).to(torch.float64, "cpu")
    weights = setup.class_weights(torch.tensor([engine.step]))[0, member]
    return HessianOperator(network, setup.problem.loss, data, weights)


@every_engine_unhurried
def test_a_subset_and_the_trace(engine: type[Engine]) -> None:
    case = CASES[0]
    every = case.problem.evaluate_every
    probes = replace(probes_of(case), every=every, samples=10, trace_probes=6)
    plain = engine(setup_of(case)).run()
    probed = engine(setup_of(case), probes=probes)
    evaluations = []
    for evaluation in probed.evaluations():
        evaluations.append(evaluation)
        series = evaluation.curvature
        if series is None:
            continue
        assert series.hessian_trace is not None
        assert series.hessian_trace_error is not None
        for member, of in enumerate(case.members):
            operator = operator_at(probed, member, 10)
            top = torch.linalg.eigvalsh(operator.dense())[-1]
            found = series.hessian_lambda_max[-1, member]
            torch.testing.assert_close(found, top, rtol=1e-4, atol=1e-6)
            trace = hutchinson_trace(operator, operator.dimension, probes=6, seed=of.seed)
            assert float(series.hessian_trace[-1, member]) == pytest.approx(trace.value)
            error = float(series.hessian_trace_error[-1, member])
            assert error == pytest.approx(trace.standard_error)
    assert_equal(evaluations, list(plain.evaluations), exactly=True)


NORMALISED = [
    case for case in CASES if case.name in ("wide residual network, batch normalisation", "dropout")
]


@pytest.mark.slow
@pytest.mark.parametrize("engine", [AutogradEngine, ConvnetEngine], ids=lambda each: each.__name__)
@pytest.mark.parametrize("case", NORMALISED, ids=lambda case: case.name)
def test_networks_that_train_otherwise_than_they_are_evaluated(
    case: Case, engine: type[Engine]
) -> None:
    """Their landscape is that of the network as it is evaluated."""
    every = case.problem.evaluate_every
    probes = replace(probes_of(case), every=every, samples=9, trace_probes=2)
    whole = engine(setup_of(case), probes=probes).run()
    plain = engine(setup_of(case)).run()
    assert_equal(list(whole.evaluations), list(plain.evaluations), exactly=True)
    assert whole.curvature is not None
    first, series = engine(setup_of(case), probes=probes), []
    for evaluation in first.evaluations():
        series.append(evaluation.curvature)
        if evaluation.step == every:
            break
    for member in range(len(case.members)):
        setup = first.setup
        network = copy.deepcopy(setup.networks[member]).eval()
        network.load_state_dict(first.parameters(member))
        data = balanced_subset(setup.splits[member].train, 9).to(torch.float64, "cpu")
        weights = setup.class_weights(torch.tensor([every]))[0, member]
        top = hessian_top(network, case.problem.loss, data, weights, tolerance=1e-5).values[0]
        found = whole.curvature.hessian_lambda_max[1, member]
        torch.testing.assert_close(found, top, rtol=1e-4, atol=0)
        kernel = ntk_top(network, data.inputs, tolerance=1e-5).values[0]
        found = whole.curvature.ntk_lambda_max[1, member]
        torch.testing.assert_close(found, kernel, rtol=1e-4, atol=0)
    second = engine(setup_of(case), probes=probes)
    second.load_state_dict(first.state_dict())
    series.append(second.run().curvature)
    joined = CurvatureSeries.joined([each for each in series if each is not None])
    for name in ("steps", "hessian_lambda_max", "ntk_lambda_max", "hessian_trace"):
        assert torch.equal(getattr(joined, name), getattr(whole.curvature, name))


def test_the_trace_of_a_parabola_in_closed_form() -> None:
    """A linear network with the squared error: 2 / N times the sum of Gamma_y (|x|^2 + 1),
    whatever the parameters are."""
    problem = replace(
        CASES[0].problem, model=MLPConfig(width=1, depth=0), loss="mse_sample_weighted"
    )
    setup = Setup.build(problem, MIXED)
    probes = Probes(10, (0, 1, 2), trace_probes=200)
    series = AutogradEngine(setup, probes=probes).run().curvature
    assert series is not None
    assert series.hessian_trace is not None
    assert series.hessian_trace_error is not None
    for row, weights in enumerate(setup.class_weights(series.steps)):
        for member, splits in enumerate(setup.splits):
            squares = (splits.train.inputs**2).sum(1) + 1
            expected = 2 * (weights[member][splits.train.targets] * squares).mean()
            error = series.hessian_trace_error[row, member]
            assert (series.hessian_trace[row, member] - expected).abs() < 5 * error
            assert 0 < error < 0.05 * expected
