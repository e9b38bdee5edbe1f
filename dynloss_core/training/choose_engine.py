"""Which engine trains a problem."""

from __future__ import annotations

from typing import Literal

from dynloss_core.config import ConfigError
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


def choose_engine(problem: Problem, name: EngineName = "auto", device: str = "cpu") -> type[Engine]:
    """The engine called `name`, or the fastest one that can train `problem` on `device`.

    Raises:
        ConfigError: if the engine asked for cannot train the problem; it says why.
    """
    able = (engine for engine in _FASTEST_FIRST if engine.refusal(problem, device) is None)
    if name == "auto":
        return next(engine for engine in able if engine.pays(problem))
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
