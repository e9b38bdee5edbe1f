r"""Seconds per epoch of a convolutional network on images in the shape of CIFAR-10.

50,000 images of random bytes in batches of 512, cropped and mirrored, in bfloat16 by autocast. A
variant is what the engine does with a step: launch it kernel by kernel (`plain`), replay it as a
CUDA graph (`graph`), or compile it as well (`compiled`, what a long run does).

The share of the card is that of its own product of two 8192 x 8192 matrices in bfloat16. Operations
of an image are counted from the shapes of the layers, 2 for a multiplication and an addition:

.. math:: \sum_l 2 H_l W_l k_l^2 C_{l-1} C_l \; (3 - [l = 1])

over convolutions and products: forward, gradient of the weights, and, but for the first layer,
gradient of its input.
"""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

import torch

from dynloss_core.compute.cuda_graph import CapturedStep
from dynloss_core.compute.deterministic import deterministic
from dynloss_core.training import ConvnetEngine, Member, Setup
from dynloss_core.training.engines import convnet
from tests.benchmarks.engines import product_rate, wait_for
from tests.benchmarks.images import DECAY, MOMENTUM, RATE, Job, operations, problem_of
from tests.gpu.figures import Figures, options

__all__ = ["GOAL_SECONDS", "IMAGES", "main"]

IMAGES = 50_000
GOAL_SECONDS = {"myrtle5-64": 0.35}  # an epoch on an H100
VARIANTS = ("graph", "plain", "compiled")
NEVER = 10**12  # member-steps
EPOCHS = 5


def epochs(setup: Setup, job: Job, variant: str, count: int) -> tuple[list[float], dict[str, bool]]:
    """Seconds of each of some epochs after a first one that prepares, which is put first; and
    whether the steps were recorded."""
    convnet._MIN_STEPS_TO_COMPILE = 0 if variant == "compiled" else NEVER
    recorder = convnet.captured
    if variant == "plain":
        convnet.captured = lambda step, arguments, changed: step
    if job.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        engine = ConvnetEngine(setup, job.device)
        seconds = []
        for _ in range(1 + count):
            wait_for(job.device)
            begun = time.perf_counter()
            engine.train(job.samples // job.batch)
            wait_for(job.device)
            seconds.append(time.perf_counter() - begun)
    finally:
        convnet.captured = recorder
    recorded = [isinstance(step, CapturedStep) for step in engine._steps.values()]
    finite = all(bool(each.isfinite().all()) for each in engine.parameters(0).values())
    return seconds, {"recorded": all(recorded), "finite": finite}


@deterministic()
def convolution_error(device: str) -> float:
    """Of a convolution in float32 as the engines take it, relative to float64: 1e-7 is float32,
    1e-4 is TF32."""
    draws = torch.Generator().manual_seed(0)
    images, kernel = (
        torch.randn(*shape, generator=draws, dtype=torch.float64)
        for shape in ((8, 64, 16, 16), (64, 64, 3, 3))
    )
    exact = torch.nn.functional.conv2d(images, kernel)
    found = torch.nn.functional.conv2d(images.float().to(device), kernel.float().to(device))
    return float((found.cpu().double() - exact).norm() / exact.norm())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", default="myrtle5-64", choices=["myrtle5-64", "wrn-16-4"])
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    arguments = parser.parse_args()
    figures, device, model = Figures(arguments.figures), arguments.device, arguments.model
    batch, samples, count = (4, 8, 1) if arguments.tiny else (512, IMAGES, EPOCHS)
    job = Job("convnet", model, "cifar10", batch, 1, samples, 0, device, "bfloat16")
    member = Member(RATE, 0, period=500, amplitude=5.0, momentum=MOMENTUM, weight_decay=DECAY)
    setup = Setup.build(problem_of(job), [member])
    work = operations(setup)
    side = 64 if arguments.tiny else 8192
    product = product_rate(torch.randn(side, side, dtype=torch.bfloat16, device=device), device)
    figures.add(
        model=model,
        batch=batch,
        operations_an_image=work,
        matmul_tflops=product / 1e3,
        convolution_error_float32=convolution_error(device),
        goal_seconds=GOAL_SECONDS.get(model),
    )
    rows: dict[str, dict[str, Any]] = {}
    fallen_back = []
    for variant in arguments.variants:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            (first, *seconds), state = epochs(setup, job, variant, count)
        whole = IMAGES / (samples // batch * batch)  # a last incomplete batch is left out
        epoch = statistics.median(seconds) * whole
        share = work * IMAGES / epoch / (product * 1e9)
        rows[variant] = {
            "epoch_seconds": epoch,
            "fastest": min(seconds) * whole,
            "slowest": max(seconds) * whole,
            "first_seconds": first,
            "share_of_matmul": share,
            **state,
            "memory_mib": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None,
            "warnings": sorted({str(each.message)[:300] for each in said}),
        }
        figures.add(
            f"{model} {variant}: {epoch:.3f} s per epoch, {share:.1%} of the bf16 product "
            f"({product / 1e3:.0f} TFLOP/s); prepared in {first:.0f} s",
            variants=rows,
        )
        if device == "cuda" and state["recorded"] != (variant != "plain"):
            fallen_back.append(variant)
        if not state["finite"]:
            raise SystemExit(f"{variant}: the parameters are not finite")
    if fallen_back:
        raise SystemExit(f"no CUDA graph was recorded: {', '.join(fallen_back)}")


if __name__ == "__main__":
    main()
