"""What a study would cost, without starting it: counts, a short calibration, the cluster."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import torch

from dynloss_core.training import Setup, choose_engine
from search_spaces import Point
from studies.blocks import use_threads
from studies.cluster import Capacity, parallel_blocks
from studies.definition import Study

__all__ = ["Estimate", "estimate"]

_CALIBRATION_SECONDS = 1.5
_MOST_PROBLEMS = 8  # calibrated where a study's points change the problem itself
_SECONDS_A_BLOCK = 1.0  # scheduling, tables and tracking of a block, measured on two cores
_SECONDS_TO_START = 12.0  # Ray, MLflow's store and the first worker


@dataclass(frozen=True)
class Estimate:
    """What a study would cost.

    Args:
        trials: points searched, by arm.
        blocks: units of scheduling.
        members: networks in all.
        steps: optimiser steps a network.
        engine: that would train them.
        microseconds: measured for one step of one member inside a block.
        parallel: blocks the cluster trains at once.
        seconds: estimated for the whole study.
    """

    trials: dict[str, int]
    blocks: int
    members: int
    steps: int
    engine: str
    microseconds: float
    parallel: int
    seconds: float


def estimate(study: Study, capacity: Capacity) -> Estimate:
    """Count the study's work and time a little of it here, on the block's own threads.

    A GPU that this machine lacks is calibrated on the CPU, which overestimates.
    """
    costs = [_calibrate(study, point) for point in _representatives(study)]
    engine = " and ".join(dict.fromkeys(name for name, _, _ in costs))
    microseconds = sum(each for _, each, _ in costs) / len(costs)
    steps = round(sum(each for _, _, each in costs) / len(costs))
    trials: dict[str, int] = {each: study.trials(each) for each in study.arms}
    searching = sum(len(study.search_blocks(arm)) for arm in trials)
    confirming = len(study.arms) if study.confirms() else 0
    room = parallel_blocks(study, capacity)
    parallel = min(room, searching) if searching else min(room, confirming)
    waits = study.design(study.arms[0]) is None or study.early_stopping is not None
    if waits and searching:  # for results
        parallel = min(parallel, len(study.arms) * study.parallel_blocks)
    a_member = steps * microseconds / 1e6
    searched = sum(trials.values()) * study.seeds_per_point
    seconds = _SECONDS_TO_START
    if searching:
        seconds += (searched * a_member + searching * _SECONDS_A_BLOCK) / parallel
    if confirming:
        confirmed = study.members() - searched
        seconds += (confirmed * a_member + confirming * _SECONDS_A_BLOCK) / min(room, confirming)
    return Estimate(
        trials=trials,
        blocks=searching + confirming,
        members=study.members(),
        steps=steps,
        engine=engine,
        microseconds=microseconds,
        parallel=max(parallel, 1),
        seconds=seconds,
    )


def _representatives(study: Study) -> list[Point]:
    """Points in the middle of the space, one for each problem that it holds, up to a few.

    A point that changes the problem (`model.width`, say) changes the cost of a step.
    """
    arm = study.arms[0]
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
    return points[:: -(-len(points) // _MOST_PROBLEMS)]


def _calibrate(study: Study, point: Point) -> tuple[str, float, int]:
    """Engine, microseconds of one step of one member, and steps, at a point."""
    full = study.problem(point)
    seeds = study.search_seeds() if study.mode != "confirm" else study.fresh_seeds()
    copies = study.block_size if study.mode != "confirm" else 1
    members = [study.member(point, seed, full) for seed in seeds] * copies
    use_threads(study.resources.cpu)
    device = study.device if torch.cuda.is_available() else "cpu"
    name = study.engine if device == study.device else "auto"
    engine = choose_engine(full, name, device)(Setup.build(full, members), device)
    elapsed, done, steps = 0.0, 0, 1
    while elapsed < _CALIBRATION_SECONDS and engine.step < full.steps:
        first, started = engine.step, time.perf_counter()
        engine.train(min(steps, full.steps - first))
        if device != "cpu":
            torch.cuda.synchronize()  # what was asked for is not yet done
        elapsed, done = time.perf_counter() - started, engine.step - first
        if first == 0 and engine.step < full.steps:
            elapsed = 0.0  # the first step compiled what needs compiling
        else:
            steps *= 2
    return engine.name, elapsed / max(done, 1) / len(members) * 1e6, full.steps
