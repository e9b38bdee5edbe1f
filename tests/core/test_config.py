from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynloss_core.config import ADDED_LATER, ConfigError, build, config_hash, to_dict
from dynloss_core.data import DigitsConfig, SpiralsConfig
from dynloss_core.training import Problem


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner = field(default_factory=Inner)
    names: tuple[str, ...] = ()
    data: SpiralsConfig | DigitsConfig = field(default_factory=SpiralsConfig)
    maybe: int | None = None
    flag: bool = False


def test_builds_nested_dataclasses() -> None:
    made = build(
        Outer,
        {"count": 3, "inner": {"rate": 2}, "names": ["x"], "data": "digits", "maybe": None},
    )
    assert made == Outer(3, Inner(2.0), ("x",), DigitsConfig())
    assert build(Outer, to_dict(made)) == made


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "file: count: missing; add `count: an integer`"),
        ({"count": 1, "coumt": 2}, "file: coumt: unknown key; did you mean 'count'?"),
        ({"count": "3"}, "file: count: '3' is text, not a number; write 3 without quotes"),
        (
            {"count": 1, "inner": {"rate": "1e-4"}},
            "file: inner.rate: '1e-4' is text, not a number; write 1e-4 without quotes",
        ),
        ({"count": True}, "file: count: expected an integer, got True; write an integer"),
        ({"count": 1.5}, "file: count: expected an integer, got 1.5; write an integer"),
        ({"count": 1, "flag": 1}, "file: flag: expected true or false, got 1; write true or false"),
        (
            {"count": 1, "inner": {"kind": "A"}},
            "file: inner.kind: 'A' is not one of the choices; choose",
        ),
        ({"count": 1, "inner": 3}, "file: inner: expected a mapping, got 3"),
        ({"count": 1, "names": "x"}, "file: names: expected a list, got 'x'"),
        ({"count": 1, "names": [1]}, "file: names[0]: expected text, got 1"),
        ({"count": 1, "inner": {"rate": float("inf")}}, "file: inner.rate: inf is not a finite"),
        (
            {"count": 1, "data": {"name": "cifar"}},
            "file: data.name: 'cifar' is not one of the choices",
        ),
        ({"count": 1, "data": {}}, "file: data.name: missing; choose one of: spirals, digits"),
        ({"count": 1, "data": {"name": "digits", "noise": 1}}, "file: data.noise: unknown key"),
        ([], "file: expected a mapping, got []"),
    ],
)
def test_refusals_name_source_key_value_and_remedy(mapping: object, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(Outer, mapping, source="file")
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
        max_leaves=8,
    )
)
def test_any_input_is_built_or_refused(anything: object) -> None:
    for candidate in (anything, {"count": 1, "inner": anything, "data": anything}):
        try:
            build(Outer, candidate)
        except ConfigError as error:
            assert "\n" not in str(error)


def test_hash_is_stable_and_sees_values_not_spellings() -> None:
    assert config_hash(Problem()) == config_hash(build(Problem, to_dict(Problem())))
    assert config_hash(SpiralsConfig(noise=0)) == config_hash(SpiralsConfig(noise=0.0))
    assert config_hash(SpiralsConfig(noise=0.1)) != config_hash(SpiralsConfig(noise=0.2))
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})


@dataclass(frozen=True)
class Before:
    rate: float = 0.1


@dataclass(frozen=True)
class Since:
    rate: float = 0.1
    order: str = field(default="cyclic", metadata=ADDED_LATER)
    parts: dict[str, int] = field(default_factory=dict, metadata=ADDED_LATER)


def test_a_field_that_came_later_changes_no_hash_while_it_has_its_default() -> None:
    before = config_hash(Before())
    assert config_hash(Since()) == before
    assert config_hash({"of": Since()}) == config_hash({"of": Before()})
    changed = [Since(order="random"), Since(parts={"a": 1}), Since(rate=0.2)]
    assert len({before, *map(config_hash, changed)}) == 4
    assert to_dict(Since()) == {"rate": 0.1, "order": "cyclic", "parts": {}}
