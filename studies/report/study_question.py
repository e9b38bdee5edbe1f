"""What the analysis of a study must know in addition to its tables."""

from __future__ import annotations

import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ConfigError
from dynloss_core.data import attainable_accuracy
from dynloss_core.training import steps_per_epoch
from studies.analysis.looks import Look
from studies.analysis.question import Question
from studies.definition.samplers import SAMPLERS
from studies.definition.study import Study

__all__ = ["question_of"]


def question_of(study: Study, members: pd.DataFrame, looks: tuple[Look, ...] = ()) -> Question:
    """What the analysis must know about a study in addition to its tables.

    Args:
        study: the definition.
        members: the members table.
        looks: those before something was added to the study (see `studies.storage.recorded_looks`).
    """
    spaces = {str(arm): study.arm_space(arm) for arm in study.arms}
    return Question(
        objective=study.objective,
        spaces=spaces,
        pairs=study.pairs,
        ladder=study.ladder,
        scientific=study.scientific,
        adaptive=SAMPLERS[study.sampler].adaptive,
        margin=study.equivalence_margin,
        attainable=_attainable(study, members),
        tail=study.budget.static_tail / study.budget.total,
        epochs=_epochs(study),
        chance=_chance(study),
        fails_below=study.fails_below,
        nesterov=tuple(arm for arm in spaces if study.problem(arm).nesterov),
        watched=study.record is not None and study.record.instabilities,
        refining={arm: study.trials_of(arm).refining for arm in spaces},
        one_split=_one_split(study),
        matched=tuple(study.matched_arms) if study.confirms() else (),
        looks=looks,
    )


def _attainable(study: Study, members: pd.DataFrame) -> float:
    """The best training accuracy that the data of every seed allow."""
    if members.empty:
        return 1.0
    try:
        seeds = members[keys.SEED].unique()
        loaded = {
            study.data.load(int(seed)) for seed in seeds
        }  # one object if the seed is not part of it
        return min(attainable_accuracy(splits.train) for splits in loaded)
    except (ConfigError, OSError):  # analysed on a machine without the data
        return 1.0


def _chance(study: Study) -> float:
    """Accuracy of guessing among equally frequent classes; 0 on a machine without the data."""
    try:
        return 1 / study.data.load(0).num_classes
    except (ConfigError, OSError):
        return 0.0


def _epochs(study: Study) -> float | None:
    """Length of the run in epochs, if the space gives the period in epochs."""
    period = study.space.parameters.get(keys.PERIOD)
    if period is None or period.unit != "epochs":
        return None
    problem = study.problem(next(iter(study.arms)))
    return problem.steps / steps_per_epoch(problem)


def _one_split(study: Study) -> bool:
    """Whether the data do not depend on the seed."""
    try:
        return study.data.load(0) is study.data.load(1)
    except (ConfigError, OSError):
        return False
