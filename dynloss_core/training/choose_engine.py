"""Which engine trains a problem."""

from __future__ import annotations

import math
from typing import Literal

from dynloss_core.config import ConfigError
from dynloss_core.models import Myrtle5Config
from dynloss_core.training.engine import Engine
from dynloss_core.training.engines.autograd import AutogradEngine
from dynloss_core.training.engines.convnet import ConvnetEngine
from dynloss_core.training.engines.fused_cpu import FusedCPUEngine
from dynloss_core.training.engines.fused_cuda import FusedCUDAEngine
from dynloss_core.training.engines.stacked_mlp import BatchedEngine
from dynloss_core.training.engines.stacked_networks import VmappedEngine
from dynloss_core.training.problem.problem import Problem

__all__ = ["EngineName", "choose_engine"]

EngineName = Literal["auto", "autograd", "batched", "convnet", "fused"]

_FASTEST_FIRST: tuple[type[Engine], ...] = (
    FusedCPUEngine,
    FusedCUDAEngine,
    BatchedEngine,
    VmappedEngine,
    ConvnetEngine,
    AutogradEngine,
)

_STACKED_PAYS = 2**14  # activations of a layer of one member, see `_is_faster_stacked`


def choose_engine(problem: Problem, name: EngineName = "auto", device: str = "cpu") -> type[Engine]:
    """The engine called `name`, or the fastest one that can train `problem` on `device`.

    Raises:
        ConfigError: if the engine asked for cannot train the problem; it says why.
    """
    if name == "auto":
        able = (engine for engine in _FASTEST_FIRST if engine.refusal(problem, device) is None)
        fastest = next(able)
        if fastest is VmappedEngine and not _is_faster_stacked(problem):
            fastest = next(able)
        return fastest
    if name not in {engine.name for engine in _FASTEST_FIRST}:
        raise ConfigError("engine", f"there is no engine {name!r}", "use auto")
    reasons = []
    for engine in _FASTEST_FIRST:
        if engine.name == name:
            reason = engine.refusal(problem, device)
            if reason is None:
                return engine
            reasons.append(reason)
    problem_of_all = " or ".join(dict.fromkeys(reasons))
    raise ConfigError("engine", f"{name!r} cannot train this problem: {problem_of_all}", "use auto")


def _is_faster_stacked(problem: Problem) -> bool:
    """Whether several members of a convolutional network gain more from sharing each call than
    they lose by its layout.

    Measured on one core of a CPU, Myrtle5 on digits in batches of 64, time of a step of one member,
    stacked over one by one: with 2 channels 0.5 (8 members) and 0.8 (4), with 4 channels 0.9 and
    1.0, with 8 channels 0.8 and 1.2, with 16 channels 1.0 and 1.2; on images of 28 x 28 1.1 with 2
    channels and 1.7 with 4. On CUDA it was never measured.
    """
    shape, model = problem.data.input_shape, problem.model
    if len(shape) != 3 or not isinstance(model, Myrtle5Config):
        return False
    batch = problem.batch_size or problem.data.training_samples
    return batch * math.prod(shape[1:]) * model.channels <= _STACKED_PAYS
