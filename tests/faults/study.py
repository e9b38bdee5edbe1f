"""The study that faults strike, and what must be true of it in the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial

from dynloss_core import keys
from studies.definition.study import Study
from studies.definition.study_files import load_study
from tests.studies.mlflow_runs import TRAIN_LOSS, runs_in, trial_of
from tests.studies.tables import comparable

__all__ = ["LONG", "SHORT", "SLOW", "Tally", "check", "members", "written"]

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
SLOW = LONG.replace(
    "{total: 3000, static_tail: 500, evaluate_every: 250}",
    "{total: 60000, static_tail: 10000, evaluate_every: 5000}",
)


@dataclass(frozen=True)
class Tally:
    """What came of a study that was struck.

    Args:
        trials: the study has.
        lost: of them that have no row, no final state in Optuna or no closed run in MLflow.
        duplicated: that have more than one of these.
        left_open: trials in Optuna and runs in MLflow that never ended.
        changed: rows of the members table that differ from those of the undisturbed study.
    """

    trials: int
    lost: int
    duplicated: int
    left_open: int
    changed: int


def written(folder: Path, text: str) -> Path:
    """The study's file, in a folder that need not be there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "struck.yaml"
    path.write_text(text)
    return path


def members(out: Path) -> pd.DataFrame:
    """The members table, as a repeated run repeats it."""
    return comparable(pd.read_parquet(out / "struck" / "tables" / "members.parquet"))


def check(file: Path, out: Path, undisturbed: pd.DataFrame, store: str) -> Tally:
    """Count what was lost, duplicated, left open or changed in a study that should be whole.

    Args:
        file: of the study.
        out: output folder.
        undisturbed: members table of the same study without faults.
        store: MLflow's store.
    """
    study, client, found = load_study(file), MlflowClient(store), members(out)
    stored = {arm: optuna_trials(study, out, arm) for arm in study.arms}
    runs = runs_in(client)
    of_trials = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    counts = [
        found.groupby([keys.ARM, keys.TRIAL, keys.SEED]).size(),
        *(occurrences(str(each.params) for each in stored[arm] if is_told(each)) for arm in stored),
        occurrences(trial_of(run) for run in of_trials if is_whole(run, client, study)),
        occurrences("the study" for run in runs if run not in of_trials),
    ]
    of_arms = [study.trials_of(arm).count for arm in study.arms]
    trials = sum(of_arms)
    wanted = [trials * study.seeds_per_point, *of_arms, trials, 1]
    both = found.merge(undisturbed, how="outer", indicator=True)
    return Tally(
        trials=trials,
        lost=sum(max(n - len(each), 0) for each, n in zip(counts, wanted, strict=True)),
        duplicated=sum(int((each > 1).sum()) for each in counts),
        left_open=sum(not is_told(each) for arm in stored for each in stored[arm])
        + sum(run.info.status == "RUNNING" for run in runs),
        changed=int((both["_merge"] != "both").sum()),
    )


def optuna_trials(study: Study, out: Path, arm: str) -> list[FrozenTrial]:
    """All that Optuna has of an arm."""
    storage = f"sqlite:///{out / study.name / 'optuna.db'}"
    return optuna.load_study(study_name=f"{study.name}/{arm}", storage=storage).trials


def is_told(trial: FrozenTrial) -> bool:
    """Whether Optuna knows how a trial ended."""
    return trial.state.is_finished()


def is_whole(run: Run, client: MlflowClient, study: Study) -> bool:
    """Whether a trial's run is closed and has every step of its curve, each once."""
    history = client.get_metric_history(run.info.run_id, TRAIN_LOSS)
    steps = sorted(each.step for each in history)
    wanted = list(range(0, study.budget.total + 1, study.budget.evaluate_every))
    return run.info.status in ("FINISHED", "FAILED") and steps == wanted


def occurrences(names: Iterable[str]) -> pd.Series:
    """How often each name occurs."""
    return pd.Series(list(names), dtype=str).value_counts()
