"""Refinement: ever closer around the best, within the range, the same for every arm."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core.config import ConfigError
from search_spaces import FloatParameter, IntParameter, Space
from studies.analysis.gains.gain_map import maps_of
from studies.analysis.study_tables import Tables
from studies.definition.study import Study
from studies.report.study_question import question_of
from studies.search.refinement import Tried, refined
from tests.studies.sessions import finish, session_of
from tests.studies.tiny import MAP, tiny_study

SPACE = Space(
    name="refined",
    parameters={
        "learning_rate": FloatParameter(low=0.1, high=10.0, scale="log"),
        "period": IntParameter(low=2, high=2000, scale="log", unit="steps"),
        "amplitude": FloatParameter(low=1.0, high=100.0, scale="log"),
    },
)


@given(best=st.floats(0.1, 10.0), rounds=st.integers(1, 12), searched=st.integers(1, 200))
def test_steps_stay_in_the_range_and_halve(best: float, rounds: int, searched: int) -> None:
    point = {"learning_rate": best, "period": 20, "amplitude": 3.0}
    steps = []
    for number in range(rounds):
        pair = refined(SPACE, ["learning_rate"], [(point, 1.0)], searched, number)
        assert all({**each, "learning_rate": best} == point for each in pair)
        values = [float(each["learning_rate"]) for each in pair]  # type: ignore[arg-type]
        assert all(0.1 <= value <= 10.0 for value in values)
        steps.append(max(abs(math.log(value / best)) / math.log(100) for value in values))
    assert steps[0] <= 0.5 / searched + 1e-9
    assert all(b == pytest.approx(a / 2, abs=1e-9) for a, b in zip(steps, steps[1:], strict=False))


@given(optimum=st.floats(0.0, 1.0), searched=st.integers(4, 32))
def test_an_optimum_between_the_points_is_found(optimum: float, searched: int) -> None:
    """Of an arm with one parameter; within a fraction of the gap that the search left."""

    def value(rate: float) -> float:
        return -((math.log(rate / 0.1) / math.log(100) - optimum) ** 2)

    rates = [0.1 * 100 ** ((k + 0.5) / searched) for k in range(searched)]
    tried: list[Tried] = [({"learning_rate": rate}, value(rate)) for rate in rates]
    for number in range(5):
        pair = refined(SPACE, ["learning_rate"], tried, searched, number)
        tried += [(each, value(float(each["learning_rate"]))) for each in pair]  # type: ignore[arg-type]
    best = max(tried, key=lambda each: each[1])
    assert math.sqrt(-best[1]) <= 0.6 / searched / 8


def test_coordinates_take_turns() -> None:
    point = {"learning_rate": 1.0, "period": 63, "amplitude": 10.0}
    names = list(SPACE.parameters)
    moved = []
    for number in range(6):
        pair = refined(SPACE, names, [(point, 1.0)], 27, number)
        moved.append([name for name in names if any(each[name] != point[name] for each in pair)])
    assert moved == [[name] for name in names] * 2


def test_nothing_tried_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to refine"):
        refined(SPACE, ["learning_rate"], [], 8, 0)


def sobol(**changes: object) -> Study:
    return tiny_study(**{**MAP, "trials_per_arm": 8}, sampler="sobol", **changes)


def test_every_arm_has_as_many_further_points() -> None:
    plain, finer = sobol(), sobol(refine=4)
    for arm in plain.arms:
        assert finer.trials_of(arm).count == plain.trials_of(arm).count + 4
        assert [len(block) for block in finer.trials_of(arm).blocks] == [2, 2, 2, 2, 2, 2]
    longer = finer.extended(3)
    assert [list(block) for block in longer.trials_of("static").blocks][-4:] == [
        [8, 9], [10, 11], [12, 13], [14],
    ]  # fmt: skip


def test_a_map_shows_the_design_and_holds_it_against_the_refined_reference(tmp_path: Path) -> None:
    grid = {"period": 3, "amplitude": 2, "learning_rate": 2}
    study = tiny_study(**MAP, grid=grid, refine=4, seeds_per_point=4)
    session = session_of(study, tmp_path)
    finish(session)
    members = session.folder.parts.gather("members")
    assert len(members) == study.members()
    found = maps_of(Tables(members, pd.DataFrame(), question_of(study, members)))["gain_map"]
    assert not found.binned
    assert found.trials.shape == (3, 2)
    assert found.trials.sum() == 3 * 2 * 2
    assert found.static_trials == 2 + 4


def test_a_refinement_of_nothing_is_refused() -> None:
    values = {"period": [100, 1000], "amplitude": [2.0, 5.0], "learning_rate": [0.5, 1.0]}
    lists = {name: {"type": "choice", "values": given} for name, given in values.items()}
    space = {"extends": "spirals-mlp", "name": "lists", "parameters": lists, "points": []}
    with pytest.raises(ConfigError, match=r"refine: no parameter that it could refine has a range"):
        tiny_study(**{**MAP, "space": space, "grid": {}, "refine": 2})
