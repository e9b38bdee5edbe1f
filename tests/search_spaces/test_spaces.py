from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from dynloss_core.config import ConfigError, build, to_dict
from search_spaces import (
    Baseline,
    ChoiceParameter,
    ConstParameter,
    FloatParameter,
    IntParameter,
    Space,
)

SPIRALS = search_spaces.load("spirals-mlp")


def contained(space: Space, point: dict) -> bool:
    return all(space.parameters[name].contains(value) for name, value in point.items())


@pytest.mark.parametrize("name", search_spaces.names())
def test_every_shipped_space_serves_every_use(name: str) -> None:
    space = search_spaces.load(name)
    assert space.name == name
    for each in (space, space.static()):
        names = list(each.parameters)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        points = [each.suggest(study.ask()) for _ in range(20)]
        points += each.grid(3) + each.sample(9) + each.sample(9, method="sobol")
        for point in points:
            assert list(point) == names
            assert contained(each, point)
        assert list(each.to_ray()) == names
    assert "period" not in space.static().parameters
    assert space.static().grid(2)[0]["amplitude"] == 1.0
    assert build(Space, to_dict(space)).hash == space.hash


def test_a_ray_domain_keeps_both_bounds() -> None:
    space = Space("s", parameters={"period": IntParameter(low=2, high=3)})
    drawn = {space.to_ray()["period"].sample() for _ in range(200)}
    assert drawn == {2, 3}


bounds = st.tuples(st.integers(1, 10**5), st.integers(1, 10**5)).filter(lambda b: b[0] != b[1])


@given(bounds, st.sampled_from(["linear", "log"]), st.floats(0, 1), st.integers(1, 30))
def test_values_stay_within_their_bounds(
    ends: tuple[int, int], scale: str, fraction: float, count: int
) -> None:
    low, high = sorted(ends)
    for parameter in (
        FloatParameter(low=low, high=high, scale=scale),  # type: ignore[arg-type]
        IntParameter(low=low, high=high, scale=scale),  # type: ignore[arg-type]
    ):
        assert parameter.contains(parameter.at(fraction))
        values = parameter.grid(count)
        assert all(parameter.contains(value) for value in values)
        assert values == sorted(set(values))  # type: ignore[type-var]
        if count > 1:
            assert (values[0], values[-1]) == (low, high)


def test_a_log_grid_has_equal_ratios() -> None:
    values = FloatParameter(low=0.1, high=10.0, scale="log").grid(5)
    ratios = [b / a for a, b in zip(values[:-1], values[1:], strict=True)]  # type: ignore[operator]
    assert ratios == pytest.approx([math.sqrt(10)] * 4)


def test_integers_are_equally_likely_bounds_included() -> None:
    parameter = IntParameter(low=1, high=4)
    drawn = [parameter.at((i + 0.5) / 400) for i in range(400)]
    assert [drawn.count(value) for value in (1, 2, 3, 4)] == [100, 100, 100, 100]


def test_samples_are_repeatable_and_sobol_covers_evenly() -> None:
    assert SPIRALS.sample(5, seed=1) == SPIRALS.sample(5, seed=1)
    assert SPIRALS.sample(5, seed=1) != SPIRALS.sample(5, seed=2)
    sobol = SPIRALS.sample(16, seed=3, method="sobol")
    rates = sorted(math.log10(point["learning_rate"]) for point in sobol)  # type: ignore[arg-type]
    quarters = [sum(1 for r in rates if -1 + q / 2 <= r < -1 + (q + 1) / 2) for q in range(4)]
    assert quarters == [4, 4, 4, 4]


def test_a_narrowed_space_has_its_ranges_and_drops_points_outside() -> None:
    space = SPIRALS.narrow(period=(500, 2000), amplitude=70.0)
    assert space.searched() == ["period", "learning_rate"]
    assert space.parameters["period"].bounds == (500, 2000)  # type: ignore[union-attr]
    assert space.points == (), "a start point outside the narrower space is dropped"
    assert SPIRALS.narrow(learning_rate=(0.5, 2.0)).points == SPIRALS.points
    assert space.hash != SPIRALS.hash
    for limits in ({"period": (1, 10)}, {"perod": 5}, {"period": (1, 2, 3)}, {"amplitude": 1e6}):
        with pytest.raises(ConfigError):
            SPIRALS.narrow(**limits)


