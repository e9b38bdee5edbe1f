"""What the engine for convolutional networks promises beyond the contracts of all engines."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from dynloss_core.compute import cuda_graph
from dynloss_core.compute.batch_threads import PartThreads
from dynloss_core.models import MLPConfig, Myrtle5Config, WideResNetConfig
from dynloss_core.training import (
    Augmentation,
    AutogradEngine,
    BatchedEngine,
    ConvnetEngine,
    Engine,
    FusedCPUEngine,
    Member,
    Probes,
    Problem,
    Setup,
    VmappedEngine,
    choose_engine,
)
from dynloss_core.training.engines import autograd, convnet, stacked_networks
from dynloss_core.training.problem import split_samples
from tests.cases import CASES, SLOWER, BytesConfig, Case
from tests.contracts.engines import METRICS, assert_equal, setup_of

IMAGES = [case for case in CASES if isinstance(case.problem.data, BytesConfig)]
BATCH_NORM = IMAGES[0]
GROUP_NORM = next(case for case in IMAGES if "group normalisation" in case.name)
DROPOUT = next(case for case in CASES if case.name == "dropout")

every_image_engine = pytest.mark.parametrize(
    "engine", [AutogradEngine, VmappedEngine, ConvnetEngine], ids=lambda each: each.__name__
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def plain(**changes: object) -> Problem:
    base = {
        "data": BytesConfig(),
        "model": Myrtle5Config(channels=4),
        "batch_size": 8,
        "dtype": "float64",
        "steps": 9,
        "static_tail": 0,
        "evaluate_every": 4,
    }
    return Problem(**{**base, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("case", IMAGES, ids=lambda case: case.name)
def test_a_batch_in_parts_is_the_batch(
    case: Case, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(convnet.PIXELS, "cpu", images * 8 * 8)
    found = list(ConvnetEngine(setup_of(case)).evaluations())
    assert_equal(found, list(AutogradEngine(setup_of(case)).evaluations()), exactly=False)


@pytest.mark.parametrize(
    "case",
    [pytest.param(GROUP_NORM, marks=pytest.mark.slow), IMAGES[-1]],
    ids=lambda case: case.name,
)
def test_threads_share_a_batch_and_change_nothing(case: Case, two_threads: None) -> None:
    found = list(ConvnetEngine(setup_of(case)).evaluations())
    assert_equal(found, list(ConvnetEngine(setup_of(case)).evaluations()), exactly=True)
    assert_equal(found, list(AutogradEngine(setup_of(case)).evaluations()), exactly=False)


def test_threads_work_alone_and_leave_torch_as_it_was(two_threads: None) -> None:
    threads = PartThreads(torch.device("cpu"))
    with torch.no_grad():
        found = threads.map(lambda part: (part, torch.get_num_threads()), range(9))
        assert found == [(part, 1) for part in range(9)]
        assert not any(threads.map(lambda _: torch.is_grad_enabled(), range(2)))
    assert all(threads.map(lambda _: torch.is_grad_enabled(), range(2)))
    assert torch.get_num_threads() == 2
    assert PartThreads(torch.device("cuda")).count == 1
    with pytest.raises(ZeroDivisionError):
        threads.map(lambda part: 1 // part, [1, 0])


@every_image_engine
def test_the_parts_of_an_evaluation_change_nothing(
    engine: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup.build(plain(), SLOWER)
    whole = engine(setup)._outputs("train")
    seen = []
    together = partial(split_samples.together, pixels=5 * 8 * 8)
    monkeypatch.setattr(
        split_samples, "together", lambda inputs, pixels: seen.append(0) or together(inputs)
    )
    torch.testing.assert_close(engine(setup)._outputs("train"), whole, rtol=1e-12, atol=1e-14)
    assert seen


def test_how_many_samples_a_network_sees_at_once() -> None:
    images, vectors = torch.zeros(50_000, 1, 32, 32, dtype=torch.uint8), torch.zeros(700, 2)
    for pixels in (
        autograd.PIXELS_TOGETHER,
        stacked_networks.PIXELS_TOGETHER,
        *convnet.PIXELS.values(),
    ):
        assert split_samples.together(images, pixels) == pixels // 1024 <= 2048
        assert split_samples.together(vectors, pixels) == 700
    assert split_samples.together(torch.zeros(2, 1, 300, 300), 2**15) == 1


@every_image_engine
def test_images_stay_bytes_and_members_share_them(engine: type[Engine]) -> None:
    problem = plain()
    running = engine(Setup.build(problem, [*SLOWER, Member(0.1, seed=7)]))
    running.run()
    kept = {each for split in ("train", "validation") for each in running._split_samples(split)}
    assert len(kept) == 2  # one of each split for the three members
    pixels = sorted(each.inputs.numel() for each in kept)
    assert pixels == [37 * 3 * 64] * 2
    assert {each.inputs.dtype for each in kept} == {torch.uint8}


@every_image_engine
def test_a_network_sees_scaled_pixels(engine: type[Engine]) -> None:
    setup = Setup.build(plain(), SLOWER)
    inputs = setup.splits[0].train.to(torch.float64, "cpu").inputs
    kept = engine(setup)._split_samples("train")[0]
    torch.testing.assert_close(kept.seen(kept.inputs), inputs, rtol=1e-13, atol=1e-14)


@every_image_engine
def test_convolutions_repeat_themselves_in_the_precision_of_the_problem(
    engine: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cuDNN is told while an engine trains, evaluates and measures, whatever the caller says."""
    cudnn, forward, seen = torch.backends.cudnn, torch.nn.Conv2d.forward, set()

    def spied(layer: torch.nn.Conv2d, images: Tensor) -> Tensor:
        seen.add((cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32))
        return forward(layer, images)

    with cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        running = engine(Setup.build(plain(), SLOWER), probes=Probes(4, (0,)))
        monkeypatch.setattr(torch.nn.Conv2d, "forward", spied)
        running.run()
        running.held_out()
        assert seen == {(True, False, False)}
        assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (False, True, True)


