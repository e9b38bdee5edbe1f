"""What every network promises: one seed gives one network, the number of threads changes nothing,
resumed equals uninterrupted, and every engine agrees with the reference or refuses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.data import DataConfig
from dynloss_core.landscape.trackers.choose_tracker import choose_tracker, stack_parameters
from dynloss_core.landscape.trackers.tracker import TrackedProblem, Tracking
from dynloss_core.models import ModelConfig
from dynloss_core.testing.agreement import assert_equal, assert_plain_values
from dynloss_core.testing.cases import TWO_MEMBERS, BytesConfig, short_problem
from dynloss_core.training import (
    ENGINES,
    AutogradEngine,
    Engine,
    Evaluation,
    Problem,
    Setup,
    choose_engine,
)

__all__ = ["ModelContract"]


class ModelContract:
    """The tests of one network.

    Args:
        model: its configuration.
        data: the data set it is trained on, in batches of 8.
        measured: whether its curvature can be measured.
    """

    model: ClassVar[ModelConfig]
    data: ClassVar[DataConfig] = BytesConfig(channels=1)
    measured: ClassVar[bool] = True

    @pytest.fixture(autouse=True)
    def _restored_torch_state(self) -> Iterator[None]:
        threads, state = torch.get_num_threads(), torch.random.get_rng_state()
        yield
        torch.set_num_threads(threads)
        torch.random.set_rng_state(state)

    @property
    def problem(self) -> Problem:
        """A short training."""
        return short_problem(self.model, self.data)

    def ensemble(self) -> Setup:
        """An ensemble of two members."""
        return Setup.build(self.problem, TWO_MEMBERS)

    def trained(self, engine: type[Engine]) -> list[Evaluation]:
        """All evaluations of the ensemble by an engine."""
        return list(engine(self.ensemble()).evaluations())

    def test_one_seed_is_one_network(self) -> None:
        """Whatever torch's random state, which must not change."""
        states = []
        for noise in (0, 1):
            torch.manual_seed(noise)
            np.random.seed(noise)  # noqa: NPY002  the global state, which is not ours
            before = torch.random.get_rng_state()
            states.append([network.state_dict() for network in self.ensemble().networks])
            assert torch.equal(torch.random.get_rng_state(), before)
        for one, other in zip(*states, strict=True):
            assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
        first, second = states[0]
        assert not all(torch.equal(tensor, second[name]) for name, tensor in first.items())

    def test_the_number_of_threads_changes_nothing(self) -> None:
        runs: list[list[Evaluation]] = []
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            torch.manual_seed(len(runs))
            runs.append(self.trained(AutogradEngine))
        assert_equal(runs[1], runs[0], exactly=True)
        assert_equal(runs[2], runs[0], exactly=True)

    def test_every_engine_agrees_or_refuses(self) -> None:
        torch.set_num_threads(2)
        reference = AutogradEngine(self.ensemble())
        evaluations = list(reference.evaluations())
        for engine in itertools.chain.from_iterable(ENGINES.values()):
            if engine.refusal(self.problem) is not None:
                continue
            candidate = engine(self.ensemble())
            assert_equal(list(candidate.evaluations()), evaluations, exactly=False)
            for member in range(len(candidate.setup.members)):
                named, wanted = candidate.parameters(member), reference.parameters(member)
                assert named.keys() == wanted.keys()
                for name, tensor in named.items():
                    torch.testing.assert_close(tensor, wanted[name], rtol=1e-9, atol=1e-12)

    def test_resumed_equals_uninterrupted_bit_for_bit(self, tmp_path: Path) -> None:
        engine = choose_engine(self.problem)
        whole = self.trained(engine)
        first = engine(self.ensemble())
        evaluations = list(itertools.islice(first.evaluations(), 2))
        save_checkpoint(tmp_path / "state.pt", first.state_dict())
        second, state = engine(self.ensemble()), load_checkpoint(tmp_path / "state.pt")
        assert state is not None
        second.load_state_dict(state)
        assert_equal([*evaluations, *second.evaluations()], whole, exactly=True)

    def test_the_chosen_tracker_agrees_with_the_sequential_one(self) -> None:
        if not self.measured:
            pytest.skip("its curvature cannot be measured")
        setup = self.ensemble()
        data = [setup.splits[0].train.to(torch.float64, "cpu")]
        network = setup.networks[0].eval()
        problem = TrackedProblem(network, self.problem.loss, data, [1, 2])
        stacked = stack_parameters([member.state_dict() for member in setup.networks])
        weights = torch.rand(2, setup.num_classes, dtype=torch.float64) + 0.5
        chosen, sequential = (
            choose_tracker(problem, name=name)(problem, Tracking(tolerance=1e-6)).measure(
                stacked, weights
            )
            for name in ("auto", "sequential")
        )
        for which in ("hessian", "ntk"):
            actual, expected = getattr(chosen, which).value, getattr(sequential, which).value
            torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9)

    def test_its_configuration_is_plain_values(self) -> None:
        assert_plain_values(self.model)
