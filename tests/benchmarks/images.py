"""The engine for images against plain loops of torch: `make bench`.

Rivals train the same network on the same images with the same batch size and threads and torch's
SGD. `torchvision` is a tutorial's loop: PIL transforms (crop with reflection, mirror, tensor,
normalise) and a shuffling DataLoader with each number of workers. `channels-last` is what a careful
user would write: images in memory as one tensor, augmented a batch at a time, network and batches
with channels last. `torch.compile` is that loop with a compiled network, forward and backward.
Trainers live in processes of their own and take turns, an epoch each, so
that a machine that slows down slows all of them; the ratio is the median over the rounds. Images are
random bytes in the shapes of CIFAR-10 and Fashion-MNIST, so that nothing is downloaded.

On CUDA an epoch is 50,000 images, and its rate is compared with that of a matrix product in
bfloat16. Operations are those of convolutions and products, forward and backward, as torch counts
them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from dynloss_core.data import Labelled, PixelScale
from dynloss_core.models import ModelConfig, Myrtle5Config, WideResNetConfig
from dynloss_core.training import Augmentation, Member, Problem, Setup, choose_engine
from tests.benchmarks.engines import matmul_rate, wait_for
from tests.cases import BytesConfig

if TYPE_CHECKING:  # `tests/gpu` measures with this file where there is no rich
    from rich.console import Console

RIVALS = ("torchvision", "channels-last", "torch.compile")
CROP = 4
RATE, MOMENTUM, DECAY = 0.02, 0.9, 5e-4
SHAPES = {"cifar10": (3, 32), "fashion_mnist": (1, 28)}
MODELS: dict[str, ModelConfig] = {
    "myrtle5-16": Myrtle5Config(channels=16),
    "myrtle5-64": Myrtle5Config(channels=64),
    "wrn-16-4": WideResNetConfig(depth=16, widening=4),
}

Epoch = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """One trainer; `workers` load its data, 0 in the training process itself."""

    trainer: str
    model: str
    images: str
    batch: int
    threads: int
    samples: int
    workers: int = 0
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True)
class Measurement:
    """One trainer: medians over rounds, and their spread.

    Args:
        images_per_second: trained.
        slowest: of the rounds.
        fastest: of the rounds.
        epoch_seconds: for 50,000 images.
        of_matmul: share of the matrix product's rate, in the same process.
        x_rival: our rate over this rival's, round by round; None for our own rows.
    """

    job: Job
    images_per_second: float
    slowest: float
    fastest: float
    epoch_seconds: float
    of_matmul: float
    x_rival: float | None


def problem_of(job: Job) -> Problem:
    channels, side = SHAPES[job.images]
    return Problem(
        data=BytesConfig("bytes", job.samples, channels, side, 10),  # type: ignore[arg-type]
        model=MODELS[job.model],
        batch_size=job.batch,
        nesterov=True,
        augmentation=Augmentation(crop=CROP, flip=True),
        dtype=job.dtype,  # type: ignore[arg-type]
        steps=10**9,
        static_tail=0,
        evaluate_every=10**9,
    )


def our_epoch(job: Job, setup: Setup) -> Epoch:
    engine = choose_engine(setup.problem, job.trainer, job.device)(setup, job.device)  # type: ignore[arg-type]
    steps = job.samples // job.batch
    return lambda: void(engine._train(steps))


def void(_: object) -> None:
    """An epoch returns nothing."""


class Pictures(Dataset):
    """Bytes as PIL images, transformed one at a time: how a torchvision data set serves them."""

    def __init__(self, data: Labelled) -> None:
        from torchvision import transforms

        assert isinstance(data.scale, PixelScale)
        side = data.inputs.shape[-1]
        self.pixels = data.inputs.permute(0, 2, 3, 1).contiguous().numpy()  # (N, H, W, channels)
        self.targets = data.targets.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(side, padding=CROP, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.scale.mean, data.scale.deviation),
            ]
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        pixels = self.pixels[index]
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return self.transform(picture), self.targets[index]


def rival_epoch(job: Job, setup: Setup) -> Epoch:
    """A plain loop over batches; rivals differ in what serves these and in the network's form."""
    network = setup.networks[0].to(job.device)
    if job.trainer == "torchvision":
        batches = served_by_loader(job, setup)
    else:
        network = network.to(memory_format=torch.channels_last)
        batches = served_from_memory(job, setup)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True
    )
    criterion = nn.CrossEntropyLoss()
    forward = torch.compile(network) if job.trainer == "torch.compile" else network

    def epoch() -> None:
        network.train()
        for images, targets in batches():
            optimiser.zero_grad()
            criterion(forward(images), targets).backward()
            optimiser.step()

    return epoch


Batches = Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]


def served_by_loader(job: Job, setup: Setup) -> Batches:
    loader = DataLoader(
        Pictures(setup.splits[0].train),
        batch_size=job.batch,
        shuffle=True,
        drop_last=True,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
    )
    return lambda: iter(loader)


