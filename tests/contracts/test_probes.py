"""What every engine promises about probes: they see the landscape and leave the training alone."""

from __future__ import annotations

import copy

import pytest
import torch

from dynloss_core.landscape import HessianOperator, NTKOperator
from dynloss_core.training import (
    AutogradEngine,
    CurvatureSeries,
    Engine,
    FusedCPUEngine,
    Probes,
    Setup,
    Valleys,
    ValleySeries,
)
from tests.cases import CASES, Case
from tests.contracts.test_engines import assert_equal, every_engine, every_pair, setup_of
from tests.contracts.test_tracing import assert_same_trace

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


@every_engine
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
    from dynloss_core.training import fused_cpu

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
