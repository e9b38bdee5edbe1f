"""More trials for a study that is finished, in the same Optuna study, tables and MLflow run.

What is proposed next knows every earlier result, so the search of an extended study is the one that
its file, with `extensions`, gives from the start. Winners that changed are confirmed on fresh seeds
that no round has seen; the earlier confirmation stays in the tables, as what it was.
"""

from __future__ import annotations

from dataclasses import replace

from dynloss_core import keys
from dynloss_core.config import ConfigError
from studies.definition.study import Study
from studies.messages import say
from studies.search.confirmation import Confirmation, plan_confirmation
from studies.storage.stored_plan import plan_of
from studies.storage.study_folder import StudyFolder

__all__ = ["due_confirmation", "extend"]


def extend(study: Study, folder: StudyFolder, trials: int) -> Study:
    """Extend a finished study on disk, before anything starts; the definition to go on with.

    Args:
        study: as its folder has it.
        folder: the folder of the study.
        trials: to add to each arm.

    Raises:
        ConfigError: if the study is not finished, or its design leaves no room for more.
    """
    extended = study.extended(trials)
    plan = plan_of(study, folder)
    if plan.next_block() is not None or not plan.finished:
        remedy = "finish it first, with --resume"
        raise ConfigError("--extend", "the study is not finished", remedy, str(folder.path))
    if study.has_own_round():
        winners, seeds = tuple(plan.winners().values()), tuple(study.fresh_seeds())
        own = Confirmation(1, seeds, winners, "the study's own", study.trials_per_arm)
        folder.add_confirmation(own)
    folder.write_definition(extended)
    return extended


def due_confirmation(study: Study, folder: StudyFolder) -> Confirmation | None:
    """The round that an extended study still wants: once its search is done, and if its winners are
    not those of the last round. One that cannot be planned, as where an arm has no winner, is said
    and not wanted."""
    if not (study.extensions and study.confirms()):
        return None
    members, rounds = folder.parts.gather("members"), folder.confirmations()
    if members.empty:  # every block failed
        return None
    search = members[members[keys.PHASE] == keys.SEARCH]
    proposed = study.trials(study.arms[0])
    last = max((each.trials or 0 for each in rounds), default=0)
    if last == proposed:
        return None
    number = max((each.round for each in rounds), default=0) + 1
    used = sum(len(each.seeds) for each in rounds)
    try:
        planned = plan_confirmation(study, search, number, used, study.confirm_seeds)
    except ConfigError as error:
        say(f"the extended search is not confirmed: {error}")
        return None
    chosen = {(each.arm, each.trial) for each in planned.winners}
    if any(chosen == {(each.arm, each.trial) for each in known.winners} for known in rounds):
        return None
    return replace(planned, reason="the search was extended", trials=proposed)