def test_extends_merges_field_by_field(tmp_path: Path) -> None:
    file = tmp_path / "child.yaml"
    file.write_text(
        "name: child\nextends: spirals-mlp\nparameters:\n"
        "  period: {high: 3000}\n"
        "  learning_rate: {type: choice, values: [0.5, 1.0]}\n"
        "  momentum: {type: const, value: 0.9}\n"
    )
    child = search_spaces.load(file)
    assert child.parameters["period"] == IntParameter(
        low=200, high=3000, scale="log", unit="steps", role="scientific",
        description=SPIRALS.parameters["period"].description,
    )  # fmt: skip
    assert child.grid({"period": 1, "amplitude": 1})[1]["learning_rate"] == 1.0
    assert child.points == (), "the inherited start point lies outside"
    grandchild = tmp_path / "grandchild.yaml"
    grandchild.write_text("extends: child.yaml\nparameters: {momentum: null}\n")
    assert "momentum" not in search_spaces.load(grandchild).parameters


GOOD = """\
schema: 1
name: good
parameters:
  period: {type: int, low: 10, high: 100, scale: log, unit: steps, role: scientific}
  amplitude: {type: float, low: 2.0, high: 50.0, scale: log}
  learning_rate: {type: float, low: 0.01, high: 1.0, scale: log}
"""

