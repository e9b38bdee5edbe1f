from __future__ import annotations

from pathlib import Path

import pytest

TINY = """\
schema: 1
name: tiny
mode: optimize
data: {name: spirals, points_per_class: 10}
model: {name: mlp, width: 6}
budget: {total: 60, static_tail: 20, evaluate_every: 20}
space: spirals-mlp
trials_per_arm: 6
seeds_per_point: 2
confirm_seeds: 3
block_size: 2
resources: {cpu: 1}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A study file of a few hundred optimiser steps."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path
