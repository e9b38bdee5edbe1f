"""A study's plan, made from what its folder holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from dynloss_core.config import ConfigError, reason_of
from studies.search.plan import Plan, Recorded
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder

__all__ = ["optuna_of", "plan_of"]

_DAMAGES = (OptunaError, SQLAlchemyError, sqlite3.Error)
_DAMAGED_VALUES = (AssertionError, LookupError, RuntimeError, TypeError, ValueError)


@contextmanager
def optuna_of(folder: StudyFolder) -> Iterator[None]:
    """A context in which errors of a study's Optuna storage become refusals.

    Raises:
        ConfigError: if the storage is damaged or cannot be written.
    """
    try:
        yield
    except _DAMAGES as error:
        remedy = f"delete it, then `{folder.resume_command}` makes it again from the tables"
        problem = f"cannot be used: {reason_of(error)[:120]}"
        raise ConfigError("", problem, remedy, str(folder.optuna)) from None


def plan_of(stored: StoredStudy, recorded: Recorded | None = None) -> Plan:
    """The plan of the study in a folder.

    Args:
        stored: the study.
        recorded: function that gives a finished block's members table; by default, the folder's.

    Raises:
        ConfigError: if Optuna's storage is damaged or cannot be written, or a round is lost.
    """
    stored.refuse_lost_rounds()
    folder = stored.folder
    with optuna_of(folder):
        try:
            storage = optuna.storages.RDBStorage(folder.optuna_url)
            return Plan(stored.study, storage, recorded or folder.parts.recorded, stored.rounds)
        except ConfigError:
            raise
        except _DAMAGED_VALUES as error:
            raise OptunaError(reason_of(error)) from None
