"""Optuna's part in the search of an arm: it proposes points, and its storage keeps the trials.

Proposals are made in memory, so that no sampler rereads the storage for every one of them. A trial
enters the storage when its block is told, complete and in its final state. So no trial is left
RUNNING there, and one that was in flight when a driver was killed is proposed again, the same.

Importing this module imports Optuna. Only a sampler that proposes needs it: a design is searched
without, and then leaves no `optuna.db`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from dynloss_core import keys
from dynloss_core.config import ConfigError
from search_spaces import Point, Space
from studies.definition.samplers import Sampler
from studies.definition.study import Study
from studies.search.trial_outcome import EndedTrial
from studies.search.trial_rows import KeptTrial, rows_of

__all__ = ["KeptTrials", "Proposals"]

_PROPOSALS = "proposals"
_STATES = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Proposals:
    """Points proposed one after another, from the results so far.

    Args:
        space: the space of the arm.
        sampler: one that proposes.
        objective: the metric that results are compared by.
    """

    def __init__(self, space: Space, sampler: Sampler, objective: keys.Objective) -> None:
        self._space = space
        assert sampler.proposes is not None, "it lays out a design"
        self._proposes = sampler.proposes
        self._memory = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(
            storage=self._memory, study_name=_PROPOSALS, direction=_direction(objective)
        )

    def propose(self, number: int, seed: int, start: Point | None = None) -> Point:
        """The point of a trial.

        Args:
            number: the number of the trial; they come in order.
            seed: the trial's own, from which its sampler is made.
            start: the point to take instead of a proposal; None to propose.
        """
        if start is not None:
            searched = {n: v for n, v in start.items() if n in self._space.searched()}
            self._study.enqueue_trial(searched)
        self._study.sampler = self._proposes(seed)
        trial = self._study.ask()
        if trial.number != number:
            raise RuntimeError(f"Optuna gave trial {trial.number} for {number}")
        return self._space.suggest(trial)

    def take(self, point: Point) -> Point:
        """A point that is not proposed, as the next trial in training."""
        params, distributions = _named(self._space, point)
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING, params=params, distributions=distributions
            )
        )
        return self._space.suggest(optuna.trial.FixedTrial(params))  # type: ignore[arg-type]

    def end(self, ended: EndedTrial) -> None:
        """Tell how a trial ended."""
        study = self._memory.get_study_id_from_name(_PROPOSALS)
        trial = self._memory.get_trial_id_from_study_id_trial_number(study, ended.number)
        for step, value in ended.at_rungs.items():
            self._memory.set_trial_intermediate_value(trial, step, value)
        self._study.tell(ended.number, ended.value, _STATES[ended.state])


class KeptTrials:
    """The trials of an arm in Optuna's storage.

    Args:
        study: the definition.
        arm: the name of the arm; its study there is called `<name>/<arm>`, and that of a second
            search `<name>/<arm>.2`.
        number: the number of the search, from 1.
        storage: the storage.

    Raises:
        ConfigError: if the storage holds trials that never ended.
    """

    def __init__(
        self, study: Study, arm: str, number: int, storage: optuna.storages.BaseStorage
    ) -> None:
        self._space = study.arm_space(arm)
        self.study = optuna.create_study(
            study_name=f"{study.name}/{arm}" + (f".{number}" if number > 1 else ""),
            storage=storage,
            direction=_direction(study.objective),
            load_if_exists=True,
        )
        self._rows = rows_of(storage, self.study.study_name)
        self._ended: list[FrozenTrial] = []  # since the last `write`
        self._kept = self._read()
        if not all(trial.is_finished for trial in self._kept):
            problem = f"Optuna's storage holds trials of {study.name} that never ended"
            raise ConfigError("", problem, "it was begun by an older version: choose another --out")
        if self.study.metric_names is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                self.study.set_metric_names([study.objective])
        if not self._kept:
            for key, value in {
                "dynloss_study": study.hash,
                "space_hash": self._space.hash,
                "optuna_version": optuna.__version__,
                "sampler": study.sampler,
            }.items():
                self.study.set_user_attr(key, value)

    def _read(self) -> list[KeptTrial]:
        if self._rows is not None:
            return self._rows.kept()
        trials = self.study.get_trials(deepcopy=False)
        return [KeptTrial(trial.state.is_finished(), trial.params) for trial in trials]

    def point(self, number: int) -> Point | None:
        """What an earlier session searched at a trial; None if it did not get as far."""
        return dict(self._kept[number].params) if number < len(self._kept) else None

    def lacks(self, number: int) -> bool:
        """Whether a trial is not kept yet."""
        return number >= len(self._kept)

    def add(self, ended: EndedTrial) -> None:
        """Keep a trial that has ended, unless an earlier session did; it is there after `write`."""
        if not self.lacks(ended.number):
            return
        params, distributions = _named(self._space, ended.point)
        self._ended.append(_frozen(ended, params, distributions))

    def write(self) -> None:
        """Write the trials that were added into the storage."""
        ended, self._ended = self._ended, []
        if self._rows is not None:
            self._rows.add(ended)
        else:
            self.study.add_trials(ended)


def _frozen(
    ended: EndedTrial, params: Mapping[str, Any], distributions: Mapping[str, Any]
) -> FrozenTrial:
    value = ended.value
    if ended.state == "stopped" and ended.at_rungs:
        value = list(ended.at_rungs.values())[-1]  # Optuna's convention for pruned trials
    trial = optuna.trial.create_trial(
        state=_STATES[ended.state],
        value=value,
        params=dict(params),
        distributions=dict(distributions),
        user_attrs=ended.attributes,
        intermediate_values=dict(ended.at_rungs or ended.curve),
    )
    trial.datetime_start = ended.asked_at
    return trial


def _named(space: Space, point: Point) -> tuple[dict[str, Any], dict[str, Any]]:
    """The searched values of a point, and their distributions."""
    fixed = optuna.trial.FixedTrial(point)
    space.suggest(fixed)  # type: ignore[arg-type]  # names the distributions
    return fixed.params, fixed.distributions


def _direction(objective: keys.Objective) -> Literal["maximize", "minimize"]:
    return "maximize" if keys.higher_is_better(objective) else "minimize"
