"""The built-in networks as code that depends on torch alone: their own source."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from dynloss_core.models import (
    MLP,
    Dropout,
    MLPConfig,
    Myrtle5,
    Myrtle5Config,
    WideResNet,
    WideResNetConfig,
    wide_resnet,
)
from dynloss_core.training import Problem

__all__ = ["NETWORKS", "NetworkCode", "network_code"]

_TRAIT = re.compile(r"^    \w+: ClassVar\[bool\] = True\n", re.MULTILINE)  # for the engines


@dataclass(frozen=True)
class NetworkCode:
    """A network in a script.

    Args:
        imports: lines that import what its definition needs beside torch.
        definition: its classes and functions.
        construction: the expression that builds it.
    """

    imports: tuple[str, ...]
    definition: str
    construction: str


def network_code(problem: Problem) -> NetworkCode:
    """The code of the network of a problem, whose class is in `NETWORKS`."""
    return NETWORKS[type(problem.model)](problem)


def _mlp(problem: Problem) -> NetworkCode:
    config: Any = problem.model
    inputs, outputs = math.prod(problem.data.input_shape), problem.data.num_classes
    hidden = f"[{config.width}] * {config.depth}" if config.depth > 1 else f"[{config.width}]"
    hidden = hidden if config.depth else "[]"
    construction = f"MLP(inputs={inputs}, hidden={hidden}, outputs={outputs})"
    return NetworkCode(("import itertools",), _source(MLP), construction)


def _myrtle5(problem: Problem) -> NetworkCode:
    config: Any = problem.model
    inputs, outputs = problem.data.input_shape[0], problem.data.num_classes
    sizes = f"inputs={inputs}, channels={config.channels}, outputs={outputs}"
    return NetworkCode((), _source(Myrtle5), f"Myrtle5({sizes})")


def _wide_resnet(problem: Problem) -> NetworkCode:
    config: Any = problem.model
    inputs, outputs = problem.data.input_shape[0], problem.data.num_classes
    needed = [
        (field.name, getattr(config, field.name))
        for field in fields(config)
        if field.name not in ("name", "initialisation")
    ]
    annotated = "".join(f"    {name}: {type(value).__name__}\n" for name, value in needed)
    values = ", ".join(f"{name}={value!r}" for name, value in needed)
    parts = [
        f"_STEM = {wide_resnet._STEM}  # channels of the first convolution\n"
        f"_GROUP = {wide_resnet._GROUP}  # channels a group\n",
        f"@dataclass(frozen=True)\nclass WideResNetConfig:\n{annotated}",
        *map(_source, (WideResNet, wide_resnet._Block, Dropout)),
        *map(_source, (wide_resnet._convolution, wide_resnet._norm)),
    ]
    imports = ("from dataclasses import dataclass", "from typing import assert_never")
    construction = f"WideResNet(WideResNetConfig({values}), inputs={inputs}, outputs={outputs})"
    return NetworkCode(imports, "\n\n".join(parts), construction)


NETWORKS: dict[type[Any], Callable[[Problem], NetworkCode]] = {
    MLPConfig: _mlp,
    Myrtle5Config: _myrtle5,
    WideResNetConfig: _wide_resnet,
}
"""The code of each network, by the class of its configuration."""


def _source(part: Any) -> str:
    """The source of a class or function, without what it declares to the engines."""
    text, traits = _TRAIT.subn("", inspect.getsource(part))
    return text.replace("\n\n\n", "\n\n") if traits else text
