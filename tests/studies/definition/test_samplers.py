"""The table of samplers decides what is a design and what learns from results."""

from __future__ import annotations

import typing
from pathlib import Path

import optuna
import pytest
import torch

from dynloss_core.config import ConfigError
from search_spaces import Point
from studies.definition.samplers import SAMPLERS, Sampler, SamplerName, samplers_of
from studies.definition.study import Mode
from studies.definition.study_files import load_study
from studies.search.arm_search import ArmSearch
from tests.studies.search.formula import answers

PROPOSING = Sampler(
    modes=("optimize",), proposes=lambda seed: optuna.samplers.RandomSampler(seed=seed)
)


def test_every_name_has_a_row_and_every_mode_a_default() -> None:
    assert set(typing.get_args(SamplerName)) == set(SAMPLERS)
    defaults = [samplers_of(mode)[0] for mode in typing.get_args(Mode)]
    assert defaults == ["grid", "tpe", "tpe"]
    assert [name for name, sampler in SAMPLERS.items() if sampler.adaptive] == ["tpe", "gp"]


def test_a_sampler_is_a_design_or_proposes() -> None:
    for both in ({}, {"design": PROPOSING.proposes, "proposes": PROPOSING.proposes}):
        with pytest.raises(ValueError, match="lays out a design, or proposes"):
            Sampler(modes=(), **both)


@pytest.mark.parametrize("mode", ["map", "optimize"])
def test_a_sampler_of_another_mode_is_refused_with_those_that_serve(mode: str, tiny: Path) -> None:
    for name, sampler in SAMPLERS.items():
        if mode in sampler.modes:
            continue
        with pytest.raises(ConfigError, match=f"use {' or '.join(samplers_of(mode))}"):
            load_study(tiny, [f"mode={mode}", f"sampler={name}"])


def test_an_adaptive_sampler_of_another_name_proposes_and_waits_for_results(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but its row says so."""
    monkeypatch.setitem(SAMPLERS, "random", PROPOSING)
    study = load_study(tiny, ["sampler=random", "parallel_blocks=1"])
    assert study.trials_of("dynamical").design is None
    search = ArmSearch(study, "dynamical", optuna.storages.InMemoryStorage())
    first = search.ask()
    assert first is not None
    assert search.ask() is None, "the second block rests on the results of the first"
    assert PROPOSING.adaptive


def asked(search: ArmSearch, trials: int) -> list[Point]:
    """The points of so many trials, each told a result before the next is asked for."""
    points = []
    for _ in range(trials):
        block = search.ask()
        assert block is not None
        points.append(block.trials[0].point)
        search.receive(block, answers(block))
    return points


@pytest.mark.parametrize("name", [name for name, row in SAMPLERS.items() if row.adaptive])
def test_what_proposes_is_repeated_by_a_study_that_is_resumed(name: str, tiny: Path) -> None:
    """Whatever the number of threads."""
    study = load_study(
        tiny, [f"sampler={name}", "block_size=1", "parallel_blocks=1", "trials_per_arm=14"]
    )
    threads = torch.get_num_threads()
    storage = optuna.storages.InMemoryStorage()
    whole = asked(ArmSearch(study, "dynamical", optuna.storages.InMemoryStorage()), 14)
    assert len({tuple(point.values()) for point in whole}) > 10
    try:
        torch.set_num_threads(1)
        assert asked(ArmSearch(study, "dynamical", storage), 12) == whole[:12]
        assert asked(ArmSearch(study, "dynamical", storage), 14) == whole
    finally:
        torch.set_num_threads(threads)
