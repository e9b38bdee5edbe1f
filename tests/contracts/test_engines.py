"""What every engine promises: it agrees with the reference, keeps members apart, resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.data import Labelled, SpiralsConfig, Splits
from dynloss_core.models import MLPConfig
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    Engine,
    Evaluation,
    FusedCPUEngine,
    Member,
    Problem,
    Setup,
    VmappedEngine,
)
from tests.cases import CASES, MIXED, Case
from tests.contracts.engines import METRICS, assert_equal, every_engine, every_pair, setup_of


@every_pair
def test_agrees_with_the_reference(case: Case, engine: type[Engine]) -> None:
    reference, other = AutogradEngine(setup_of(case)), engine(setup_of(case))
    assert_equal(list(other.evaluations()), list(reference.evaluations()), exactly=False)
    for metric in ("test_loss", "test_accuracy"):
        found, expected = getattr(other.held_out(), metric), getattr(reference.held_out(), metric)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@every_pair
def test_report_points(case: Case, engine: type[Engine]) -> None:
    steps = [each.step for each in engine(setup_of(case)).evaluations()]
    every, total = case.problem.evaluate_every, case.problem.steps
    assert steps == [*range(0, total, every), total]


@every_pair
@pytest.mark.parametrize("after", [1, 3, 5])
def test_resumed_equals_uninterrupted_bit_for_bit(
    case: Case, engine: type[Engine], after: int, tmp_path: Path
) -> None:
    whole = list(engine(setup_of(case)).evaluations())
    first = engine(setup_of(case))
    found = []
    for evaluation in first.evaluations():
        found.append(evaluation)
        if len(found) == after:
            break
    save_checkpoint(tmp_path / "state.pt", first.state_dict())
    second = engine(setup_of(case))
    state = load_checkpoint(tmp_path / "state.pt")
    assert state is not None
    second.load_state_dict(state)
    found += list(second.evaluations())
    assert_equal(found, whole, exactly=True)
    resumed = engine(setup_of(case))
    resumed.load_state_dict(second.state_dict())
    assert torch.equal(resumed.held_out().test_loss, second.held_out().test_loss)


@every_engine
def test_members_do_not_depend_on_their_neighbours_or_order(engine: type[Engine]) -> None:
    case = CASES[0]
    together = list(engine(setup_of(case)).evaluations())
    reverse = Setup.build(case.problem, case.members[::-1])
    backwards = list(engine(reverse).evaluations())
    for index, member in enumerate(case.members):
        alone = list(engine(Setup.build(case.problem, [member])).evaluations())
        for one, all_, turned in zip(alone, together, backwards, strict=True):
            for metric in METRICS:
                expected = getattr(one, metric)[0]
                mirrored = getattr(turned, metric)[len(case.members) - 1 - index]
                torch.testing.assert_close(getattr(all_, metric)[index], expected)
                torch.testing.assert_close(mirrored, expected)


@every_engine
def test_amplitude_one_is_the_static_arm_bit_for_bit(engine: type[Engine]) -> None:
    problem = CASES[0].problem
    one = Setup.build(problem, [Member(0.5, seed=1, period=7, amplitude=1.0)])
    static = Setup.build(problem, [Member(0.5, seed=1)])
    found, expected = list(engine(one).evaluations()), list(engine(static).evaluations())
    assert_equal(found, expected, exactly=True)
    for evaluation in found:
        assert torch.equal(evaluation.weighted_loss, evaluation.train_loss)


@every_engine
@pytest.mark.parametrize("rate", [1e200, 1e308])
def test_a_diverged_member_is_frozen_flagged_and_alone(engine: type[Engine], rate: float) -> None:
    case = CASES[0]
    bad = replace(MIXED[0], learning_rate=rate)
    found = list(engine(Setup.build(case.problem, [bad, *MIXED])).evaluations())
    sound = list(engine(Setup.build(case.problem, MIXED)).evaluations())
    last = found[-1]
    assert last.step == case.problem.steps
    assert 0 < int(last.diverged_step[0]) <= case.problem.steps
    for metric in METRICS:
        assert bool(torch.isnan(getattr(last, metric)[0]))
        torch.testing.assert_close(getattr(last, metric)[1:], getattr(sound[-1], metric))
    assert last.diverged_step[1:].tolist() == [-1, -1, -1]


@every_engine
def test_stops_early_when_every_member_has_diverged(engine: type[Engine]) -> None:
    bad = replace(MIXED[0], learning_rate=1e200)
    found = list(engine(Setup.build(CASES[0].problem, [bad])).evaluations())
    assert found[-1].step < CASES[0].problem.steps
    assert int(found[-1].diverged_step[0]) == found[-1].step


def run_with_stops(engine: Engine, stops: dict[int, list[int]]) -> list[Evaluation]:
    """All evaluations, with members stopped after those at the given steps."""
    found = []
    for evaluation in engine.evaluations():
        found.append(evaluation)
        engine.stop(stops.get(evaluation.step, []))
    return found


@every_pair
def test_stopped_members_leave_the_others_as_they_are(case: Case, engine: type[Engine]) -> None:
    whole = list(engine(setup_of(case)).evaluations())
    at, last = whole[1].step, len(case.members) - 1
    stopping = engine(setup_of(case))
    found = run_with_stops(stopping, {at: [last]})
    if last == 0:
        assert [each.step for each in found] == [0, at], "a wholly stopped ensemble ends"
        return
    for one, other in zip(found, whole, strict=True):
        assert torch.equal(one.diverged_step, other.diverged_step)
        for metric in METRICS:
            a, b = getattr(one, metric), getattr(other, metric)
            assert torch.equal(a[:last], b[:last])
            assert torch.equal(a[last], b[last]) if one.step <= at else bool(torch.isnan(a[last]))
    assert stopping.stopped_step.tolist() == [-1] * last + [at]
    assert bool(torch.isnan(stopping.held_out().test_loss[last]))
    numbers = [each for each in stopping.parameters(last).values() if each.is_floating_point()]
    assert all(bool(torch.isnan(each).all()) for each in numbers)
    others = [each for each in stopping.parameters(0).values() if each.is_floating_point()]
    assert all(bool(torch.isfinite(each).all()) for each in others)


@every_pair
def test_resumed_after_a_stop_equals_uninterrupted(
    case: Case, engine: type[Engine], tmp_path: Path
) -> None:
    stops = {case.problem.evaluate_every: [0]}
    whole = run_with_stops(engine(setup_of(case)), stops)
    first = engine(setup_of(case))
    found = []
    for evaluation in first.evaluations():
        found.append(evaluation)
        first.stop(stops.get(evaluation.step, []))
        if len(found) == 2:
            break
    save_checkpoint(tmp_path / "state.pt", first.state_dict())
    second = engine(setup_of(case))
    state = load_checkpoint(tmp_path / "state.pt")
    assert state is not None
    second.load_state_dict(state)
    found += list(second.evaluations())
    assert_equal(found, whole, exactly=True)
    assert second.stopped_step[0] == case.problem.evaluate_every


@every_engine
def test_a_stop_is_no_divergence_and_comes_once(engine: type[Engine]) -> None:
    case = CASES[0]
    one = engine(setup_of(case))
    evaluations = one.evaluations()
    next(evaluations), next(evaluations)
    one.stop([1])
    step = one.step
    next(evaluations)
    one.stop([1])
    assert one.stopped_step.tolist() == [-1, step, -1]
    assert one.diverged_step.tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="member 3 is not one of 0 to 2"):
        one.stop([3])


@every_engine
def test_a_class_absent_from_the_data(engine: type[Engine]) -> None:
    case = CASES[0]
    setup = setup_of(case)
    keep = setup.splits[0].train.targets != 1
    splits = []
    for each in setup.splits:
        train = Labelled(each.train.inputs[keep], each.train.targets[keep])
        splits.append(Splits(train, each.validation, each.test, each.num_classes))
    fewer = replace(setup, splits=tuple(splits))
    expected = list(AutogradEngine(fewer).evaluations())
    assert_equal(list(engine(fewer).evaluations()), expected, exactly=engine is AutogradEngine)


@every_engine
def test_refuses_the_state_of_another_ensemble(engine: type[Engine]) -> None:
    case = CASES[0]
    state = engine(setup_of(case)).state_dict()
    with pytest.raises(ValueError, match="belongs to engine"):
        engine(Setup.build(case.problem, MIXED[:1])).load_state_dict(state)


@every_engine
def test_float32_stays_close_to_float64(engine: type[Engine]) -> None:
    case = CASES[0]
    single = Setup.build(replace(case.problem, dtype="float32"), case.members)
    for one, other in zip(
        engine(single).evaluations(), engine(setup_of(case)).evaluations(), strict=True
    ):
        torch.testing.assert_close(one.train_loss, other.train_loss, rtol=1e-3, atol=1e-4)


def test_the_number_of_threads_changes_nothing() -> None:
    case = CASES[0]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        several = list(FusedCPUEngine(setup_of(case)).evaluations())
    finally:
        torch.set_num_threads(threads)
    assert_equal(several, list(FusedCPUEngine(setup_of(case)).evaluations()), exactly=True)


RANDOM_PROBLEMS = st.builds(
    Problem,
    data=st.builds(
        SpiralsConfig, points_per_class=st.integers(1, 23), num_classes=st.integers(2, 8)
    ),
    model=st.builds(MLPConfig, width=st.integers(1, 37)),
    loss=st.sampled_from(["cross_entropy", "mse_sample_weighted", "mse_output_weighted"]),
    nesterov=st.booleans(),
    dtype=st.just("float64"),
    steps=st.just(31),
    static_tail=st.integers(0, 31),
    evaluate_every=st.integers(1, 40),
)
RANDOM_MEMBERS = st.lists(
    st.builds(
        Member,
        learning_rate=st.floats(1e-3, 1.0),
        seed=st.integers(0, 5),
        period=st.integers(2, 60),
        amplitude=st.just(1.0) | st.floats(1.0, 100.0),
        momentum=st.just(0.0) | st.floats(0.0, 0.95),
        weight_decay=st.just(0.0) | st.floats(0.0, 0.1),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize(
    "engine", [BatchedEngine, VmappedEngine, FusedCPUEngine], ids=lambda each: each.__name__
)
@settings(max_examples=40)
@given(problem=RANDOM_PROBLEMS, members=RANDOM_MEMBERS)
def test_agrees_with_the_reference_on_random_problems(
    engine: type[Engine], problem: Problem, members: list[Member]
) -> None:
    """Sizes that are no multiple of anything, periods longer than the run, A = 1, one member."""
    reference = list(AutogradEngine(Setup.build(problem, members)).evaluations())
    found = list(engine(Setup.build(problem, members)).evaluations())
    for one, other in zip(found, reference, strict=True):
        for metric in ("weighted_loss", "train_loss", "validation_loss"):
            torch.testing.assert_close(
                getattr(one, metric), getattr(other, metric), rtol=1e-8, atol=1e-10
            )
