"""A study's plan, made from what its folder holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from dynloss_core.config import ConfigError, reason_of
from studies.blocks.tables import mean_curves
from studies.definition.optional_packages import is_installed, require
from studies.definition.samplers import SAMPLERS
from studies.search.plan import Plan, RecordedRows
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

__all__ = ["optuna_of", "plan_of"]

_DAMAGED_VALUES = (AssertionError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def optuna_of(folder: StudyFolder) -> Iterator[None]:
    """A context in which errors of a study's Optuna storage become refusals.

    Raises:
        ConfigError: if the storage is damaged or cannot be written.
    """
    try:
        yield
    except _damages() as error:
        remedy = f"delete it, then `{folder.resume_command}` makes it again from the tables"
        problem = f"cannot be used: {reason_of(error)[:120]}"
        raise ConfigError("", problem, remedy, str(folder.optuna)) from None


def plan_of(stored: StoredStudy, recorded: RecordedRows | None = None) -> Plan:
    """The plan of the study in a folder.

    Args:
        stored: the study.
        recorded: function that gives a finished block's members table; by default, the folder's.

    Raises:
        ConfigError: if Optuna's storage is damaged or cannot be written, or a round is lost.
    """
    stored.refuse_lost_rounds()
    folder, study = stored.folder, stored.study
    if SAMPLERS[study.sampler].adaptive:
        require("optuna", "sampler", str(study.sampler), "use mode: map, or sampler: random")
    with optuna_of(folder):
        try:
            storage = _storage(folder)
            return Plan(
                study,
                storage,
                recorded or folder.parts.recorded,
                stored.rounds,
                lambda block: mean_curves(folder.parts.table(block, "curves")),
            )
        except ConfigError:
            raise
        except _DAMAGED_VALUES as error:
            raise sqlite3.DatabaseError(reason_of(error)) from None


def _storage(folder: StudyFolder) -> BaseStorage | None:
    """Optuna's storage of a study; None without Optuna. A later session that has it fills it."""
    if not is_installed("optuna"):
        return None
    import optuna

    return optuna.storages.RDBStorage(folder.optuna_url)


def _damages() -> tuple[type[Exception], ...]:
    """What a damaged storage raises."""
    if not is_installed("optuna"):
        return (SQLAlchemyError, sqlite3.Error)
    from optuna.exceptions import OptunaError

    return (OptunaError, SQLAlchemyError, sqlite3.Error)
