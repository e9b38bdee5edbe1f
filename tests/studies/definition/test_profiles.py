"""Profiles: variants that a study file defines, merged mapping by mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynloss_core.config import ConfigError
from studies.definition.study_files import load_study
from tests.studies.commands import dynloss_here
from tests.studies.tiny import tiny_file

PROFILES = {
    "short": {"description": "Reduced to 20 steps.", "budget": {"total": 20}},
    "digits": {"data": {"name": "digits"}, "training": {"batch_size": 50}},
    "wide": {"model": {"width": 16}, "space": {"parameters": {"period": {"low": 5}}}},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    space = {"extends": "spirals-mlp", "name": "own", "parameters": {"period": {"low": 10}}}
    return tiny_file(tmp_path, space=space, profiles=PROFILES)


def test_a_profile_replaces_what_it_names_and_keeps_the_rest(path: Path) -> None:
    plain, short = load_study(path), load_study(path, profile="short")
    assert (plain.name, short.name) == ("tiny", "tiny_short")
    assert (short.budget.total, short.budget.evaluate_every) == (20, 20)
    assert short.description == "Reduced to 20 steps."
    assert short.data == plain.data
    wide = load_study(path, profile="wide")
    assert (wide.model.width, wide.space.parameters["period"].low) == (16, 5)
    assert wide.space.parameters["period"].high == plain.space.parameters["period"].high


def test_another_data_set_brings_nothing_of_the_old_one(path: Path) -> None:
    assert load_study(path, profile="digits").data.name == "digits"


def test_overrides_come_after_the_profile(path: Path) -> None:
    assert load_study(path, ["budget.total=30"], "short").budget.total == 30


@pytest.mark.parametrize(
    ("profile", "profiles", "reason"),
    [
        ("shrot", PROFILES, "'shrot' is not in this file; it has: short, digits, wide"),
        ("x", {}, "it has: none"),
        ("short", ["short"], "expected mappings by name"),
    ],
)
def test_what_is_no_profile_is_refused(
    profile: str, profiles: Any, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_study(tiny_file(tmp_path, profiles=profiles), profile=profile)


def test_the_command_line_runs_a_profile(path: Path, tmp_path: Path) -> None:
    done = dynloss_here("run", str(path), "--profile", "short", "--dry-run")
    assert "tiny_short" in done.stdout
