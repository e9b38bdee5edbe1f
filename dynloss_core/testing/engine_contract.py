"""What every engine promises: it agrees with the reference, keeps members apart, resumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.data import Labelled, Splits
from dynloss_core.testing.agreement import METRICS, assert_equal
from dynloss_core.testing.cases import CASES, Case, setup_of
from dynloss_core.training import AutogradEngine, Engine, Evaluation, HeldOut, Setup

__all__ = ["EngineContract"]


class EngineContract:
    """The tests of one engine, on every case that it does not refuse.

    Args:
        engine: the engine.
        cases: problems and ensembles; it must train at least one with several members.
    """

    engine: ClassVar[type[Engine]]
    cases: ClassVar[Sequence[Case]] = CASES

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that takes a case on all cases that the engine trains."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.trained(), ids=lambda case: case.name)

    def trained(self) -> list[Case]:
        """The cases that the engine does not refuse."""
        return [case for case in self.cases if self.engine.refusal(case.problem) is None]

    @property
    def multi_member_case(self) -> Case:
        """The first of them with several members."""
        return next(case for case in self.trained() if len(case.members) > 1)

    def _resumed(
        self, case: Case, after: int, stops: Mapping[int, list[int]], file: Path
    ) -> tuple[list[Evaluation], Engine]:
        """All evaluations of a run that was saved after some of them and resumed, and the resumed
        engine."""
        first, evaluations = self.engine(setup_of(case)), []
        for evaluation in first.evaluations():
            evaluations.append(evaluation)
            first.stop(stops.get(evaluation.step, []))
            if len(evaluations) == after:
                break
        save_checkpoint(file, first.state_dict())
        second, state = self.engine(setup_of(case)), load_checkpoint(file)
        assert state is not None
        second.load_state_dict(state)
        return [*evaluations, *second.evaluations()], second

    def test_it_trains_a_case_with_several_members(self) -> None:
        """Otherwise these tests would show nothing about it."""
        assert any(len(case.members) > 1 for case in self.trained())

    def test_agrees_with_the_reference(self, case: Case) -> None:
        (actual, tested), (expected, on_test) = (
            _uninterrupted(engine, case) for engine in (self.engine, AutogradEngine)
        )
        assert_equal(actual, expected, exactly=False)
        for metric in ("test_loss", "test_accuracy"):
            values = getattr(tested, metric), getattr(on_test, metric)
            torch.testing.assert_close(*values, rtol=1e-9, atol=1e-12)

    def test_report_points(self) -> None:
        total = 7
        for every in (1, total - 1, total, total + 1):
            few = replace(self.multi_member_case.problem, steps=total, static_tail=2)
            problem = replace(few, evaluate_every=every)
            setup = Setup.build(problem, self.multi_member_case.members)
            steps = [evaluation.step for evaluation in self.engine(setup).evaluations()]
            assert steps == [*range(0, total, every), total]

    def test_resumed_equals_uninterrupted_bit_for_bit(self, case: Case, tmp_path: Path) -> None:
        after = (2, 3, 5)[self.trained().index(case) % 3]  # evaluations, in turn
        whole, _ = _uninterrupted(self.engine, case)
        evaluations, second = self._resumed(case, after, {}, tmp_path / "state.pt")
        assert_equal(evaluations, whole, exactly=True)
        resumed = self.engine(setup_of(case))
        resumed.load_state_dict(second.state_dict())
        assert torch.equal(resumed.held_out().test_loss, second.held_out().test_loss)

    def test_members_do_not_depend_on_their_neighbours_or_order(self) -> None:
        case = self.multi_member_case
        together, _ = _uninterrupted(self.engine, case)
        reverse = Setup.build(case.problem, case.members[::-1])
        backwards = list(self.engine(reverse).evaluations())
        for index, member in enumerate(case.members):
            alone = list(self.engine(Setup.build(case.problem, [member])).evaluations())
            for one, all_, turned in zip(alone, together, backwards, strict=True):
                for metric in METRICS:
                    expected = getattr(one, metric)[0]
                    mirrored = getattr(turned, metric)[len(case.members) - 1 - index]
                    torch.testing.assert_close(getattr(all_, metric)[index], expected)
                    torch.testing.assert_close(mirrored, expected)

    def test_amplitude_one_is_the_static_arm_bit_for_bit(self) -> None:
        actual, expected = (
            list(self.engine(Setup.build(self.multi_member_case.problem, [member])).evaluations())
            for period in (7, None)
            for member in [replace(self.multi_member_case.members[0], period=period, amplitude=1.0)]
        )
        assert_equal(actual, expected, exactly=True)
        for evaluation in actual:
            assert torch.equal(evaluation.weighted_loss, evaluation.train_loss)

    @pytest.mark.parametrize("rate", [1e200, 1e308])
    def test_a_diverged_member_is_frozen_flagged_and_alone(self, rate: float) -> None:
        case = self.multi_member_case
        bad = replace(case.members[0], learning_rate=rate)
        evaluations = list(
            self.engine(Setup.build(case.problem, [bad, *case.members])).evaluations()
        )
        sound, _ = _uninterrupted(self.engine, case)
        last = evaluations[-1]
        assert last.step == case.problem.steps
        assert 0 < int(last.diverged_step[0]) <= case.problem.steps
        for metric in METRICS:
            assert bool(torch.isnan(getattr(last, metric)[0]))
            torch.testing.assert_close(getattr(last, metric)[1:], getattr(sound[-1], metric))
        assert last.diverged_step[1:].tolist() == [-1] * len(case.members)

    def test_stops_early_when_every_member_has_diverged(self) -> None:
        case = self.multi_member_case
        bad = replace(case.members[0], learning_rate=1e200)
        evaluations = list(self.engine(Setup.build(case.problem, [bad])).evaluations())
        assert evaluations[-1].step < case.problem.steps
        assert int(evaluations[-1].diverged_step[0]) == evaluations[-1].step

    def test_stopped_members_leave_the_others_as_they_are(self, case: Case) -> None:
        whole, _ = _uninterrupted(self.engine, case)
        at, last = whole[1].step, len(case.members) - 1
        stopping = self.engine(setup_of(case))
        evaluations = _run_with_stops(stopping, {at: [last]})
        if last == 0:
            assert [evaluation.step for evaluation in evaluations] == [0, at], (
                "a wholly stopped ensemble ends"
            )
            return
        for one, other in zip(evaluations, whole, strict=True):
            assert torch.equal(one.diverged_step, other.diverged_step)
            for metric in METRICS:
                a, b = getattr(one, metric), getattr(other, metric)
                assert torch.equal(a[:last], b[:last])
                assert (
                    torch.equal(a[last], b[last]) if one.step <= at else bool(torch.isnan(a[last]))
                )
        assert stopping.stopped_step.tolist() == [-1] * last + [at]
        assert bool(torch.isnan(stopping.held_out().test_loss[last]))
        numbers = [
            tensor for tensor in stopping.parameters(last).values() if tensor.is_floating_point()
        ]
        assert all(bool(torch.isnan(tensor).all()) for tensor in numbers)
        others = [
            tensor for tensor in stopping.parameters(0).values() if tensor.is_floating_point()
        ]
        assert all(bool(torch.isfinite(tensor).all()) for tensor in others)

    def test_resumed_after_a_stop_equals_uninterrupted(self, case: Case, tmp_path: Path) -> None:
        stops = {case.problem.evaluate_every: [0]}
        whole = _run_with_stops(self.engine(setup_of(case)), stops)
        evaluations, second = self._resumed(case, 2, stops, tmp_path / "state.pt")
        assert_equal(evaluations, whole, exactly=True)
        assert second.stopped_step[0] == case.problem.evaluate_every

    def test_a_stop_is_no_divergence_and_comes_once(self) -> None:
        case = self.multi_member_case
        engine, members = self.engine(setup_of(case)), len(case.members)
        evaluations = engine.evaluations()
        next(evaluations), next(evaluations)
        engine.stop([1])
        step = engine.step
        next(evaluations)
        engine.stop([1])
        assert engine.stopped_step.tolist() == [-1, step, *[-1] * (members - 2)]
        assert engine.diverged_step.tolist() == [-1] * members
        with pytest.raises(ValueError, match=f"member {members} is not one of 0 to {members - 1}"):
            engine.stop([members])

    def test_a_class_absent_from_the_data(self) -> None:
        setup = setup_of(self.multi_member_case)
        keep = setup.splits[0].train.targets != 1
        splits = []
        for parts in setup.splits:
            train = Labelled(parts.train.inputs[keep], parts.train.targets[keep], parts.train.scale)
            splits.append(Splits(train, parts.validation, parts.test, parts.num_classes))
        fewer = replace(setup, splits=tuple(splits))
        actual, expected = (
            list(engine(fewer).evaluations()) for engine in (self.engine, AutogradEngine)
        )
        assert_equal(actual, expected, exactly=self.engine is AutogradEngine)

    def test_refuses_the_state_of_another_ensemble(self) -> None:
        case = self.multi_member_case
        state = self.engine(setup_of(case)).state_dict()
        with pytest.raises(ValueError, match="belongs to engine"):
            self.engine(Setup.build(case.problem, case.members[:1])).load_state_dict(state)

    def test_float32_stays_close_to_float64(self) -> None:
        case = self.multi_member_case
        single = Setup.build(replace(case.problem, dtype="float32"), case.members)
        doubles, _ = _uninterrupted(self.engine, case)
        for one, other in zip(self.engine(single).evaluations(), doubles, strict=True):
            torch.testing.assert_close(one.train_loss, other.train_loss, rtol=1e-3, atol=1e-4)


@cache
def _uninterrupted(engine: type[Engine], case: Case) -> tuple[list[Evaluation], HeldOut]:
    """The evaluations of a whole run and its last one on the test set; run once for all tests."""
    trained = engine(setup_of(case))
    return list(trained.evaluations()), trained.held_out()


def _run_with_stops(engine: Engine, stops: dict[int, list[int]]) -> list[Evaluation]:
    """All evaluations, with members stopped after the evaluations at the given steps."""
    evaluations = []
    for evaluation in engine.evaluations():
        evaluations.append(evaluation)
        engine.stop(stops.get(evaluation.step, []))
    return evaluations
