"""How many fresh seeds a confirmation needs, by the spread that its search has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from dynloss_core import keys
from studies.analysis.statistics.comparison import compare
from studies.analysis.statistics.equivalence import (
    seeds_for_equivalence,
    seeds_for_power,
    spread_at_most,
)
from studies.analysis.statistics.pairing import at_own_best, paired_by_seed
from studies.definition.confirm_seeds import MAX_CONFIRM_SEEDS, MIN_CONFIRM_SEEDS
from studies.definition.early_stopping import is_stopped
from studies.definition.study import Study

__all__ = ["seeds_needed"]


def seeds_needed(study: Study, search: pd.DataFrame, settings: Sequence[str]) -> tuple[int, str]:
    """Seeds for 90% power in every comparison, and the reason in words."""
    if not study.pairs:
        return MIN_CONFIRM_SEEDS, "the default where no arms are compared"
    needed: list[int | None] = []
    try:
        best = at_own_best(search[~is_stopped(search)], study.objective, [*settings, keys.ARM])
    except ValueError:
        reason = f"one seed per point gives no spread to plan with: {MIN_CONFIRM_SEEDS}"
        return MIN_CONFIRM_SEEDS, reason
    for _, group in best.groupby(list(settings)) if settings else [((), best)]:
        for pair in study.pairs:
            of_pair = group[group[keys.ARM].isin(pair)]
            if set(of_pair[keys.ARM]) != set(pair):
                continue
            by_seed = paired_by_seed(of_pair, study.objective)
            if len(by_seed) < 2:
                continue
            comparison = compare(
                (by_seed[pair.arm] - by_seed[pair.reference]).to_numpy(dtype=float)
            )
            effect, sd = comparison.mean, spread_at_most(comparison.sd, comparison.n)
            options = [seeds_for_power(sd, effect)]
            if study.equivalence_margin is not None:
                options.append(seeds_for_equivalence(sd, effect, study.equivalence_margin))
            needed.append(min((n for n in options if n is not None), default=None))
    wanted = max((MAX_CONFIRM_SEEDS if n is None else n for n in needed), default=MIN_CONFIRM_SEEDS)
    seeds = math.ceil(min(max(wanted, MIN_CONFIRM_SEEDS), MAX_CONFIRM_SEEDS))
    enough = sum(n is not None and n <= seeds for n in needed)
    what = "comparison" if len(needed) == 1 else "comparisons"
    return seeds, (
        f"enough for 90% power in {enough} of {len(needed)} {what}, at the effect of the search "
        "and an upper bound (80%) of its spread"
    )
