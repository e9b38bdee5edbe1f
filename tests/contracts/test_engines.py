"""Every engine keeps the contract of engines; and what holds for some of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynloss_core.data import SpiralsConfig
from dynloss_core.models import MLPConfig
from dynloss_core.testing import EngineContract
from dynloss_core.testing.cases import Case
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    Engine,
    FusedCPUEngine,
    Member,
    Problem,
    Setup,
    VmappedEngine,
)
from dynloss_core.training.engines import fused_cpu
from tests.cases import CASES
from tests.contracts.engines import ENGINES, assert_equal, setup_of
from tests.contracts.inherited import inherited

UNHURRIED = (
    "wide residual network, none normalisation",
    "wide residual network, group normalisation",
    "full batch of augmented images",
)
QUICK = tuple(case for case in CASES if case.name not in UNHURRIED)
FLAT = tuple(case for case in QUICK if isinstance(case.problem.model, MLPConfig))


STOPPED = (
    "one hidden layer, full batch",
    "mini-batch with momentum",
    "sharpness-aware",
    "small convnet",
    "dropout",
)
"""Cases in which members are stopped each time; in the others that is slow tests' work."""


class Unhurried(EngineContract):
    """The contract on the cases that take minutes: networks like another, but larger."""

    cases = tuple(case for case in CASES if case.name in UNHURRIED)


class Quick(EngineContract):
    """The contract on all others."""

    cases = QUICK

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """As in the contract, with few cases of members that are stopped."""
        if "case" in metafunc.fixturenames:
            stops = "stop" in metafunc.function.__name__
            later = [case for case in self.trained() if stops and case.name not in STOPPED]
            marks = {True: pytest.mark.slow, False: ()}
            cases = [
                pytest.param(case, id=case.name, marks=marks[case in later])
                for case in self.trained()
            ]
            metafunc.parametrize("case", cases)


class Flat(Quick):
    """The contract on networks without convolutions, for an engine that takes long over those."""

    cases = FLAT


class Images(Quick):
    """The contract on the rest of the quick ones."""

    cases = tuple(case for case in QUICK if case not in FLAT)


BY_NAME = {each.__name__: each for each in ENGINES}
globals().update(inherited(Quick, "engine", BY_NAME))
for name in {"VmappedEngine"} & BY_NAME.keys():
    globals().update(inherited(Flat, "engine", {name: BY_NAME[name]}))
    images = inherited(Images, "engine", {f"{name} on images": BY_NAME[name]})
    globals().update({key: pytest.mark.slow(each) for key, each in images.items()})
# the others are compared with it; that it resumes, say, takes minutes to show
pytest.mark.slow(globals()["Test_AutogradEngine"])
for name, engine in BY_NAME.items():
    if any(engine.refusal(case.problem) is None for case in Unhurried.cases):
        larger = inherited(Unhurried, "engine", {f"{name} on larger networks": engine})
        globals().update({key: pytest.mark.slow(each) for key, each in larger.items()})


def test_the_number_of_threads_changes_nothing() -> None:
    case = CASES[0]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        several = list(FusedCPUEngine(setup_of(case)).evaluations())
    finally:
        torch.set_num_threads(threads)
    assert_equal(several, list(FusedCPUEngine(setup_of(case)).evaluations()), exactly=True)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if FusedCPUEngine.refusal(case.problem) is None],
    ids=lambda case: case.name,
)
def test_activations_computed_again_change_nothing(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = list(FusedCPUEngine(setup_of(case)).evaluations())
    monkeypatch.setattr(fused_cpu, "_STORED_BYTES", 0)
    assert_equal(stored, list(FusedCPUEngine(setup_of(case)).evaluations()), exactly=True)


RANDOM_PROBLEMS = st.builds(
    Problem,
    data=st.builds(
        SpiralsConfig, points_per_class=st.integers(1, 23), num_classes=st.sampled_from([2, 3, 7])
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
@settings(max_examples=6)
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
