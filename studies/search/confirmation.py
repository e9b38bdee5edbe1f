"""Confirmation: the winners of a finished search, rerun on seeds that no search has seen.

A search chooses the best of many points and so overestimates it. A round of confirmation reruns
each arm's winner on fresh seeds, in one comparison for each scientific setting of the problem
(`model.width`, say), and only its test metric supports a claim. Every round has seeds of its own:
adding seeds to a round until its verdict pleases would confirm nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from dynloss_core import keys
from dynloss_core.config import ADDED_LATER, ConfigError
from dynloss_core.training import steps_per_epoch
from search_spaces import Point
from studies.blocks.block import Block, Trial
from studies.definition.early_stopping import is_stopped
from studies.definition.phases import Phase
from studies.definition.study import Study

__all__ = [
    "Confirmation",
    "Winner",
    "best_of",
    "plan_confirmation",
    "point_of_row",
    "with_matched",
]

_TIE_DECIMALS = 12  # equal means may differ in the last digits, by the order of their terms


@dataclass(frozen=True)
class Winner:
    """The best point of an arm, chosen on validation.

    Args:
        arm: the name of the arm.
        trial: number of its trial.
        point: its parameters.
        objective: mean over the search's seeds; biased upwards, as it was chosen for being best.
            None of a point that no search of the arm chose.
    """

    arm: str
    trial: int
    point: Point
    objective: float | None


@dataclass(frozen=True)
class Confirmation:
    """One round of confirmation.

    Args:
        round: its number, from 1.
        seeds: fresh seeds.
        winners: points to rerun, one per arm and scientific setting.
        reason: why it has that many seeds.
        trials: number of trials per arm that the winners were chosen from; None unless the study
            was extended.
        search: number of the search that chose them, from 1.
    """

    round: int
    seeds: tuple[int, ...]
    winners: tuple[Winner, ...]
    reason: str = ""
    trials: int | None = None
    search: int = field(default=1, metadata=ADDED_LATER)

    @property
    def phase(self) -> str:
        """The round's name in tables, blocks and MLflow."""
        return str(Phase(keys.CONFIRM, self.round, self.search))

    def blocks(self) -> list[Block]:
        """One block per winner."""
        blocks: list[Block] = []
        for winner in self.winners:
            index = sum(block.arm == winner.arm for block in blocks)
            trials = (Trial(winner.trial, winner.point),)
            blocks.append(Block(self.phase, winner.arm, index, trials, self.seeds))
        return blocks


def plan_confirmation(
    study: Study,
    search: pd.DataFrame,
    number: int,
    used: int,
    seeds: int | None = None,
    of_search: int = 1,
) -> Confirmation:
    """Plan a round for the winners of a search.

    Args:
        study: the definition, of this search alone (see `Study.search`).
        search: rows of the members table of the search, or of the finals if it had any.
        number: the number of the round.
        used: number of fresh seeds that earlier rounds used.
        seeds: number of seeds; by default as many as give every comparison a power of 90% if the
            effect is that of the search, cross-fitted, and the spread the upper bound that the
            search leaves it (`spread_at_most`), but at least 20 and at most 100.
        of_search: the number of the search.

    Raises:
        ConfigError: if an arm has no winner, or the fresh seeds are used up.
    """
    settings = list(study.scientific)
    winners, without = _winners(study, search, settings)
    if not winners:
        raise ConfigError(
            "", "at every setting, some arm has no trial that did not diverge", "widen the search"
        )
    reason = "as asked"
    if seeds is None:
        # imports SciPy's statistics, half a second, which most studies need when they are trained
        from studies.search.seeds_needed import seeds_needed

        seeds, reason = seeds_needed(study, search, settings)
    if without:
        reason += (
            f"; left out because some arm has no trial that did not diverge: {', '.join(without)}"
        )
    first = study.seeds.first_fresh + used
    if used + seeds > study.seeds.fresh_seed_capacity:
        raise ConfigError("--seeds", f"{seeds} more seeds are not left", "use fewer")
    fresh = tuple(range(first, first + seeds))
    return Confirmation(number, fresh, with_matched(study, winners), reason, search=of_search)


def with_matched(study: Study, winners: Sequence[Winner]) -> tuple[Winner, ...]:
    """Winners, and after them the reference at the settings of each (see `Study.matched_arms`)."""
    matched = []
    for name, pair in study.matched_arms.items():
        space = study.arm_space(pair.reference)
        for winner in winners:
            if winner.arm == pair.arm:
                shared = {key: winner.point[key] for key in space.searched()}
                point = {**space.constants(), **shared}
                matched.append(Winner(name, winner.trial, point, None))
    return (*winners, *matched)


def _winners(
    study: Study, search: pd.DataFrame, settings: Sequence[str]
) -> tuple[list[Winner], list[str]]:
    """The winners at each setting where every arm has one, arms side by side, and the settings
    where some arm has none. A winner is the best trial that neither diverged nor was stopped, the
    earliest of equals."""
    winners, without = [], []
    for value, group in search.groupby(list(settings)) if settings else [("the search", search)]:
        at_setting = [best_of(study, arm, group[group[keys.ARM] == arm]) for arm in study.arms]
        if all(at_setting):
            winners += [winner for winner in at_setting if winner is not None]
        else:
            without.append(str(value))
    return winners, without


def best_of(study: Study, arm: str, rows: pd.DataFrame) -> Winner | None:
    """The best trial of an arm that neither diverged nor was stopped, the earliest of equals; None
    without one.

    Args:
        study: the definition.
        arm: which arm.
        rows: of the members table, of this arm and one setting.
    """
    diverged = rows.groupby(keys.TRIAL)[keys.DIVERGED].transform("any")
    candidates = rows[~diverged.astype(bool) & ~is_stopped(rows)]
    if candidates.empty:
        return None
    means = candidates.groupby(keys.TRIAL)[study.objective].mean()
    order = means.round(_TIE_DECIMALS) * (-1 if keys.higher_is_better(study.objective) else 1)
    best = int(order.sort_values(kind="stable").index.to_numpy()[0])
    row = candidates[candidates[keys.TRIAL] == best].iloc[0]
    return Winner(arm, best, point_of_row(study, arm, row), float(means[best]))


def point_of_row(study: Study, arm: str, row: pd.Series) -> Point:
    """A row's parameters as a point of the arm's space, with the period in the space's unit."""
    point: dict[str, Any] = dict(study.arm_space(arm).constants())
    for name, parameter in study.arm_space(arm).parameters.items():
        if name in point:
            continue
        value = row[name].item() if hasattr(row[name], "item") else row[name]
        value = None if pd.isna(value) else value
        matching = [known for known in parameter.grid(1) if known == value]
        point[name] = matching[0] if matching else value
    period = study.arm_space(arm).parameters.get(keys.PERIOD)
    if period is not None and period.unit == "epochs":  # tables hold steps
        point[keys.PERIOD] = int(row[keys.PERIOD]) / steps_per_epoch(study.problem(arm, point))
    return point
