"""The study of tests: a few hundred optimiser steps, from its definition to its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from studies.definition.study import Study
from studies.definition.study_files import study_from_mapping

__all__ = ["CONFIRM", "MAP", "TINY", "tiny_document", "tiny_file", "tiny_study"]

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
MAP: dict[str, Any] = {"mode": "map", "trials_per_arm": None}
CONFIRM: dict[str, Any] = {"mode": "confirm", "trials_per_arm": None}


def tiny_document(**changes: Any) -> dict[str, Any]:
    """The study's file, as a mapping, with keys replaced."""
    return {**yaml.safe_load(TINY), **changes}


def tiny_study(**changes: Any) -> Study:
    """The study, with keys of its file replaced."""
    return study_from_mapping(tiny_document(**changes), source="tiny")


def tiny_file(folder: Path, **changes: Any) -> Path:
    """The study's file, with keys replaced, in a folder that exists."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_document(**changes), sort_keys=False) if changes else TINY)
    return path
