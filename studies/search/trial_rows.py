"""Trials in Optuna's database: written all of a block in one transaction, and read in one go.

`Study.add_trial` takes a trial at a time: 6 ms of the driver, and more with each that is there, for
it counts them. Where the storage is a file of SQLite with the columns that we know, the same rows
are inserted at once; a test compares every table with what Optuna would have filled. Any other
storage is left to Optuna.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from studies.definition.database_columns import has_columns

__all__ = ["KeptTrial", "TrialRows", "rows_of"]

_METADATA = sa.MetaData()


def _table(name: str, key: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(name, _METADATA, sa.Column(key, sa.Integer, primary_key=True), *columns)


def _trial() -> sa.Column[Any]:
    return sa.Column("trial_id", sa.Integer)


_TRIALS = _table(
    "trials",
    "trial_id",
    sa.Column("number", sa.Integer),
    sa.Column("study_id", sa.Integer),
    sa.Column("state", sa.String(8)),
    sa.Column("datetime_start", sa.DateTime),
    sa.Column("datetime_complete", sa.DateTime),
)
_VALUES = _table(
    "trial_values",
    "trial_value_id",
    _trial(),
    sa.Column("objective", sa.Integer),
    sa.Column("value", sa.Float(53)),
    sa.Column("value_type", sa.String(7)),
)
_PARAMS = _table(
    "trial_params",
    "param_id",
    _trial(),
    sa.Column("param_name", sa.String(512)),
    sa.Column("param_value", sa.Float(53)),
    sa.Column("distribution_json", sa.Text),
)
_ATTRIBUTES = _table(
    "trial_user_attributes",
    "trial_user_attribute_id",
    _trial(),
    sa.Column("key", sa.String(512)),
    sa.Column("value_json", sa.Text),
)
_INTERMEDIATE = _table(
    "trial_intermediate_values",
    "trial_intermediate_value_id",
    _trial(),
    sa.Column("step", sa.Integer),
    sa.Column("intermediate_value", sa.Float(53)),
    sa.Column("intermediate_value_type", sa.String(7)),
)


class KeptTrial(NamedTuple):
    """A trial that is in the storage.

    Args:
        is_finished: whether it has ended.
        params: its searched values.
    """

    is_finished: bool
    params: dict[str, Any]


class TrialRows:
    """Reads the trials of one study, and writes those that have ended.

    Args:
        engine: of the database.
        study: the study's number there.
    """

    def __init__(self, engine: sa.Engine, study: int) -> None:
        self._engine, self._study = engine, study

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        """Add trials, numbered on from those that are there, in one transaction."""
        if not trials:
            return
        with self._engine.begin() as database:
            asked = sa.select(sa.func.count()).select_from(_TRIALS)
            first = database.execute(asked.where(_TRIALS.c.study_id == self._study)).scalar_one()
            rows: dict[sa.Table, list[dict[str, Any]]] = {}
            for number, trial in enumerate(trials, first):
                inserted = database.execute(
                    sa.insert(_TRIALS).values(
                        number=number,
                        study_id=self._study,
                        state=trial.state.name,
                        datetime_start=_stored_time(trial.datetime_start),
                        datetime_complete=_stored_time(trial.datetime_complete),
                    )
                )
                key = inserted.lastrowid
                for table, values in _rows(trial):
                    rows.setdefault(table, []).append({"trial_id": key, **values})
            for table, of_trials in rows.items():
                database.execute(sa.insert(table), of_trials)

    def kept(self) -> list[KeptTrial]:
        """Every trial, by number; in a fiftieth of the memory and the time that Optuna takes."""
        asked = sa.select(_TRIALS.c.trial_id, _TRIALS.c.state)
        asked = asked.where(_TRIALS.c.study_id == self._study).order_by(_TRIALS.c.number)
        searched = sa.select(
            _PARAMS.c.trial_id,
            _PARAMS.c.param_name,
            _PARAMS.c.param_value,
            _PARAMS.c.distribution_json,
        ).join(_TRIALS, _TRIALS.c.trial_id == _PARAMS.c.trial_id)
        distribution = cache(json_to_distribution)
        trials: dict[int, KeptTrial] = {}
        with self._engine.connect() as database:
            for key, state in database.execute(asked):
                trials[key] = KeptTrial(TrialState[state].is_finished(), {})
            own = searched.where(_TRIALS.c.study_id == self._study)
            found = database.execute(own.order_by(_PARAMS.c.param_id))
            for key, name, value, text in found:
                trials[key].params[name] = distribution(text).to_external_repr(value)
        return list(trials.values())


def rows_of(storage: BaseStorage, study: str) -> TrialRows | None:
    """A writer of the trials of a study; None if its storage is left to Optuna."""
    if not isinstance(storage, RDBStorage) or storage.engine.dialect.name != "sqlite":
        return None
    if not has_columns(storage.engine, _METADATA):
        return None
    return TrialRows(storage.engine, storage.get_study_id_from_name(study))


def _rows(trial: FrozenTrial) -> list[tuple[sa.Table, dict[str, Any]]]:
    """The rows of a trial, but for the one of its own."""
    rows: list[tuple[sa.Table, dict[str, Any]]] = []
    if trial.values is not None:
        value, kind = _stored_value(trial.values[0])
        rows.append((_VALUES, {"objective": 0, "value": value, "value_type": kind}))
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        stored = {
            "param_name": name,
            "param_value": distribution.to_internal_repr(value),
            "distribution_json": distribution_to_json(distribution),
        }
        rows.append((_PARAMS, stored))
    for key, value in trial.user_attrs.items():
        rows.append((_ATTRIBUTES, {"key": key, "value_json": json.dumps(value)}))
    for step, value in trial.intermediate_values.items():
        number, kind = _stored_value(value)
        stored = {"step": step, "intermediate_value": number, "intermediate_value_type": kind}
        rows.append((_INTERMEDIATE, stored))
    return rows


def _stored_value(value: float) -> tuple[float | None, str]:
    """A value as Optuna stores it, and the name of its kind."""
    if math.isfinite(value):
        return value, "FINITE"
    return None, "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"


def _stored_time(time: datetime | None) -> datetime | None:
    """A local time as Optuna stores it: in UTC, without saying so."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)
