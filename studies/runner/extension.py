"""More trials, or more searches, for a finished study, in the same tables and MLflow run.

New proposals rest on every earlier result, so the search of an extended study is the one that its
file gives when it has these `extensions` from the start. Winners that changed are confirmed on
fresh seeds that no round has seen; the earlier confirmation stays in the tables as it was.
Whoever adds has seen a verdict: what follows is a further look.
"""

from __future__ import annotations

from dataclasses import replace

from dynloss_core.config import ConfigError
from studies.search.plan import Plan
from studies.storage.recorded_looks import looked_at
from studies.storage.stored_plan import plan_of
from studies.storage.stored_study import StoredStudy

__all__ = ["extended", "searched_again"]


def extended(stored: StoredStudy, trials: int) -> StoredStudy:
    """Add trials to a finished study, before anything starts.

    Args:
        stored: the study.
        trials: number of trials to add to each arm.

    Raises:
        ConfigError: if the study is not finished, or its mode or sampler has no room for more.
    """
    study = stored.study
    longer = study.extended(trials)
    plan = _finished_plan(stored, "--extend")
    stored = looked_at(stored)
    if study.has_own_round():
        for own in plan.own_rounds():
            own = replace(own, reason="the study's own", trials=study.trials_per_arm)
            stored = stored.with_round(own)
    return stored.with_definition(longer)


def searched_again(stored: StoredStudy, searches: int) -> StoredStudy:
    """Add searches to a finished study, before anything starts.

    Args:
        stored: the study.
        searches: number of searches to add.

    Raises:
        ConfigError: if the study is not finished, or searches nothing.
    """
    longer = stored.study.searched_again(searches)
    _finished_plan(stored, "--extend-searches")
    return looked_at(stored).with_definition(longer)


def _finished_plan(stored: StoredStudy, option: str) -> Plan:
    """The plan of a study that must be finished."""
    plan = plan_of(stored)
    if not plan.is_complete():
        remedy = "finish it first, with --resume"
        raise ConfigError(option, "the study is not finished", remedy, str(stored.folder.path))
    return plan
