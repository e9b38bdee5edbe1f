"""Points that finished studies found, to start the search of another from: `points_from`.

Each arm starts from what the arm of its name won with in every search of those studies. A period
is kept in steps there; so a study whose space gives it in epochs is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ConfigError, reason_of, show
from dynloss_core.own_command import own_command
from search_spaces.documents import read_document
from studies.definition.latest_confirmation import confirmed_last
from studies.definition.study_seeds import SEEDS_PER_STUDY

if TYPE_CHECKING:
    from studies.definition.study import Study

__all__ = ["points_of", "refuse_unfit"]

_MEMBERS = Path("tables", "members.parquet")


def points_of(
    given: Any, folder: Path, arms: Sequence[str]
) -> tuple[dict[str, list[dict[str, Any]]], list[int]]:
    """The winners of finished studies, by arm, and all seeds that those have seen.

    Args:
        given: folders of studies, as `points_from` lists them.
        folder: the folder that they start from.
        arms: the arms that want points.

    Raises:
        ConfigError: if one holds no finished study.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ConfigError(
            "points_from", f"{show(given)} is no list", "write [./results/quickstart]"
        )
    winners: dict[str, list[dict[str, Any]]] = {}
    seen: set[int] = set()
    for index, entry in enumerate(given):
        key = f"points_from[{index}]"
        path = folder / str(entry)
        try:
            members = pd.read_parquet(path / _MEMBERS)
            space = read_document(path / "study.yaml")["space"]
        except (OSError, ValueError, KeyError, ConfigError) as error:
            problem = f"{show(str(entry))} holds no study that has ended: {reason_of(error)}"
            writes = own_command("analyse")
            remedy = f"give the folder of one, from this file on; `{writes}` writes its tables"
            raise ConfigError(key, problem[:300], remedy) from None
        seen |= set(members[keys.SEED].astype(int))
        for arm, points in _winners(members, list(space["parameters"])).items():
            if arm not in arms:
                continue
            kept = winners.setdefault(arm, [])
            kept += [point for point in points if point not in kept]
        if not winners:
            problem = f"{show(str(entry))} has no winner of {' or '.join(arms)}"
            raise ConfigError(key, problem, "confirm them first, or leave it out")
    return winners, sorted(seen)


def _winners(members: pd.DataFrame, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What was confirmed last in each search, by arm: values of the parameters searched there."""
    winners: dict[str, list[dict[str, Any]]] = {}
    columns = [name for name in names if name in members]
    for (_, arm), rows in confirmed_last(members).items():
        for _, first in rows.drop_duplicates(columns).iterrows():
            winners.setdefault(arm, []).append(
                {name: _plain(first[name]) for name in columns if not _is_missing(first[name])}
            )
    return winners


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _plain(value: Any) -> Any:
    """A value of a table as YAML has it."""
    return value.item() if isinstance(value, np.generic) else value


def refuse_unfit(study: Study, seen: Sequence[int]) -> None:
    """Refuse a study that cannot start from the winners of others: with a period in epochs, or on
    seeds that those have seen, on which nothing would be a test any more."""
    period = study.space.parameters.get(keys.PERIOD)
    if seen and period is not None and period.unit == "epochs":
        problem = "the space gives the period in epochs, and past points have it in steps"
        raise ConfigError("points_from", problem, "leave it out, or search the period in steps")
    if set(seen) & set(study.seeds.of_searches):
        free = max(seen) // SEEDS_PER_STUDY + 1
        problem = "its seeds were seen by a study that it starts from (points_from)"
        raise ConfigError("seed", problem, f"write seed: {free}")
