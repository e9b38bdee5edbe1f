"""Reusable search spaces: YAML in, Optuna suggestions, Ray Tune domains or designs out."""

from search_spaces.catalogue import from_mapping, load, names
from search_spaces.parameters import (
    ChoiceParameter,
    ConstParameter,
    FloatParameter,
    IntParameter,
    Parameter,
)
from search_spaces.space import Baseline, Point, Space

__all__ = [
    "Baseline",
    "ChoiceParameter",
    "ConstParameter",
    "FloatParameter",
    "IntParameter",
    "Parameter",
    "Point",
    "Space",
    "from_mapping",
    "load",
    "names",
]