def served_from_memory(job: Job, setup: Setup) -> Batches:
    """Bytes in memory; each batch is scaled, padded, cropped and mirrored as one tensor."""
    data = setup.splits[0].train
    assert isinstance(data.scale, PixelScale)
    mean = 255 * torch.tensor(data.scale.mean).reshape(1, -1, 1, 1)
    deviation = 255 * torch.tensor(data.scale.deviation).reshape(1, -1, 1, 1)
    side, size = data.inputs.shape[-1], job.batch

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(data.inputs))
        for picked in torch.split(order[: len(order) // size * size], size):
            images = (data.inputs[picked].float() - mean) / deviation
            windows = nn.functional.pad(images, 4 * [CROP], mode="reflect")
            windows = windows.unfold(2, side, 1).unfold(3, side, 1)  # (B, C, 9, 9, side, side)
            down, right = torch.randint(2 * CROP + 1, (2, size))
            images = windows[torch.arange(size), :, down, right]
            mirrored = torch.rand(size, 1, 1, 1) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
            yield images.contiguous(memory_format=torch.channels_last), data.targets[picked]

    return batches


_running: tuple[Job, Epoch, float] | None = (
    None  # what this process trains, and operations an image
)


def prepare(job: Job) -> float:
    """In a trainer's own process: build it, warm it up; the share of the matrix product is later
    taken from the rate returned here, in operations a second."""
    global _running
    torch.set_num_threads(job.threads)
    member = Member(RATE, 0, period=500, amplitude=5.0, momentum=MOMENTUM, weight_decay=DECAY)
    setup = Setup.build(problem_of(job), [member])
    work = operations(setup)
    epoch = rival_epoch(job, setup) if job.trainer in RIVALS else our_epoch(job, setup)
    epoch()
    _running = job, epoch, work
    precision = torch.bfloat16 if job.dtype == "bfloat16" else torch.float32
    return matmul_rate(precision, job.device, job.threads) * 1e9 / work


def operations(setup: Setup) -> float:
    """Of convolutions and products for one image, forward and backward."""
    images = torch.zeros(2, *setup.splits[0].input_shape)
    with FlopCounterMode(display=False) as counter:
        setup.networks[0](images).sum().backward()
    setup.networks[0].zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(images)


def timed_epoch() -> float:
    """Images a second over one epoch of what this process trains."""
    assert _running is not None
    job, epoch, _ = _running
    wait_for(job.device)
    started = time.perf_counter()
    epoch()
    wait_for(job.device)
    return job.samples // job.batch * job.batch / (time.perf_counter() - started)


def contest(jobs: list[Job], rounds: int) -> list[Measurement]:
    """Our trainer, first of the jobs, and its rivals, in turns."""
    spawn = get_context("spawn")
    homes = [ProcessPoolExecutor(1, mp_context=spawn) for _ in jobs]
    try:
        limits = [home.submit(prepare, job).result() for home, job in zip(homes, jobs, strict=True)]
        rates: list[list[float]] = [[] for _ in jobs]
        for _ in range(rounds):
            for home, found in zip(homes, rates, strict=True):
                found.append(home.submit(timed_epoch).result())
    finally:
        for home in homes:
            home.shutdown()
    rows = []
    for job, found, limit in zip(jobs, rates, limits, strict=True):
        rate = statistics.median(found)
        ratios = [ours / theirs for ours, theirs in zip(rates[0], found, strict=True)]
        rows.append(
            Measurement(
                job=job,
                images_per_second=rate,
                slowest=min(found),
                fastest=max(found),
                epoch_seconds=50_000 / rate,
                of_matmul=rate / limit,
                x_rival=statistics.median(ratios) if job.trainer in RIVALS else None,
            )
        )
    return rows


def contests(options: argparse.Namespace) -> list[list[Job]]:
    """One thread against rivals of one, and all cores against all cores and each number of workers."""
    found = []
    for images in options.images:
        for batch in options.batches:
            for threads in dict.fromkeys([1, options.threads]):
                base = {"model": options.model, "images": images, "batch": batch}
                size = {"threads": threads, "samples": options.samples}
                workers = range(threads + 1) if threads > 1 else range(1)
                rivals = [Job("torchvision", **base, **size, workers=each) for each in workers]
                rivals += [Job(name, **base, **size) for name in RIVALS[1:]]
                found.append([Job("convnet", **base, **size), *rivals])
    if torch.cuda.is_available():
        for model in ("myrtle5-64", "wrn-16-4"):
            for dtype in ("bfloat16", "float32"):
                job = Job("convnet", model, "cifar10", 512, 1, 50_000, 0, "cuda", dtype)
                found.append([job])
    return found


def show(rows: list[Measurement], console: Console) -> None:
    from rich.table import Table

    table = Table(
        "trainer", "model", "images", "batch", "on", "dtype", "images/s", "50,000 in s",
        "of matmul", "ours is", box=None,
    )  # fmt: skip
    for row in rows:
        job = row.job
        workers = f" + {job.workers} workers" if job.trainer == "torchvision" else ""
        threads = "1 thread" if job.threads == 1 else f"{job.threads} threads"
        table.add_row(
            job.trainer, job.model, job.images, str(job.batch),
            (threads if job.device == "cpu" else job.device) + workers, job.dtype,
            f"{row.images_per_second:,.0f} ({row.slowest:,.0f}-{row.fastest:,.0f})",
            f"{row.epoch_seconds:.1f}", f"{row.of_matmul:.0%}",
            "" if row.x_rival is None else f"{row.x_rival:.1f} x",
        )  # fmt: skip
    console.print(table)


def main() -> None:
    from rich.console import Console

    from studies.blocks.provenance import provenance

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="myrtle5-16", choices=MODELS)
    parser.add_argument("--images", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--samples", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("images.json"))
    options = parser.parse_args()
    console = Console(width=140)
    rows = []
    for jobs in contests(options):
        rows += contest(jobs, options.rounds)
        show(rows[-len(jobs) :], console)
    console.rule()
    show(rows, console)
    origin = provenance() | {f"version.{name}": version(name) for name in ("torchvision", "pillow")}
    record = {
        "provenance": origin,
        "load_average": os.getloadavg()[1],
        "rounds": options.rounds,
        "rows": [asdict(row) for row in rows],
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