BAD = {
    "unknown key": ("name: good", "nam: good", "nam: unknown key; did you mean 'name'?"),
    "unknown field": ("scale: log, unit", "scal: log, unit", "parameters.period.scal: unknown key"),
    "duplicate key": ("name: good", "name: good\nname: bad", "name: duplicate key on line 3"),
    "duplicate parameter": (
        "  amplitude:", "  period: {type: const, value: 3}\n  amplitude:", "period: duplicate key",
    ),
    "wrong type": ("low: 10,", "low: ten,", "parameters.period.low: expected an integer, got 'ten'"),
    "number as text": ("low: 0.01", "low: '1e-4'", "learning_rate.low: '1e-4' is text, not a number"),
    "quoted number": ("low: 0.01", "low: '0.01'", "'0.01' is text, not a number; write 0.01"),
    "amplitude below 1": ("low: 2.0", "low: 0.5", "amplitude.low: 0.5 is below 1; use >= 1"),
    "period below 2": ("low: 10", "low: 1", "parameters.period.low: 1 is below 2; use >= 2"),
    "empty range": ("high: 100", "high: 5", "parameters.period.low: 10 exceeds high = 5"),
    "a range of one": ("high: 100", "high: 10", "low = high = 10: the range is empty; use `type: co"),
    "no bound": ("low: 10, ", "", "parameters.period.low: missing"),
    "log of zero": ("low: 0.01", "low: 0.0", "0.0 has no logarithm"),
    "negative rate": (
        "learning_rate: {type: float, low: 0.01, high: 1.0, scale: log}",
        "learning_rate: {type: float, low: -1.0, high: 1.0}",
        "learning_rate.low: -1.0 is not above 0",
    ),
    "unknown type": ("type: int", "type: integer", "period.type: 'integer' is not one of the choices"),
    "unknown scale": ("scale: log, unit", "scale: logg, unit", "'logg' is not one of the choices; did you mea"),
    "unknown parameter": ("  amplitude:", "  amplitud:", "did you mean 'amplitude'?"),
    "unknown unit": ("unit: steps", "unit: weeks", "period.unit: 'weeks' is not one of the choices"),
    "wrong schema": ("schema: 1", "schema: 9", "schema: version 9 is unknown; write schema: 1"),
    "fractional period": ("type: int, low: 10,", "type: float, low: 10.5,", "whole number; use type: i"),
    "not yaml": ("schema: 1", "schema: [1", "not valid YAML"),
    "infinite": ("high: 50.0", "high: .inf", "amplitude.high: inf is not a finite number"),
    "start point outside": (
        "name: good", "name: good\npoints: [{period: 5}]", "points[0].period: 5 is outside the space",
    ),
    "start point unknown": (
        "name: good", "name: good\npoints: [{perod: 50}]", "points[0].perod: unknown key",
    ),
    "baseline unknown": (
        "name: good", "name: good\nbaseline: {drop: [perio]}", "baseline.perio: unknown key",
    ),
    "extends nobody": ("name: good", "name: good\nextends: nobody", "extends: no space 'nobody'"),
    "extends itself": ("name: good", "name: good\nextends: bad.yaml", "break the cycle"),
    "a list": (GOOD, "- 1\n- 2\n", "expected `key: value` lines"),
    "empty": (GOOD, "", "expected `key: value` lines"),
    "python object": ("schema: 1", "schema: !!python/object/apply:os.getcwd []", "not valid YAML"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    old, new, message = BAD[name]
    assert old in GOOD
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as refusal:
        search_spaces.load(file)
    text = str(refusal.value)
    assert message in text
    assert text.startswith(str(file))
    assert "\n" not in text


def test_the_good_file_is_good(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    assert search_spaces.load(file).searched() == ["period", "amplitude", "learning_rate"]


@pytest.mark.parametrize("path", ["nowhere.yaml", ".", "nobody"])
def test_a_missing_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        search_spaces.load(path)


OWN = Space(
    "own",
    parameters={
        "period": IntParameter(low=10, high=100, description="T"),
        "learning_rate": FloatParameter(low=0.01, high=1.0),
        "momentum": ConstParameter(value=0.5),
    },
    baseline=Baseline(
        search={
            "learning_rate": FloatParameter(low=0.1, high=3.0, description="alone"),
            "momentum": FloatParameter(low=0.0, high=0.9),
        }
    ),
    points=({"learning_rate": 0.05}, {"learning_rate": 0.5}),
)


def test_a_start_point_outside_the_static_arm_s_own_range_is_dropped() -> None:
    static = OWN.static()
    assert static.points == ({"learning_rate": 0.5, "amplitude": 1.0},)
    assert OWN.points == ({"learning_rate": 0.05}, {"learning_rate": 0.5})


def test_narrow_narrows_the_static_arm_s_own_range() -> None:
    both = OWN.narrow(learning_rate=(0.05, 0.5)).baseline.search["learning_rate"]
    assert (both.low, both.high) == (0.1, 0.5)  # type: ignore[union-attr]
    assert OWN.narrow(learning_rate=0.3).static().constants()["learning_rate"] == 0.3
    alone = OWN.narrow(momentum=(0.2, 0.4))
    assert alone.constants()["momentum"] == 0.5, "the dynamical arm holds it"
    assert alone.static().parameters["momentum"] == FloatParameter(low=0.2, high=0.4)
    for limits in ({"learning_rate": (0.02, 0.05)}, {"momentum": (0.5, 0.95)}):
        with pytest.raises(ConfigError, match=r"baseline.search.*outside the space"):
            OWN.narrow(**limits)


@pytest.mark.parametrize(
    ("values", "left"), [((0.01, 0.1, 0.3), [0.1, 0.3]), ((0.3, 1.0, 7.0), [0.3])]
)
def test_narrow_keeps_the_choices_of_the_static_arm_s_own(
    values: tuple[float, ...], left: list[float]
) -> None:
    baseline = Baseline(search={"learning_rate": ChoiceParameter(values=values)})
    space = replace(OWN, baseline=baseline, points=())
    narrowed = space.narrow(learning_rate=(0.05, 0.5)).baseline.search["learning_rate"]
    assert narrowed.grid(1) == left


@pytest.mark.parametrize(
    "values", [(1, 1.0), (True, 1), (False, 0.0), ("a", "b", "a"), (None, None)]
)
def test_choices_are_compared_by_value(values: tuple[object, ...]) -> None:
    with pytest.raises(ConfigError, match="repeats a value"):
        ChoiceParameter(values=values)


def test_choices_that_differ_are_kept() -> None:
    assert ChoiceParameter(values=(1, "1", None, 2.0, False)).contains("1")


def test_a_description_names_no_other_space() -> None:
    described = {name: replace(each, description="other") for name, each in OWN.parameters.items()}
    search = {
        name: replace(each, description="other") for name, each in OWN.baseline.search.items()
    }
    other = replace(
        OWN, name="x", description="y", parameters=described, baseline=Baseline(search=search)
    )
    assert other.hash == OWN.hash
    assert replace(OWN, points=()).hash != OWN.hash
