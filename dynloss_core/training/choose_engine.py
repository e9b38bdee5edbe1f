"""The table of engines, and which of them trains a problem.

To add an engine, add a row here and its name to `EngineName`. One name can stand for several
engines that compute alike; the first that can train a problem is used.
"""

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

__all__ = ["ENGINES", "EngineName", "choose_engine"]

EngineName = Literal["auto", "autograd", "batched", "convnet", "fused"]

ENGINES: dict[str, tuple[type[Engine], ...]] = {  # fastest first
    "fused": (FusedCPUEngine, FusedCUDAEngine),
    "batched": (BatchedEngine, VmappedEngine),
    "convnet": (ConvnetEngine,),
    "autograd": (AutogradEngine,),
}


def choose_engine(problem: Problem, name: EngineName = "auto", device: str = "cpu") -> type[Engine]:
    """The engine called `name`, or the fastest one that can train `problem` on `device`.

    Raises:
        ConfigError: if the engine asked for cannot train the problem; it says why.
    """
    if name == "auto":
        every = (engine for engines in ENGINES.values() for engine in engines)
        able = (engine for engine in every if engine.refusal(problem, device) is None)
        return next(engine for engine in able if engine.is_faster(problem))
    if name not in ENGINES:
        known = ", ".join(ENGINES)
        raise ConfigError("engine", f"there is no engine {name!r}", f"choose one of: auto, {known}")
    reasons = []
    for engine in ENGINES[name]:
        reason = engine.refusal(problem, device)
        if reason is None:
            return engine
        reasons.append(reason)
    problem_of_all = " or ".join(dict.fromkeys(reasons))
    raise ConfigError("engine", f"{name!r} cannot train this problem: {problem_of_all}", "use auto")
