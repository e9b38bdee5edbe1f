"""The winner of a recorded study as one network, to be trained again.

The point, the problem and the fresh seeds are those of the study's last round of confirmation: what
is trained again is what its verdict is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ConfigError, show
from dynloss_core.training import Member, Problem
from search_spaces import Point
from search_spaces.documents import parse_document
from studies.analysis.settings import by_setting
from studies.blocks.tables import member_hashes
from studies.definition.arms import reference_of
from studies.definition.latest_confirmation import confirmed_last
from studies.definition.study import Study
from studies.messages import brief, repeat_command
from studies.search.confirmation import point_of_row
from studies.storage.stored_study import StoredStudy

__all__ = ["METRICS", "RecordedWinner", "recorded_winner"]

METRICS = (
    keys.TRAIN_LOSS,
    keys.TRAIN_ACCURACY,
    keys.VALIDATION_LOSS,
    keys.VALIDATION_ACCURACY,
    keys.TEST_LOSS,
    keys.TEST_ACCURACY,
)
"""What a run that is compared with its record is compared by."""


@dataclass(frozen=True, eq=False)
class RecordedWinner:
    """The winner of one arm, on one seed.

    Args:
        study: the definition, of the whole study.
        arm: the name of the arm.
        search: number of the search that chose the point, from 1.
        point: its parameters, a period in steps.
        problem: what it was trained on and how.
        member: the point on that seed.
        members: the members table of the study.
    """

    study: Study
    arm: str
    search: int
    point: Point
    problem: Problem
    member: Member
    members: pd.DataFrame

    def __str__(self) -> str:
        """`quickstart, arm dynamical, search 1, seed 50000: period 851, learning_rate 1.2`."""
        values = ", ".join(f"{name} {brief(value)}" for name, value in self.point.items())
        of_search = f", search {self.search}" if self.study.searches > 1 else ""
        return f"{self.study.name}, arm {self.arm}{of_search}, seed {self.member.seed}: {values}"

    def recorded(self, problem: Problem, member: Member) -> dict[str, float]:
        """What the study recorded of a network at the end of its training, by metric.

        Args:
            problem: its problem.
            member: its point and seed.

        Returns:
            Losses and accuracies in [0, 1]. Those that were not measured are left out: all of a
            network that was not trained, or diverged; on the test set, all but of fresh seeds.
        """
        (digest,) = member_hashes(problem, [member])
        rows = self.members[self.members[keys.CONFIG_HASH] == digest]
        measured = {name: rows[name].dropna() for name in METRICS}
        return {name: float(values.iloc[0]) for name, values in measured.items() if len(values)}


def recorded_winner(
    stored: StoredStudy,
    *,
    arm: str | None = None,
    search: int = 1,
    seed: int | None = None,
    settings: Sequence[str] = (),
) -> RecordedWinner:
    """The winner of an arm of a recorded study.

    Args:
        stored: the study.
        arm: one of its arms, or a matched one; by default the first that is not the reference.
        search: the number of the search, from 1.
        seed: the seed to train with; by default the first fresh seed of the winner.
        settings: `model.width=50`, for a study that has a winner at each of several settings.

    Raises:
        ConfigError: for an arm, a search or a setting that it does not have, and for a winner that
            is not confirmed yet.
    """
    study, arm = stored.study, _known_arm(stored.study, arm)
    if not 1 <= search <= study.searches:
        problem = f"{search} is not a search of {study.name}"
        remedy = "leave it out" if study.searches == 1 else f"use 1 to {study.searches}"
        raise ConfigError("--search", problem, remedy)
    members = stored.folder.parts.gather("members")
    confirmed = confirmed_last(members).get((search, arm))
    if confirmed is None:
        raise _without_winner(stored, arm, search)
    rows = _at_setting(study, confirmed, settings)
    of_search = study.search(search)
    point = point_of_row(of_search, arm, rows.iloc[0])
    trained = of_search.problem(arm, point)
    first = int(rows[keys.SEED].min())
    member = of_search.member(point, first if seed is None else seed, trained)
    if keys.PERIOD in point:  # which may be searched in epochs
        point = {**point, keys.PERIOD: member.period}
    return RecordedWinner(study, arm, search, point, trained, member, members)


def _known_arm(study: Study, arm: str | None) -> str:
    """The arm asked for, or the first that is not the reference."""
    if arm is None:
        reference = reference_of(study.arms, study.reference)
        return next((name for name in study.arms if name != reference), next(iter(study.arms)))
    if arm not in study.confirmed_arms:
        problem = f"{show(arm)} is not an arm of {study.name}"
        raise ConfigError("--arm", problem, f"use {', '.join(study.confirmed_arms)}")
    return arm


def _without_winner(stored: StoredStudy, arm: str, search: int) -> ConfigError:
    """The refusal of a study that has confirmed no winner of an arm."""
    study, folder = stored.study, stored.folder
    of_search = f" in search {search}" if study.searches > 1 else ""
    problem = f"arm {arm} has no confirmed winner{of_search} yet"
    command = folder.resume_command
    if not study.confirms():
        command = repeat_command(["confirm", study.name], folder.path.parent)
    return ConfigError("", problem, f"finish it with `{command}`", str(folder.path))


def _at_setting(study: Study, rows: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """The rows of the one setting that is asked for."""
    wanted = {}
    for given in settings:
        name, separator, value = given.partition("=")
        if not separator or name not in study.scientific:
            known = ", ".join(study.scientific)
            remedy = f"use {known}, as in {known.split(', ')[0]}=50" if known else "leave it out"
            raise ConfigError("--setting", f"{show(given)} is not a setting of the study", remedy)
        wanted[name] = parse_document(value, f"--setting {name}")
    at_each = by_setting(rows, study.scientific)
    matching = [
        part for setting, part in at_each if all(setting[key] == v for key, v in wanted.items())
    ]
    if len(matching) == 1:
        return matching[0]
    names = [name for name in study.scientific if name not in wanted] or list(study.scientific)
    values = "; ".join(
        f"{name}=" + " or ".join(dict.fromkeys(str(setting[name]) for setting, _ in at_each))
        for name in names
    )
    if not matching:
        problem = f"no winner at {', '.join(settings)}"
    else:
        problem = f"the study has a winner at each of {len(matching)} settings"
    raise ConfigError("--setting", problem, f"choose one: {values}")
