"""The Triton kernel three ways: interpreted on the CPU, compiled without a GPU, run on a GPU.

Triton decides when it is imported whether to interpret. So the tests that run the kernel do it on a
GPU if there is one, and `test_this_file_passes_interpreted` runs them all again, on the CPU, in a
process of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from dynloss_core.losses import LossName

triton = pytest.importorskip("triton", reason="needs Triton: the kernel is written in it")

from dynloss_core.compute import fused_steps_triton  # noqa: E402
from dynloss_core.compute.fused_steps_triton import launch_plan, train_steps  # noqa: E402
from dynloss_core.training import AutogradEngine, FusedCPUEngine, FusedCUDAEngine, Setup  # noqa: E402
from tests.cases import CASES  # noqa: E402
from tests.contracts.engines import assert_equal, assert_same_trace  # noqa: E402
from tests.core.compute.kernel_runs import (  # noqa: E402
    DEVICE,
    INTERPRETED,
    LOSSES,
    PARAMETERS,
    Tensors,
    assert_close,
    assert_same_bits,
    ensemble,
    train,
    train_by_autograd,
)

reason = "needs a CUDA GPU: the Triton kernel runs compiled there"
needs_a_gpu = pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason=reason)
runs_the_kernel = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(), reason=reason
)
compiles = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")


@pytest.mark.skipif(INTERPRETED, reason="it starts this process")
@pytest.mark.slow
def test_this_file_passes_interpreted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(Path(__file__))],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@runs_the_kernel
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rule", ["plain", "momentum", "nesterov"])
def test_agrees_with_autograd(loss: LossName, rule: str) -> None:
    start = ensemble(friction=rule != "plain")
    expected = train_by_autograd(start, loss, nesterov=rule == "nesterov")
    assert_close(train(start, loss, nesterov=rule == "nesterov"), expected)


@runs_the_kernel
@pytest.mark.parametrize("loss", ["cross_entropy", "mse_sample_weighted"])
@pytest.mark.parametrize("groups", [1, 2, 5, 13])
def test_a_sample_has_the_weight_of_its_group(groups: int, loss: LossName) -> None:
    start = ensemble(friction=True, groups=groups, seed=2)
    traced = train(start, loss)
    assert_close(traced, train_by_autograd(start, loss))
    untraced = train(start, loss, traced=False)
    assert all(torch.equal(untraced[name], traced[name]) for name in PARAMETERS)


SIZES: dict[str, dict[str, Any]] = {
    "one member": {"members": 1},
    "shared data": {"sets": 1},
    "an absent class": {"absent": 1},
    "two classes": {"classes": 2},
    "eight classes": {"classes": 8},
    "one input": {"inputs": 1},
    "three inputs": {"inputs": 3},
    "one unit, one sample": {"width": 1, "count": 1},
    "powers of two": {"width": 8, "count": 16},
}


@runs_the_kernel
@pytest.mark.parametrize(("size", "loss"), [*zip(SIZES, cycle(LOSSES), strict=False)])
def test_agrees_with_autograd_at_any_size(size: str, loss: LossName) -> None:
    start = ensemble(friction=True, seed=1, **SIZES[size])
    assert_close(train(start, loss), train_by_autograd(start, loss))


@runs_the_kernel
@pytest.mark.parametrize("loss", LOSSES)
def test_the_trace_changes_nothing(loss: LossName) -> None:
    start = ensemble(steps=2)
    traced, untraced = train(start, loss), train(start, loss, traced=False)
    assert all(torch.equal(traced[name], untraced[name]) for name in PARAMETERS)
    assert bool(untraced["class_losses"].isnan().all())


@runs_the_kernel
def test_the_first_of_equal_outputs_is_the_answer() -> None:
    start = ensemble(steps=1)
    start["weights"][:, 3:] = 0
    start["bias"][:] = torch.tensor([[0.0, 0, 0], [1, 2, 2], [-1, -3, -1]])
    expected = start["one_hot"].sum(2)[range(3), [0, 1, 0]]
    assert torch.equal(train(start)["correct"][0], expected)


@runs_the_kernel
def test_others_stay_untouched_and_neighbours_do_not_matter() -> None:
    start = ensemble(members=4, steps=2, friction=True)
    some = train(start | {"active": torch.tensor([3, 1])})
    assert_same_bits(some, train(start), [1, 3])
    for name in PARAMETERS:
        assert torch.equal(some[name][[0, 2]], start[name][[0, 2]])
    assert bool(some["class_losses"][:, [0, 2]].isnan().all())
    assert bool(some["correct"][:, [0, 2]].isnan().all())
    nobody = train(start | {"active": start["active"][:0]})
    assert torch.equal(nobody["weights"], start["weights"])


@runs_the_kernel
def test_repeated_and_in_two_launches_bit_for_bit() -> None:
    start = ensemble(friction=True)
    whole = train(start, nesterov=True)
    assert_same_bits(train(start, nesterov=True), whole, slice(None))
    parts, now = [], start
    for steps in (slice(2), slice(2, None)):
        now = now | {name: start[name][steps] for name in ("class_weights", "rates")}
        parts.append(train(now, nesterov=True))
        now = {name: parts[-1][name] for name in start}
    seen = {name: torch.cat([part[name] for part in parts]) for name in ("class_losses", "correct")}
    assert_same_bits(parts[-1] | seen, whole, slice(None))


@runs_the_kernel
@pytest.mark.parametrize("plan", [(4, 32, 1), (32, 8, 2), (128, 128, 4)], ids=str)
def test_the_plan_changes_nothing(
    plan: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ensemble(members=1, steps=2, friction=True)
    expected = train(start)
    monkeypatch.setattr(fused_steps_triton, "launch_plan", lambda *_: plan)
    assert_same_bits(train(start), expected, slice(None))


@runs_the_kernel
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy's, interpreted
def test_a_diverged_member_shows_and_stays_alone() -> None:
    start = ensemble()
    start["rates"][:, 1] = 1e200
    after = train(start)
    assert not bool(after["class_losses"][-1, 1].isfinite().any())
    sound = train(start | {"active": torch.tensor([0, 2])})
    assert_same_bits(after, sound, [0, 2])


@runs_the_kernel
def test_float32_stays_close_to_float64() -> None:
    start = ensemble(friction=True)
    expected = train_by_autograd(start, "cross_entropy")
    assert_close(train(start, dtype=torch.float32), expected, rtol=1e-4, atol=1e-5)


@runs_the_kernel
@pytest.mark.parametrize("name", ["one hidden layer, full batch", "two classes"])
def test_the_engine_around_it_agrees_with_autograd(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    setup = Setup.build(replace(case.problem, steps=23), case.members)
    everyone = range(len(case.members))
    found = FusedCUDAEngine(setup, DEVICE, traced=everyone).run()
    expected = AutogradEngine(setup, traced=everyone).run()
    assert_equal(list(found.evaluations), list(expected.evaluations), exactly=False)
    assert_same_trace(found.trace, expected.trace, exactly=False)
    for ours, theirs in zip(found.parameters, expected.parameters, strict=True):
        for parameter in theirs:
            torch.testing.assert_close(ours[parameter], theirs[parameter], rtol=1e-9, atol=1e-12)


@runs_the_kernel
def test_a_run_begun_on_the_cpu_goes_on_in_the_kernel() -> None:
    problem = replace(CASES[0].problem, steps=20, evaluate_every=10)
    setup = Setup.build(problem, CASES[0].members)
    first = FusedCPUEngine(setup)
    for evaluation in first.evaluations():
        if evaluation.step == 10:
            break
    second = FusedCUDAEngine(setup, DEVICE)
    second.load_state_dict(first.state_dict())
    found, expected = list(second.evaluations()), list(FusedCPUEngine(setup).evaluations())
    assert_equal(found, expected[2:], exactly=False)


@needs_a_gpu
@pytest.mark.parametrize("width", [50, 100, 300, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_real_sizes_on_a_gpu(width: int, dtype: torch.dtype) -> None:
    start = ensemble(width=width, count=300, steps=20, friction=True)
    start["weights"] *= width**-0.5
    expected = train_by_autograd(start, "cross_entropy", nesterov=True)
    found = train(start, nesterov=True, dtype=dtype)
    if dtype == torch.float64:
        assert_close(found, expected)
    else:  # a sample on the border may count differently
        assert_close(found | {"correct": expected["correct"]}, expected, rtol=1e-3, atol=1e-4)


@needs_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_thousands_on_a_gpu_as_one_alone(dtype: torch.dtype) -> None:
    """Another number of warps trains each of them, and not a bit differs."""
    start = ensemble(members=5000, width=100, count=300, steps=10, sets=1)
    together = train(start, dtype=dtype)
    for m in (0, 4999):
        alone = train(start | {"active": torch.tensor([m])}, dtype=dtype)
        assert_same_bits(alone, together, [m])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"bias": torch.zeros(3, 4).double()}, r"weights must be .*\(3, 7, 7\)"),
        ({"rates": torch.zeros(3, 3)}, r"rates must be .* torch.float64.* torch.float32"),
        ({"active": torch.zeros(3).int()}, "active must be .* torch.int64"),
        ({"velocity": torch.zeros(3, 7, 6).double().mT}, "velocity must be a contiguous"),
        ({"weights": torch.zeros(3, 6, 7).half()}, "weights must be float32 or float64"),
        ({"correct": torch.zeros(3, 3)}, "needs both"),
    ],
)
def test_refuses_what_the_kernel_would_misread(broken: Tensors, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_steps(**(ensemble() | broken), count=13, loss="cross_entropy", nesterov=False)


def test_many_members_get_one_warp_and_few_get_more() -> None:
    plan = partial(launch_plan, dtype=torch.float32, processors=132)
    assert plan(100, 300, 5000) == (128, 128, 1)
    assert [plan(100, 300, members)[2] for members in (1000, 500, 1)] == [2, 4, 4]
    assert [plan(width, 300, 1)[2] for width in (20, 33, 1024)] == [1, 2, 8]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Triton's cache, for this module only: widths whose plans are alike compile once."""
    folder = tmp_path_factory.mktemp("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(folder))
        yield folder


@compiles
@pytest.mark.parametrize("width", [50, 100, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("traced", [False, True], ids=["untraced", "traced"])
@pytest.mark.parametrize(
    "grouped",
    [
        pytest.param(False, id="by class"),
        pytest.param(True, id="by group", marks=pytest.mark.slow),
    ],
)
def test_compiles_for_an_h100_without_spills(
    dtype: str, width: int, traced: bool, grouped: bool, cache: Path
) -> None:
    assembly = compiled(dtype, width, traced, grouped).asm
    registers, stack = resources(assembly["cubin"], cache)
    assert stack == 0
    assert registers <= (168 if dtype == "float32" else 255)  # 12 warps a multiprocessor, or 8
    assert "convert_layout" not in assembly["ttgir"]  # a lane keeps its units and its samples
    ptx = assembly["ptx"]
    assert ptx.count("bar.sync") == 2  # one after each pass
    assert "atom." not in ptx
    assert "ld.global.nc" not in ptx  # that cache does not see what the passes write
    assert traced or "shfl" not in ptx  # only the count of correct answers crosses lanes


def compiled(dtype: str, width: int, traced: bool, grouped: bool = False) -> Any:
    """The kernel for an H100 with thousands of members; no GPU has to be there."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = fused_steps_triton._train
    units, samples, warps = launch_plan(width, 300, 5000, getattr(torch, dtype), processors=132)
    constants: dict[str, Any] = {
        "inputs": 2,
        "classes": 3,
        "scratch_rows": 8 if traced else 4,
        "shared": False,
        "softmax": True,
        "by_output": False,
        "nesterov": True,
        "block_units": units,
        "block_samples": samples,
    }
    if not traced:
        constants |= {"class_losses": None, "correct": None}
    if not grouped:
        constants["groups"] = None
    if not (grouped and traced):
        constants["weighted"] = None
    types = {"active": "*i64", "groups": "*i64"}
    types |= dict.fromkeys(("steps", "members", "width", "count", "columns"), "i32")
    pointer = {"float32": "*fp32", "float64": "*fp64"}[dtype]
    signature = {
        name: "constexpr" if name in constants else types.get(name, pointer)
        for name in kernel.arg_names
    }
    return triton.compile(
        ASTSource(kernel, signature, constants),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": warps, "enable_fp_fusion": False},
    )


def resources(cubin: bytes, folder: Path) -> tuple[int, int]:
    """Registers a thread, and bytes of stack: what did not fit."""
    (folder / "kernel.cubin").write_bytes(cubin)
    tool = triton.knobs.nvidia.cuobjdump.path
    command = [tool, "--dump-resource-usage", str(folder / "kernel.cubin")]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", report)
    assert found is not None, report
    return int(found[1]), int(found[2])
