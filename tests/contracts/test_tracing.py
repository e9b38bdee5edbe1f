"""What every engine promises about traces and histories, whoever asks for them."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from dynloss_core.training import (
    AutogradEngine,
    Engine,
    Evaluation,
    Setup,
    Trace,
)
from tests.cases import CASES, MIXED, Case
from tests.contracts.engines import (
    TRACE_COLUMNS,
    assert_equal,
    assert_same_trace,
    every_engine,
    every_pair,
    setup_of,
)


@every_pair
def test_a_trace_agrees_with_the_reference(case: Case, engine: type[Engine]) -> None:
    everyone = range(len(case.members))
    found = engine(setup_of(case), traced=everyone).run()
    expected = AutogradEngine(setup_of(case), traced=everyone).run()
    assert_same_trace(found.trace, expected.trace, exactly=False)
    assert found.trace is not None
    assert found.trace.steps.tolist() == list(range(case.problem.steps))


@every_pair
def test_tracing_changes_nothing(case: Case, engine: type[Engine]) -> None:
    traced = engine(setup_of(case), traced=[0]).run()
    plain = engine(setup_of(case)).run()
    assert plain.trace is None
    assert_equal(list(traced.evaluations), list(plain.evaluations), exactly=True)
    for one, other in zip(traced.parameters, plain.parameters, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)


@every_engine
def test_some_members_are_traced_as_all_would_be(engine: type[Engine]) -> None:
    case = CASES[0]
    some = engine(setup_of(case), traced=[2, 0]).run().trace
    everyone = engine(setup_of(case), traced=range(3)).run().trace
    assert some is not None
    assert everyone is not None
    assert some.members.tolist() == [0, 2]
    for name in TRACE_COLUMNS:
        torch.testing.assert_close(getattr(some, name), getattr(everyone, name)[:, [0, 2]])


@every_engine
def test_a_trace_and_the_evaluations_say_the_same(engine: type[Engine]) -> None:
    case = CASES[0]
    history = engine(setup_of(case), traced=range(3)).run()
    assert history.trace is not None
    before_the_end = history.steps[:-1]
    pairs = {"weighted_loss": "weighted_loss", "train_loss": "loss", "train_accuracy": "accuracy"}
    for metric, name in pairs.items():
        seen = getattr(history.trace, name)[before_the_end]
        torch.testing.assert_close(history.curve(metric)[:-1], seen, rtol=1e-12, atol=1e-14)


@every_engine
def test_a_trace_resumes_where_it_stopped(engine: type[Engine]) -> None:
    case = CASES[0]
    whole = engine(setup_of(case), traced=[1]).run()
    first, evaluations = engine(setup_of(case), traced=[1]), list[Evaluation]()
    for evaluation in first.evaluations():
        evaluations.append(evaluation)
        if len(evaluations) == 3:
            break
    second = engine(setup_of(case), traced=[1])
    second.load_state_dict(first.state_dict())
    rest = second.run()
    traces = [each.trace for each in evaluations if each.trace is not None]
    assert rest.trace is not None
    assert_same_trace(Trace.joined([*traces, rest.trace]), whole.trace, exactly=True)


@every_pair
def test_the_final_parameters_make_the_final_metrics(case: Case, engine: type[Engine]) -> None:
    running = engine(setup_of(case))
    history, held_out = running.run(), running.held_out()
    for member, parameters in enumerate(history.parameters):
        network = copy.deepcopy(running.setup.networks[member]).eval()
        network.load_state_dict(parameters)
        test = running.setup.splits[member].test.to(torch.float64, "cpu")
        correct = (network(test.inputs).argmax(-1) == test.targets).double().mean()
        torch.testing.assert_close(correct, held_out.test_accuracy[member])


@every_engine
def test_a_diverged_member_leaves_no_numbers(engine: type[Engine]) -> None:
    case = CASES[0]
    bad = replace(MIXED[0], learning_rate=1e200)
    setup = Setup.build(case.problem, [bad, *MIXED])
    history = engine(setup, traced=range(4)).run()
    sound = engine(Setup.build(case.problem, MIXED), traced=range(3)).run()
    assert history.trace is not None
    assert sound.trace is not None
    found_at = int(history.evaluations[-1].diverged_step[0])
    for name in ("weighted_loss", "loss", "accuracy"):
        values = getattr(history.trace, name)
        assert bool(torch.isnan(values[found_at:, 0]).all())
        torch.testing.assert_close(values[:, 1:], getattr(sound.trace, name))
    assert all(bool(torch.isnan(tensor).all()) for tensor in history.parameters[0].values())
    assert not any(bool(torch.isnan(t).any()) for t in history.parameters[1].values())


@every_engine
def test_refuses_to_trace_a_member_it_has_not(engine: type[Engine]) -> None:
    with pytest.raises(ValueError, match="members 0 to 2"):
        engine(setup_of(CASES[0]), traced=[3])
