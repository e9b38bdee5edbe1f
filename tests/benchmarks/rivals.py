"""A search by this suite beside the ways it is done without: `make bench`.

Each searches period, amplitude and learning rate by TPE, on two cores, from a fresh process to its
last line, in turns. All train the same networks of a small problem with the same engine, in blocks or
trial by trial, so that what differs is what stands around the training.

dynloss     `dynloss run`: Ray Tune, Optuna, MLflow; two arms, finals, confirmation, report
ray         Ray Tune with its OptunaSearch and its MLflow callback, on SQLite
joblib      Optuna on SQLite in joblib's processes; no MLflow
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dynloss_core import keys
from studies.blocks.block import Block, Trial
from studies.blocks.block_run import BlockRun
from studies.blocks.provenance import provenance
from studies.definition.study import Study
from studies.definition.study_files import study_from_mapping

WORKERS = 2
TRIALS = 60
DEFINITION = {
    "schema": 1,
    "name": "rivals",
    "mode": "optimize",
    "data": {"name": "spirals", "points_per_class": 20},
    "model": {"name": "mlp", "width": 8},
    "budget": {"total": 2000, "static_tail": 500, "evaluate_every": 100},
    "space": "spirals-mlp",
    "trials_per_arm": TRIALS // 2,
    "seeds_per_point": 1,
    "confirm_seeds": 2,
    "block_size": 10,
    "resources": {"cpu": 1},
}
PERIOD, AMPLITUDE, RATE = (200, 10_000), (2.0, 150.0), (0.1, 10.0)


@dataclass(frozen=True)
class Measurement:
    """One way to search.

    Args:
        rival: which one.
        trials: that it searched; those of both arms.
        seconds: of each run, from the start of its process to its end.
        trials_per_second: by the median.
        of_dynloss: the median over that of `dynloss run`.
    """

    rival: str
    trials: int
    seconds: list[float]
    trials_per_second: float
    of_dynloss: float


def curve(study: Study, point: dict[str, Any]) -> Iterator[dict[str, float]]:
    """What one network reaches at each evaluation, by its step."""
    block = Block(keys.SEARCH, "dynamical", 0, (Trial(0, point),), (0,))
    run = BlockRun(study, block)
    for _ in run.progress():
        pass
    names = (keys.STEP, keys.TRAIN_LOSS, keys.TRAIN_ACCURACY, keys.VALIDATION_ACCURACY)
    for row in run.result().curves[list(names)].itertuples(index=False):
        yield dict(zip(names, row, strict=True))


def by_ray(out: Path) -> None:
    """As Ray's own guides put the three together; Ray itself started as the suite does."""
    from studies.cluster.ray_cluster import joined_cluster

    with joined_cluster(None):
        _tune(out)


def _tune(out: Path) -> None:
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def trainable(config: dict[str, Any]) -> None:
        study = study_from_mapping(DEFINITION, source="rivals")
        for metrics in curve(study, config):
            tune.report(metrics)

    store = f"sqlite:///{out / 'mlflow.db'}"
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={
            "period": tune.lograndint(*PERIOD),
            "amplitude": tune.loguniform(*AMPLITUDE),
            "learning_rate": tune.loguniform(*RATE),
        },
        tune_config=tune.TuneConfig(
            metric=keys.VALIDATION_ACCURACY,
            mode="max",
            search_alg=ConcurrencyLimiter(OptunaSearch(), WORKERS),
            num_samples=TRIALS,
        ),
        run_config=tune.RunConfig(
            storage_path=str(out),
            callbacks=[MLflowLoggerCallback(tracking_uri=store, experiment_name="rivals")],
            verbose=0,
        ),
    ).fit()


def by_joblib(out: Path) -> None:
    """As Optuna's own guides share a study among processes."""
    import optuna
    from joblib import Parallel, delayed

    storage = f"sqlite:///{out / 'optuna.db'}"
    optuna.create_study(study_name="rivals", storage=storage, direction="maximize")
    parts = (delayed(optimise)(storage, TRIALS // WORKERS) for _ in range(WORKERS))
    Parallel(n_jobs=WORKERS)(parts)


def optimise(storage: str, trials: int) -> None:
    """One of joblib's processes."""
    import optuna

    study = study_from_mapping(DEFINITION, source="rivals")

    def objective(trial: optuna.Trial) -> float:
        point = {
            "period": trial.suggest_int("period", *PERIOD, log=True),
            "amplitude": trial.suggest_float("amplitude", *AMPLITUDE, log=True),
            "learning_rate": trial.suggest_float("learning_rate", *RATE, log=True),
        }
        return [metrics[keys.VALIDATION_ACCURACY] for metrics in curve(study, point)][-1]

    optuna.load_study(study_name="rivals", storage=storage).optimize(objective, trials)


def by_dynloss(out: Path) -> None:
    """The command."""
    from studies.cli.commands import main

    file = out / "rivals.yaml"
    file.write_text(json.dumps(DEFINITION))
    sys.argv = ["dynloss", "run", str(file), "--out", str(out / "results")]
    main()


RIVALS: dict[str, Callable[[Path], None]] = {
    "dynloss": by_dynloss,
    "ray": by_ray,
    "joblib": by_joblib,
}


def seconds_of(rival: str) -> float:
    """One search in a process of its own, whose words go to nobody."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "tests.benchmarks.rivals", "--one", rival, "--out", out]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=RIVALS, help="run this one, in this process")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rivals.json"))
    options = parser.parse_args()
    if options.one:
        RIVALS[options.one](options.out)
        return
    origin = provenance()  # before the file that is written changes the tree
    console = Console(width=100)
    seconds: dict[str, list[float]] = {rival: [] for rival in RIVALS}
    for _ in range(options.repeats):
        for rival, runs in seconds.items():
            runs.append(seconds_of(rival))
            console.print(f"{rival}: {runs[-1]:.1f} s", style="dim")
    own = statistics.median(seconds["dynloss"])
    rows = []
    for rival, runs in seconds.items():
        median = statistics.median(runs)
        rows.append(Measurement(rival, TRIALS, runs, TRIALS / median, median / own))
    record = {"provenance": origin, "rows": [asdict(row) for row in rows]}
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    shown = Table("", "trials", "median", "fastest", "slowest", "trials/s", "of dynloss", box=None)
    for row in rows:
        shown.add_row(
            row.rival, str(row.trials), f"{statistics.median(row.seconds):.1f} s",
            f"{min(row.seconds):.1f} s", f"{max(row.seconds):.1f} s",
            f"{row.trials_per_second:.1f}", f"{row.of_dynloss:.2f}",
        )  # fmt: skip
    console.print(shown)


if __name__ == "__main__":
    from tests.benchmarks import rivals  # joblib's processes know its functions by the module

    rivals.main()
