"""What a study would cost, without starting it: counts, a short calibration, the cluster.

The study may be meant for another machine. What this one lacks is listed, and what can be estimated
without it is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from dynloss_core.config import ConfigError
from dynloss_core.training import Engine, Problem, Setup, choose_engine
from search_spaces import Point
from studies.analysis.statistics.power import Power, few_pairs, power_of
from studies.blocks.block_probe import representatives, seconds_per_step
from studies.blocks.block_run import use_threads
from studies.blocks.block_size import seconds_beside_others
from studies.cluster.backends import backend_of
from studies.cluster.capacity import Capacity, blocks_on_gpu, local_resources, shortages
from studies.definition.study import Study
from studies.runner.block_layout import (
    blocks_side_by_side,
    largest_blocks,
    lay_out,
    needs_layout,
)

__all__ = ["Cost", "cost_of"]

_CALIBRATION_SECONDS = 1.5
_NOT_MEASURED = "measured where the study starts; here, as large as leaves some for all machines"
_SECONDS_PER_BLOCK = 1.0  # scheduling, tables and tracking of a block, measured on two cores


@dataclass(frozen=True)
class Cost:
    """What a study would cost.

    Args:
        trials: number of points searched, by arm.
        blocks: number of blocks.
        members: number of networks in all.
        steps: optimiser steps per network.
        engine: the engine that would train them here.
        microseconds: measured time of one step of one member in a block; None if not measured.
        parallel: number of blocks that the cluster trains at once.
        seconds: estimated time of the whole study; None if nothing was measured.
        missing: what the study needs and this machine, or the cluster, lacks.
        power: what it can show; None if the study says nothing of its spread.
        few_pairs: a warning that its fresh seeds are too few for most claims.
        layout: what `auto` chose of the blocks, in words; empty where nothing is left to it.
        blocks_on_gpu: number of blocks that share a GPU.
    """

    trials: dict[str, int]
    blocks: int
    members: int
    steps: int
    engine: str
    microseconds: float | None
    parallel: int
    seconds: float | None
    missing: tuple[str, ...] = ()
    power: Power | None = None
    few_pairs: str | None = None
    layout: tuple[str, ...] = ()
    blocks_on_gpu: int = 1


def cost_of(study: Study, capacity: Capacity) -> Cost:
    """Count the study's work, and time a little of it here, on the threads of a block or as many as
    this machine has.

    Without the GPU that the study asks for, one network is timed on the CPU, which overestimates.
    Blocks that share a GPU are timed as one of all their networks, if that is here: together they
    are no faster.
    """
    samples = [(arm, point) for arm in _unlike(study) for point in representatives(study, arm)]
    problems = [study.problem(arm, point) for arm, point in samples]
    steps = round(sum(problem.steps for problem in problems) / len(problems))
    engines = [_engine(study, problem, _device(study)).name for problem in problems]
    lacks = [lack.problem for lack in shortages(study, capacity)]
    missing = [f"{lack}: estimated as one block at a time on this machine" for lack in lacks]
    microseconds = in_parallel = None
    layout: list[str] = []
    try:
        study.data.load(study.seed)
    except ConfigError as error:
        missing = [*lacks, str(error)]
        if needs_layout(study):
            study = replace(study, resources=replace(study.resources, gpu=study.resources.gpus))
    else:
        study, layout = _laid_out(study, capacity)
        sharing = _sharing_gpu(study, capacity)
        times = [_calibrate(study, arm, point) for arm, point in samples]
        beside = [
            _beside_others(study, arm, point, alone, sharing)
            for (arm, point), alone in zip(samples, times, strict=True)
        ]
        microseconds, in_parallel = (sum(each) / len(samples) for each in (times, beside))
    searching = study.searches * sum(len(study.trials_of(arm).blocks) for arm in study.arms)
    confirming = study.searches * len(study.confirmed_arms) if study.confirms() else 0
    room = backend_of(study).parallel_blocks(study, capacity)
    parallel = min(room, blocks_side_by_side(study))
    trials = {arm: study.searches * study.trials_of(arm).count for arm in study.arms}
    searched = sum(trials.values()) * study.seeds_per_point
    seconds = None
    if in_parallel is not None:
        seconds_per_member = steps * in_parallel / 1e6
        seconds = backend_of(study).seconds_to_start
        for members, blocks, at_once in (
            (searched, searching, parallel),
            (study.members() - searched, confirming, min(room, confirming)),
        ):
            seconds += (members * seconds_per_member + blocks * _SECONDS_PER_BLOCK) / max(
                at_once, 1
            )
    return Cost(
        trials=trials,
        blocks=searching + confirming,
        members=study.members(),
        steps=steps,
        engine=" and ".join(dict.fromkeys(engines)),
        microseconds=microseconds,
        parallel=max(parallel, 1),
        seconds=seconds,
        missing=tuple(missing),
        power=power_of(study),
        few_pairs=few_pairs(study),
        layout=tuple(layout),
        blocks_on_gpu=blocks_on_gpu(study),
    )


def _sharing_gpu(study: Study, capacity: Capacity) -> int:
    """How many blocks train on a GPU at a time: no more than there are blocks for."""
    gpus = max(1, int(capacity.get("GPU", 1.0)))
    return max(1, min(blocks_on_gpu(study), -(-blocks_side_by_side(study) // gpus)))


def _unlike(study: Study) -> list[str]:
    """One arm of each way to train, for what it changes in `training` has its cost."""
    ways = {repr(options.training): arm for arm, options in reversed(study.named_arms.items())}
    return list(ways.values())


def _calibrate(study: Study, arm: str, point: Point, blocks: int = 1) -> float:
    """Microseconds per step of one member of an arm at a point.

    Args:
        study: the study.
        arm: the arm.
        point: the point.
        blocks: number of blocks whose members are trained together.
    """
    full = study.problem(arm, point)
    seeds = study.seeds.search if study.mode != "confirm" else study.seeds.fresh
    copies = study.trials_of(arm).block_size if study.mode != "confirm" else 1
    members = [study.member(point, seed, full) for seed in seeds] * copies * blocks
    use_threads(min(study.resources.cpu, local_resources()["CPU"]))
    device = _device(study)
    if device != study.device:
        del members[1:]  # a block for a GPU may not fit here
    engine = _engine(study, full, device)(Setup.build(full, members), device)
    return seconds_per_step(engine, _CALIBRATION_SECONDS) / len(members) * 1e6


def _beside_others(study: Study, arm: str, point: Point, alone: float, blocks: int) -> float:
    """Microseconds per step of one member, where so many blocks share a GPU."""
    if blocks == 1 or _device(study) != "cuda":
        return alone
    try:
        together = _calibrate(study, arm, point, blocks)
    except torch.OutOfMemoryError:
        together = alone
    return seconds_beside_others(alone, together, blocks)


def _laid_out(study: Study, capacity: Capacity) -> tuple[Study, list[str]]:
    """The study with what is left to `auto` measured here, and what was chosen."""
    if not needs_layout(study):
        return study, []
    if _device(study) == study.device:
        layout = lay_out(study, capacity, lambda _, probe: probe())
        return layout.study, [*layout.lines()]
    sizes = study.block_sizes if study.is_laid_out else largest_blocks(study, capacity)
    resources = replace(study.resources, gpu=study.resources.gpus)
    return replace(study, block_sizes=sizes, resources=resources), [_NOT_MEASURED]


def _device(study: Study) -> str:
    """The device that blocks can be timed on here."""
    return study.device if torch.cuda.is_available() else "cpu"


def _engine(study: Study, problem: Problem, device: str) -> type[Engine]:
    """The engine for a problem: the study's choice on the study's device, else the fastest."""
    return choose_engine(problem, study.engine if device == study.device else "auto", device)
