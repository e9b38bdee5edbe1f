"""The engines that the contracts are held against."""

from __future__ import annotations

import pytest

from dynloss_core.testing.agreement import (
    METRICS,
    TRACE_COLUMNS,
    assert_equal,
    assert_same_trace,
)
from dynloss_core.testing.cases import CASES, setup_of
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    ConvnetEngine,
    FusedCPUEngine,
    VmappedEngine,
)
from tests.devices import ON_CUDA

__all__ = [
    "ENGINES",
    "METRICS",
    "TRACE_COLUMNS",
    "assert_equal",
    "assert_same_trace",
    "every_engine",
    "every_pair",
    "setup_of",
]

ENGINES = [AutogradEngine, BatchedEngine, VmappedEngine, ConvnetEngine, FusedCPUEngine, *ON_CUDA]

every_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda each: each.__name__)
every_engine_unhurried = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(engine, marks=pytest.mark.slow) if engine is AutogradEngine else engine
        for engine in ENGINES
    ],
    ids=lambda each: each.__name__,
)
every_pair = pytest.mark.parametrize(
    ("engine", "case"),
    [
        pytest.param(engine, case, id=f"{engine.__name__}-{case.name}")
        for engine in ENGINES
        for case in CASES
        if engine.refusal(case.problem) is None
    ],
)