@pytest.mark.parametrize("engine", [AutogradEngine, ConvnetEngine])
def test_batch_statistics_move_in_training_and_rest_in_evaluation(engine: type[Engine]) -> None:
    setup = setup_of(BATCH_NORM)
    running = engine(setup)
    evaluations = running.evaluations()
    next(evaluations)
    before = running.parameters(0)
    running.held_out()
    assert all(torch.equal(before[name], each) for name, each in running.parameters(0).items())
    next(evaluations)
    after = running.parameters(0)
    assert after["norm.num_batches_tracked"] == BATCH_NORM.problem.evaluate_every
    assert not torch.equal(before["norm.running_mean"], after["norm.running_mean"])
    network = setup.networks[0]
    assert list(after) == list(network.state_dict())
    assert network.norm.num_batches_tracked == 0  # the setup's own network is left alone


@pytest.mark.parametrize("engine", [AutogradEngine, ConvnetEngine])
def test_statistics_of_a_diverged_member(engine: type[Engine]) -> None:
    bad = replace(SLOWER[0], learning_rate=1e200)
    running = engine(Setup.build(BATCH_NORM.problem, [bad, SLOWER[1]]))
    history = running.run()
    sound = engine(Setup.build(BATCH_NORM.problem, SLOWER[1:])).run()
    assert int(history.evaluations[-1].diverged_step[0]) > 0
    assert bool(torch.isnan(history.parameters[0]["norm.running_mean"]).all())
    for name, tensor in sound.parameters[0].items():
        torch.testing.assert_close(history.parameters[1][name], tensor)


@pytest.mark.parametrize("engine", [AutogradEngine, ConvnetEngine])
def test_dropout_is_a_function_of_seed_and_step(engine: type[Engine]) -> None:
    outside = torch.random.get_rng_state()
    runs, setup = [], setup_of(DROPOUT)
    for noise in (0, 1):
        torch.manual_seed(noise)  # torch's own random state plays no part, and is left alone
        state = torch.random.get_rng_state()
        runs.append(list(engine(setup).evaluations()))
        assert torch.equal(torch.random.get_rng_state(), state)
    torch.random.set_rng_state(outside)
    assert_equal(runs[0], runs[1], exactly=True)
    without = replace(DROPOUT.problem, model=replace(DROPOUT.problem.model, dropout=0.0))
    other = list(engine(Setup.build(without, DROPOUT.members)).evaluations())
    assert not torch.equal(other[-1].train_loss, runs[0][-1].train_loss)


def test_both_arms_drop_the_same() -> None:
    arms = Member(0.02, seed=1, period=4, amplitude=1.0), Member(0.02, seed=1)
    found = list(ConvnetEngine(Setup.build(DROPOUT.problem, arms)).evaluations())
    for metric in METRICS:
        one, other = getattr(found[-1], metric)
        assert one == other


