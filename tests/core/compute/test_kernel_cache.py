"""Kernels are compiled once on a machine: by key, and whatever becomes of the files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, sys, time
import torch
from dynloss_core.compute import kernel_cache
kernel_cache._sources = lambda: sys.argv[1]
from dynloss_core.models import MLPConfig
from dynloss_core.training import FusedCPUEngine, Member, Probes, Problem, Setup
problem = Problem(model=MLPConfig(width=4), steps=20, static_tail=0, evaluate_every=20)
setup = Setup.build(problem, [Member(1.0, seed=0, period=10, amplitude=5.0)])
engine = FusedCPUEngine(setup, probes=Probes(10, (0,)))
history = engine.run()
from dynloss_core.compute.curvature_kernel import curvature_kernel
hits = len(curvature_kernel(2, 3).stats.cache_hits)
print(json.dumps([hits, history.curve("train_loss").tolist(),
                  history.curvature.hessian_lambda_max.tolist()]))
"""


def run(folder: Path, sources: str = "one") -> tuple[int, list[float], Any]:
    """Cache hits of a process that trains and measures, and what it found: losses and curvature."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, sources],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    hits, losses, curvature = json.loads(done.stdout)
    return hits, losses, curvature


@pytest.mark.slow
def test_the_second_process_loads_what_the_first_compiled(tmp_path: Path) -> None:
    """Also fails if numba no longer asks the cache that it is given, or links a kernel to pieces
    that were compiled by themselves."""
    hits, *compiled = run(tmp_path)
    assert hits == 0
    assert run(tmp_path) == (1, *compiled)
    assert run(tmp_path, sources="two") == (0, *compiled), "other sources are other code"
    for path in tmp_path.rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[:200])
    assert run(tmp_path) == (0, *compiled), "what is damaged is compiled again"
    assert run(tmp_path) == (1, *compiled)


@pytest.mark.slow
def test_a_disk_that_is_full_only_costs_time(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (tmp_path / "sitecustomize.py").write_text(
        "import numba.core.caching as c, errno\n"
        "def full(*a, **k): raise OSError(errno.ENOSPC, 'full')\n"
        "c.IndexDataCacheFile.save = full\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "one"],
        env=os.environ | environment | {"NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)[0] == 0
    assert not list(folder.rglob("*.nbc"))
