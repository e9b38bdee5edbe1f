"""What a study would cost, without starting it: counts, a short calibration, the cluster.

The study may be meant for another machine. What this one lacks is listed, and what can be estimated
without it is estimated.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import torch

from dynloss_core.config import ConfigError
from dynloss_core.training import Engine, Problem, Setup, choose_engine
from search_spaces import Point
from studies.analysis.statistics.power import Power, few_pairs, power_of
from studies.blocks.block_run import use_threads
from studies.cluster.backends import backend_of
from studies.cluster.capacity import Capacity, local_resources, shortages
from studies.definition.study import Study

__all__ = ["Cost", "cost_of"]

_CALIBRATION_SECONDS = 1.5
_MAX_PROBLEMS = 8  # to calibrate, if a study's points change the problem itself
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


def cost_of(study: Study, capacity: Capacity) -> Cost:
    """Count the study's work, and time a little of it here, on the threads of a block or as many as
    this machine has.

    Without the GPU that the study asks for, one network is timed on the CPU, which overestimates.
    """
    samples = [(arm, point) for arm in _unlike(study) for point in _representatives(study, arm)]
    problems = [study.problem(arm, point) for arm, point in samples]
    steps = round(sum(problem.steps for problem in problems) / len(problems))
    engines = [_engine(study, problem, _device(study)).name for problem in problems]
    lacks = [lack.problem for lack in shortages(study, capacity)]
    missing = [f"{lack}: estimated as one block at a time on this machine" for lack in lacks]
    microseconds = None
    try:
        study.data.load(study.seed)
    except ConfigError as error:
        missing = [*lacks, str(error)]
    else:
        times = [_calibrate(study, arm, point) for arm, point in samples]
        microseconds = sum(times) / len(times)
    searching = study.searches * sum(len(study.trials_of(arm).blocks) for arm in study.arms)
    confirming = study.searches * len(study.confirmed_arms) if study.confirms() else 0
    room = backend_of(study).parallel_blocks(study, capacity)
    parallel = min(room, searching or confirming)
    waits = study.early_stopping is not None or any(
        study.trials_of(a).design is None for a in study.arms
    )
    if waits and searching:  # for results
        parallel = min(parallel, study.searches * len(study.arms) * study.parallel_blocks)
    trials = {arm: study.searches * study.trials_of(arm).count for arm in study.arms}
    searched = sum(trials.values()) * study.seeds_per_point
    seconds = None
    if microseconds is not None:
        seconds_per_member = steps * microseconds / 1e6
        seconds = backend_of(study).seconds_to_start
        for members, blocks, at_once in (
            (searched, searching, parallel),
            (study.members() - searched, confirming, min(room, confirming)),
        ):
            seconds += (members * seconds_per_member + blocks * _SECONDS_PER_BLOCK) / max(
                at_once, 1
            )
    few = few_pairs(study)
    return Cost(
        trials=trials,
        blocks=searching + confirming,
        members=study.members(),
        steps=steps,
        engine=" and ".join(dict.fromkeys(engines)),
        microseconds=microseconds,
        parallel=max(parallel, 1),
        seconds=seconds,
        missing=tuple(missing if few is None else [few, *missing]),
        power=power_of(study),
    )


def _unlike(study: Study) -> list[str]:
    """One arm of each way to train, for what it changes in `training` has its cost."""
    ways = {repr(options.training): arm for arm, options in reversed(study.named_arms.items())}
    return list(ways.values())


def _representatives(study: Study, arm: str) -> list[Point]:
    """Points in the middle of an arm's space, one for each of its problems, up to a few.

    A point that changes the problem (`model.width`, say) changes the cost of a step.
    """
    parameters = study.arm_space(arm).parameters
    middle = {name: parameter.at(0.5) for name, parameter in parameters.items()}
    middle.update((study.winners or {}).get(arm, {}))
    changing = {name: parameters[name].grid(3) for name in parameters if "." in name}
    points = [
        {**middle, **dict(zip(changing, values, strict=True))}
        for values in itertools.product(*changing.values())
    ]
    if study.winners is not None:
        return [middle]
    return points[:: -(-len(points) // _MAX_PROBLEMS)]


def _calibrate(study: Study, arm: str, point: Point) -> float:
    """Microseconds per step of one member of an arm at a point."""
    full = study.problem(arm, point)
    seeds = study.seeds.search if study.mode != "confirm" else study.seeds.fresh
    copies = study.block_size if study.mode != "confirm" else 1
    members = [study.member(point, seed, full) for seed in seeds] * copies
    use_threads(min(study.resources.cpu, local_resources()["CPU"]))
    device = _device(study)
    if device != study.device:
        del members[1:]  # a block for a GPU may not fit here
    engine = _engine(study, full, device)(Setup.build(full, members), device)
    elapsed, done, steps = 0.0, 0, 1
    while elapsed < _CALIBRATION_SECONDS and engine.step < full.steps:
        first, started = engine.step, time.perf_counter()
        engine.train(min(steps, full.steps - first))
        if device != "cpu":
            torch.cuda.synchronize()  # kernels run asynchronously
        elapsed, done = time.perf_counter() - started, engine.step - first
        if first == 0 and engine.step < full.steps:
            elapsed = 0.0  # the first step includes compilation
        else:
            steps *= 2
    return elapsed / max(done, 1) / len(members) * 1e6


def _device(study: Study) -> str:
    """The device that blocks can be timed on here."""
    return study.device if torch.cuda.is_available() else "cpu"


def _engine(study: Study, problem: Problem, device: str) -> type[Engine]:
    """The engine for a problem: the study's choice on the study's device, else the fastest."""
    return choose_engine(problem, study.engine if device == study.device else "auto", device)
