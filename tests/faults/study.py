"""The study that faults strike, and what must be true of it in the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
from mlflow import MlflowClient

from dynloss_core import keys
from studies.definition import Study
from studies.study_files import load_study

__all__ = ["LONG", "SHORT", "Tally", "check", "members", "written"]

LONG = """\
schema: 1
name: struck
mode: map
data: {name: spirals, points_per_class: 20}
model: {name: mlp, width: 8}
budget: {total: 3000, static_tail: 500, evaluate_every: 250}
space: spirals-mlp
grid: {period: 2, amplitude: 2, learning_rate: 3}
seeds_per_point: 2
block_size: 1
engine: batched
resources: {cpu: 1}
"""
SHORT = LONG.replace("learning_rate: 3", "learning_rate: 1")


@dataclass(frozen=True)
class Tally:
    """What came of a study that was struck.

    Args:
        trials: the study has.
        lost: of them that have no row, no final state in Optuna or no closed run in MLflow.
        duplicated: that have more than one of these.
        changed: rows of the members table that differ from those of the undisturbed study.
    """

    trials: int
    lost: int
    duplicated: int
    changed: int


def written(folder: Path, text: str) -> Path:
    """The study's file, in a folder that need not be there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "struck.yaml"
    path.write_text(text)
    return path


def members(out: Path) -> pd.DataFrame:
    """The members table, without what depends on the clock, in a fixed order."""
    table = pd.read_parquet(out / "struck" / "tables" / "members.parquet")
    by = [keys.PHASE, keys.ARM, keys.TRIAL, keys.SEED]
    return table.drop(columns=list(keys.OF_THE_MACHINE)).sort_values(by).reset_index(drop=True)


def check(file: Path, out: Path, undisturbed: pd.DataFrame, store: str) -> Tally:
    """Count what was lost, duplicated or changed in a study that should be whole.

    Args:
        file: of the study.
        out: output folder.
        undisturbed: members table of the same study without faults.
        store: MLflow's store.
    """
    study = load_study(file)
    found = members(out)
    counts = [
        found.groupby([keys.ARM, keys.TRIAL, keys.SEED]).size(),
        *(optuna_trials(study, out, arm) for arm in study.arms),
        closed_runs(store),
    ]
    trials = sum(study.trials(arm) for arm in study.arms)
    wanted = [trials * study.seeds_per_point, *(study.trials(arm) for arm in study.arms), trials]
    both = found.merge(undisturbed, how="outer", indicator=True)
    return Tally(
        trials=trials,
        lost=sum(max(n - len(each), 0) for each, n in zip(counts, wanted, strict=True)),
        duplicated=sum(int((each > 1).sum()) for each in counts),
        changed=int((both["_merge"] != "both").sum()),
    )


def optuna_trials(study: Study, out: Path, arm: str) -> pd.Series:
    """How often each point of an arm was told; one that stays RUNNING was not."""
    storage = f"sqlite:///{out / study.name / 'optuna.db'}"
    stored = optuna.load_study(study_name=f"{study.name}/{arm}", storage=storage)
    return occurrences(str(each.params) for each in stored.trials if each.state.is_finished())


def closed_runs(store: str) -> pd.Series:
    """How often each trial has a closed run with every step of its curve, each once."""
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("dynloss")
    assert experiment is not None
    names = []
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        if "mlflow.parentRunId" not in run.data.tags:
            continue
        history = client.get_metric_history(run.info.run_id, keys.TRAIN_LOSS)
        whole = sorted(each.step for each in history) == list(range(0, 3001, 250))
        if run.info.status in ("FINISHED", "FAILED") and whole:
            names.append(str(run.info.run_name))
    return occurrences(names)


def occurrences(names: Iterable[str]) -> pd.Series:
    """How often each name occurs."""
    return pd.Series(list(names), dtype=str).value_counts()