@pytest.mark.parametrize("engine", [AutogradEngine, ConvnetEngine])
def test_bfloat16_keeps_parameters_and_stays_close(engine: type[Engine]) -> None:
    mixed = engine(Setup.build(plain(dtype="bfloat16"), SLOWER)).run()
    single = engine(Setup.build(plain(dtype="float32"), SLOWER)).run()
    assert all(each.dtype == torch.float32 for each in mixed.parameters[0].values())
    found, expected = mixed.evaluations[-1].train_loss, single.evaluations[-1].train_loss
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_engines_refuse_what_they_cannot_do() -> None:
    augmented = plain(augmentation=Augmentation(flip=True))
    mixed = plain(dtype="bfloat16")
    normed, dropping = BATCH_NORM.problem, DROPOUT.problem
    assert VmappedEngine.refusal(plain()) is None
    assert VmappedEngine.refusal(replace(GROUP_NORM.problem, augmentation=Augmentation())) is None
    for problem, reason in (
        (augmented, "augment"),
        (mixed, "float32 or float64"),
        (normed, "batch statistics"),
        (replace(dropping, model=replace(dropping.model, normalisation="none")), "dropout"),
    ):
        assert reason in str(VmappedEngine.refusal(problem))
        assert AutogradEngine.refusal(problem) is None
        assert choose_engine(problem) is ConvnetEngine
    perceptron = Problem(model=MLPConfig(), dtype="bfloat16")
    for engine in (BatchedEngine, FusedCPUEngine):
        assert "float32 or float64" in str(engine.refusal(perceptron))
        assert engine.refusal(replace(perceptron, dtype="float32")) is None
    flipped = plain(model=MLPConfig(), augmentation=Augmentation(flip=True))
    assert "augment" in str(BatchedEngine.refusal(flipped))


def test_a_member_takes_the_network_over_as_it_left_it() -> None:
    """Members that trained a step at a time, in turn, are where each alone would be."""
    case = replace(BATCH_NORM, problem=replace(BATCH_NORM.problem, evaluate_every=1))
    together = ConvnetEngine(setup_of(case)).run()
    for index, member in enumerate(case.members):
        alone = ConvnetEngine(Setup.build(case.problem, [member])).run()
        for name, tensor in alone.parameters[0].items():
            assert torch.equal(together.parameters[index][name], tensor)


def on_cuda(problem: Problem, engine: type[Engine]) -> list[Tensor]:
    history = engine(Setup.build(problem, SLOWER), "cuda").run()
    return [history.curve(metric) for metric in METRICS]


@needs_cuda
@pytest.mark.parametrize("case", IMAGES, ids=lambda case: case.name)
def test_a_recorded_step_agrees_with_the_reference(case: Case) -> None:
    found = on_cuda(case.problem, ConvnetEngine)
    for one, other in zip(found, on_cuda(case.problem, AutogradEngine), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@needs_cuda
def test_recording_survives_the_garbage_of_other_recordings() -> None:
    """Engines in reference cycles, graphs and all, and a collector that runs all the time."""
    cycles = []
    for _ in range(3):
        engine = ConvnetEngine(Setup.build(plain(), SLOWER), "cuda")
        engine.train(2)
        cycles.append([engine])
        cycles[-1].append(cycles[-1])  # type: ignore[arg-type]
    expected, thresholds = on_cuda(plain(), AutogradEngine), gc.get_threshold()
    del engine, cycles
    gc.set_threshold(1, 1, 1)
    try:
        found = on_cuda(plain(), ConvnetEngine)
    finally:
        gc.set_threshold(*thresholds)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_the_collector_rests_while_a_step_is_recorded() -> None:
    assert gc.isenabled()
    with cuda_graph._undisturbed():
        assert not gc.isenabled()
        with cuda_graph._undisturbed():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("normalisation", ["batch", "none"])
def test_a_compiled_step_repeats_itself_and_stays_close(
    dtype: str, normalisation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = WideResNetConfig(depth=10, widening=1, normalisation=normalisation)  # type: ignore[arg-type]
    problem = plain(model=model, dtype=dtype, augmentation=Augmentation(crop=2, flip=True))
    loose = on_cuda(problem, ConvnetEngine)
    monkeypatch.setattr(convnet, "_MIN_STEPS_TO_COMPILE", 0)
    compiled, again = on_cuda(problem, ConvnetEngine), on_cuda(problem, ConvnetEngine)
    for one, other, plainly in zip(compiled, again, loose, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, plainly, rtol=0.05, atol=0.05)
