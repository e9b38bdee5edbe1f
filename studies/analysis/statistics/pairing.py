"""Which networks are compared: pairs with the same seed, and each arm at its own best setting.

Symbols: K settings (trials) of a group, n seeds; the objective as a matrix (K, n).

Two pitfalls are avoided here. A diverged network classifies nothing, so its accuracy counts as 0,
and it has no loss. And the best of many settings looks better than it is on the seeds that chose it
(the winner's curse; Cawley and Talbot 2010, J. Mach. Learn. Res. 11:2079), the more so the more
settings an arm has, so a setting is evaluated on seeds that took no part in choosing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from dynloss_core import keys
from studies.definition.phases import Phase

__all__ = ["at_own_best", "counted", "paired_by_seed", "search_number"]

_TIE = 1e-12  # relative: means of the same accuracies, added in a different order, are equal


def paired_by_seed(members: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per seed that both arms were trained with, one column per arm.

    A diverged network's accuracy counts as 0. It has no loss, so for a loss its seed is left out;
    the survivors are not a fair sample (see `judge`).
    """
    values = members.assign(**{metric: counted(members, metric)})
    return values.pivot(index=keys.SEED, columns=keys.ARM, values=metric).dropna()


def at_own_best(
    members: pd.DataFrame,
    objective: str,
    by: Sequence[str] = (keys.ARM,),
    *,
    choosing: Literal["others", "half"] = "others",
) -> pd.DataFrame:
    """Each group's networks at its best setting, chosen on seeds other than those it is evaluated
    on.

    A setting cannot be chosen if it diverged on one of the choosing seeds, or if it lacks one of
    the group's seeds. If settings are tied the first is chosen.

    Args:
        members: rows of the members table, of one phase.
        objective: metric whose mean over the choosing seeds is best at the chosen setting.
        by: columns that define a group: the arm and, for instance, `model.width`.
        choosing: `others`: for each seed, all the others choose (leave-one-out). Every seed is
            evaluated, and the mean over them is unbiased, but they are not independent, because
            each helped to choose for the rest. If settings are nearly tied, a t test of these
            values at 5% rejected a true null in 12% to 39% of simulations: quote their mean, do not
            test it. `half`: every second seed chooses, starting with the first, and the rest are
            evaluated. Given the choice they are independent, and a paired test of two arms is
            exact.

    Returns:
        The rows of `members` at the chosen settings, one per group and evaluated seed, in that
        order; accuracies of diverged networks are 0. A seed for which no setting could be chosen
        has no row.

    Raises:
        ValueError: if a group has fewer than two seeds, or one setting twice for a seed.
    """
    group = members.groupby(list(by), dropna=False).ngroup().to_numpy()
    trial, trials = pd.factorize(members[keys.TRIAL], sort=True)
    seed, seeds = pd.factorize(members[keys.SEED], sort=True)
    settings, setting = np.unique(group * len(trials) + trial, return_inverse=True)
    row = np.full((len(settings), len(seeds)), -1)  # (K of all groups, n) into members
    row[setting, seed] = np.arange(len(members))
    if np.count_nonzero(row >= 0) < len(members):
        raise ValueError(
            f"a trial of a group has two networks of one seed: add what tells them apart to "
            f"by={list(by)}, or pass the rows of one study and phase"
        )
    sign = 1.0 if keys.higher_is_better(objective) else -1.0
    score = np.append(sign * members[objective].to_numpy(dtype=float), np.nan)
    diverged = np.append(members[keys.DIVERGED].to_numpy(dtype=bool), False)
    score[diverged] = np.nan
    first = np.searchsorted(settings // len(trials), np.arange(group.max(initial=-1) + 2))
    picked: list[np.ndarray] = []
    for start, stop in pairwise(first):
        rows = row[start:stop]
        rows = rows[:, (rows >= 0).any(axis=0)]
        if rows.shape[1] < 2:
            labels = members.iloc[rows.max()][list(by)].to_dict()
            raise ValueError(f"{labels} has one seed: choosing and reading take at least two")
        picked.append(_held_out(rows, score[rows], diverged[rows], choosing))
    chosen = members.iloc[np.concatenate(picked or [np.empty(0, dtype=int)])]
    accuracies = {
        name: counted(chosen, name)
        for name in (*keys.EVALUATION_METRICS, *keys.TEST_METRICS)
        if name in chosen.columns and keys.higher_is_better(name)
    }
    return chosen.assign(**accuracies).reset_index(drop=True)


def _held_out(
    rows: np.ndarray, score: np.ndarray, diverged: np.ndarray, choosing: Literal["others", "half"]
) -> np.ndarray:
    """The rows at which a group's seeds are evaluated; all matrices are (K, n)."""
    n = rows.shape[1]
    if choosing == "others":
        read = np.arange(n)  # (m,) seeds
        chooses = ~np.eye(n, dtype=bool)  # (n, m) whether a seed chooses for the j-th one read
    else:
        read = np.arange(1, n, 2)
        chooses = np.repeat((np.arange(n) % 2 == 0)[:, np.newaxis], len(read), axis=1)
    known = np.isfinite(score)
    mean = np.where(known, score, 0.0) @ (chooses / chooses.sum(axis=0))  # (K, m)
    complete = (known | diverged).all(axis=1, keepdims=True)
    mean[~complete | (diverged @ chooses)] = -np.inf
    best = mean.max(axis=0)
    has_best = np.isfinite(best)
    mean, best, read = mean[:, has_best], best[has_best], read[has_best]
    chosen = (mean >= best - _TIE * np.abs(best)).argmax(axis=0)
    best_rows: np.ndarray = rows[chosen, read]
    return best_rows


def counted(members: pd.DataFrame, metric: str) -> pd.Series:
    """The metric, with diverged networks counted as described above, and so are those that have no
    number: a network can learn, and have a loss on other data that is infinite."""
    nothing = 0.0 if keys.higher_is_better(metric) else np.nan
    values = members[metric]
    lost = members[keys.DIVERGED].astype(bool) | ~np.isfinite(values.astype(float))
    return values.mask(lost, nothing)


def search_number(members: pd.DataFrame) -> pd.Series:
    """The number of the search that each network belongs to, or whose winner it trains again."""
    return members[keys.PHASE].map(lambda name: Phase.parse(str(name)).search)
