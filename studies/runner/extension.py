"""More trials for a finished study, in the same Optuna study, tables and MLflow run.

New proposals rest on every earlier result, so the search of an extended study is the one that its
file gives when it has these `extensions` from the start. Winners that changed are confirmed on
fresh seeds that no round has seen; the earlier confirmation stays in the tables as it was.
"""

from __future__ import annotations

from dynloss_core.config import ConfigError
from studies.search.confirmation import Confirmation
from studies.storage.stored_plan import plan_of
from studies.storage.stored_study import StoredStudy

__all__ = ["extended"]


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
    plan = plan_of(stored)
    if plan.next_block() is not None or not plan.finished:
        remedy = "finish it first, with --resume"
        path = str(stored.folder.path)
        raise ConfigError("--extend", "the study is not finished", remedy, path)
    if study.has_own_round():
        winners, seeds = tuple(plan.winners().values()), tuple(study.fresh_seeds())
        first_round = Confirmation(1, seeds, winners, "the study's own", study.trials_per_arm)
        stored = stored.with_round(first_round)
    return stored.redefined(longer)
