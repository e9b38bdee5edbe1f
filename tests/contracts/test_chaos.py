"""Beyond the first instability trajectories part, whatever the engine; statistics must not."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from scipy import stats

from dynloss_core.data import SpiralsConfig
from dynloss_core.models import MLPConfig
from dynloss_core.training import (
    AutogradEngine,
    BatchedEngine,
    Engine,
    FusedCPUEngine,
    History,
    Member,
    Problem,
    Setup,
)

SEEDS = 24
PROBLEM = Problem(
    data=SpiralsConfig(points_per_class=20),
    model=MLPConfig(width=12),
    dtype="float32",
    steps=1500,
    static_tail=0,
    evaluate_every=1500,
)


@cache
def trained(engine: type[Engine]) -> History:
    members = [Member(4.0, seed=seed, period=100, amplitude=10.0) for seed in range(SEEDS)]
    return engine(Setup.build(PROBLEM, members)).run()


@pytest.mark.parametrize(
    "engine",
    [BatchedEngine, FusedCPUEngine],
    ids=lambda each: each.__name__,
)
@pytest.mark.slow
@pytest.mark.parametrize("metric", ["train_loss", "train_accuracy", "validation_accuracy"])
def test_statistics_agree_where_trajectories_do_not(engine: type[Engine], metric: str) -> None:
    ours, theirs = (trained(each).curve(metric)[-1] for each in (engine, AutogradEngine))
    assert bool(((ours - theirs).abs() > 1e-3).any()), "not chaotic: compare trajectories instead"
    assert bool(torch.isfinite(ours).all())
    assert stats.ttest_ind(ours, theirs, equal_var=False).pvalue > 1e-3
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
