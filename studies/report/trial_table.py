"""The table of a study's trials."""

from __future__ import annotations

import pandas as pd

from dynloss_core import keys
from studies.definition.network_counts import NetworkCounts
from studies.definition.phases import Phase
from studies.definition.study import Study

__all__ = ["counts_of", "reused_in", "searched_trials", "trial_axes", "trial_curves", "trial_table"]

_CURVES, _POINTS = 1000, 24


def trial_table(study: Study, members: pd.DataFrame) -> pd.DataFrame:
    """One row per trial: its point, means over its seeds, and how many seeds were trained and
    diverged.

    In each phase the best trials come first.

    Args:
        study: the definition.
        members: one row per network.
    """
    identity = [keys.PHASE, keys.ARM, keys.TRIAL]
    if members.empty:
        return pd.DataFrame(columns=[*identity, study.objective, "seeds", "diverged_members"])
    points = [*keys.MEMBER_PARAMETERS, *(name for name in members.columns if "." in name)]
    points = [name for name in points if name in members.columns]
    shown = (study.objective, keys.TRAIN_ACCURACY, keys.on_test_set(study.objective))
    measured = {name for name in shown if name in members and members[name].notna().any()}
    metrics = [name for name in shown if name in {study.objective, *measured}]
    grouped = members.groupby(identity, sort=False)
    frame = grouped[points].first()
    for metric in metrics:
        frame[metric] = grouped[metric].mean()
    frame[f"{study.objective}_sd"] = grouped[study.objective].std(ddof=1)
    frame["seeds"] = grouped[keys.SEED].nunique()
    frame["diverged_members"] = grouped[keys.DIVERGED].sum().astype(int)
    if keys.STOPPED_STEP in members:
        frame[keys.STOPPED_STEP] = grouped[keys.STOPPED_STEP].max()
    up = keys.higher_is_better(study.objective)
    return (
        frame.reset_index()
        .sort_values([keys.PHASE, study.objective], ascending=[True, not up], kind="stable")
        .reset_index(drop=True)
    )


def counts_of(members: pd.DataFrame) -> NetworkCounts:
    """How many trials and networks there are in a members table."""
    if members.empty:
        return NetworkCounts()
    trials = members[[keys.PHASE, keys.ARM, keys.TRIAL]].drop_duplicates()
    networks, points = (
        {str(phase): int(n) for phase, n in rows[keys.PHASE].astype(str).value_counts().items()}
        for rows in (members, trials)
    )
    return NetworkCounts.of_phases(networks, points)


def reused_in(members: pd.DataFrame) -> dict[str, int]:
    """The number of networks taken from each other study."""
    if keys.REUSED_FROM not in members:
        return {}
    return {str(name): int(n) for name, n in members[keys.REUSED_FROM].value_counts().items()}


def trial_axes(study: Study, trials: pd.DataFrame) -> list[str]:
    """The columns that parallel coordinates show: the parameters that vary, and the objective."""
    points = [name for name in trials if name in keys.MEMBER_PARAMETERS or "." in str(name)]
    numeric = trials[points].select_dtypes("number")
    return [*numeric.columns[numeric.nunique() > 1].astype(str), study.objective]


def trial_curves(
    study: Study, trials: pd.DataFrame, curves: pd.DataFrame
) -> dict[str, object] | None:
    """The objective over the steps, a mean over seeds, for the first trials of the table; thinned
    to a few points. None without curves."""
    if curves.empty or study.objective not in curves:
        return None
    identity = [keys.PHASE, keys.ARM, keys.TRIAL]
    first = trials[identity].head(_CURVES).astype({keys.PHASE: str, keys.ARM: str})
    steps = sorted(curves[keys.STEP].unique())
    steps = steps[:: -(-len(steps) // _POINTS)]
    rows = curves.loc[curves[keys.STEP].isin(steps), [*identity, keys.STEP, study.objective]]
    rows = first.merge(rows.astype({keys.PHASE: str, keys.ARM: str}), on=identity)
    means = rows.pivot_table(study.objective, identity, keys.STEP, "mean")
    wide = means.reindex(pd.MultiIndex.from_frame(first)).reindex(columns=steps)
    values = [
        [None if value != value else float(f"{value:.4g}") for value in row] if row else []
        for row in wide.to_numpy(dtype=float).tolist()
    ]
    return {
        "metric": study.objective.replace("_", " "),
        "steps": [int(step) for step in steps],
        "values": values,
    }


def searched_trials(study: Study, members: pd.DataFrame) -> pd.DataFrame:
    """The rows of `trial_table` that belong to a search and have no diverged network."""
    rows = trial_table(study, members)
    if rows.empty:
        return rows
    is_search = rows[keys.PHASE].map(lambda phase: Phase.parse(str(phase)).is_search)
    return rows[is_search & (rows["diverged_members"] == 0)]
