"""What the run of a whole study holds in MLflow, besides its results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dynloss_core.config import config_hash, to_dict
from search_spaces.parameters import ChoiceParameter, ConstParameter, Parameter
from studies.definition.study import Study
from studies.storage.tracking import mlflow_store  # noqa: F401  sets the environment of mlflow

# isort: split
from mlflow.entities import Dataset, DatasetInput

__all__ = ["data_set_of", "study_params"]

_MAX_PARAMS = 100  # of one request
_MAX_CHARACTERS = 500

# what may change once the study has begun, as a parameter of MLflow may not; what is no number or
# word; and what has a place of its own
_CHANGES = {"backend", "description", "extensions", "resources", "searches", "spread", "storage"}
_LEFT_OUT = {*_CHANGES, "arms", "name", "plugins", "schema", "space", "start_points"}


def study_params(study: Study) -> dict[str, str]:
    """The definition of a study as MLflow's parameters: `model.width`, `budget.total`,
    `space.period`."""
    document = {key: value for key, value in to_dict(study).items() if key not in _LEFT_OUT}
    ranges = {f"space.{name}": _range(p) for name, p in study.space.parameters.items()}
    whole = {"arms": list(study.arms), **document, "space": study.space.name, **ranges}
    texts = {key: text[:_MAX_CHARACTERS] for key, text in _flat(whole)}
    return dict(list(texts.items())[:_MAX_PARAMS])


def data_set_of(study: Study) -> DatasetInput:
    """The data set of a study. Its digest is that of its entry in the study's file, which has the
    checksums of a user's files."""
    entry = to_dict(study.data)
    text = json.dumps(entry, default=str)
    return DatasetInput(
        Dataset(
            name=str(entry["name"]),
            digest=config_hash(study.data),
            source_type="dynloss",
            source=text,
            profile=text,
        )
    )


def _flat(entries: Mapping[str, Any], owner: str = "") -> Iterator[tuple[str, str]]:
    """Entries by dotted keys; those that are empty or None are left out."""
    for key, value in entries.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{owner}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if value:
                yield f"{owner}{key}", ", ".join(map(str, value))
        elif value is not None and value != "":
            yield f"{owner}{key}", str(value)


def _range(parameter: Parameter) -> str:
    """The values that a parameter may take: `10 to 15000, log`."""
    if isinstance(parameter, ConstParameter):
        return str(parameter.value)
    if isinstance(parameter, ChoiceParameter):
        return ", ".join(map(str, parameter.values))
    scale = "" if parameter.scale == "linear" else f", {parameter.scale}"
    return f"{parameter.low} to {parameter.high}{scale}"
