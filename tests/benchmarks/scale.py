"""A large study, driven for real: blocks through Ray Tune, Optuna, the study's folder and MLflow, with
a trainable that sleeps instead of training: `make bench`.

What a trial leaves is copied from one that was trained: every table and every request is as large as
in a real study. Each row is measured in a process of its own, so that its memory is known:

search      blocks asked for, recorded in the folder and told to Optuna; no Ray, no MLflow
delivery    the same blocks delivered to MLflow, a file beside the study
served      the same, to an MLflow server with a file of its own, on the same machine
ray         the whole driver, blocks through Ray Tune, until the last run in MLflow is closed
resume      all of it passed over by the next driver
results     tables gathered, analysed, drawn, the report written
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
from rich.console import Console
from rich.table import Table

from dynloss_core import keys
from studies.blocks.block import Block, BlockResult, Trial
from studies.blocks.block_run import BlockRun
from studies.blocks.provenance import provenance
from studies.blocks.tables import mean_curves
from studies.cluster.ray_cluster import joined_cluster, set_environment
from studies.cluster.trainable import FRACTION, MEANS, RESULT, BlockTrainable
from studies.cluster.tune_driver import train
from studies.definition.sqlite import tuned_sqlite
from studies.definition.study import Study
from studies.definition.study_files import study_from_mapping
from studies.report.study_results import write_results
from studies.runner.progress import StudyProgress
from studies.runner.session import Session
from studies.storage.reuse import KnownNetworks
from studies.storage.stored_study import StoredStudy
from studies.storage.study_folder import StudyFolder
from studies.storage.tracking.delivery import Delivery
from studies.storage.tracking.trackers import delivery_of
from tests.services import started_mlflow

DEFINITION = {
    "schema": 1,
    "name": "scale",
    "data": {"name": "spirals", "points_per_class": 20},
    "model": {"name": "mlp", "width": 8},
    "budget": {"total": 2000, "static_tail": 500, "evaluate_every": 100},
    "space": "spirals-mlp",
    "seeds_per_point": 1,
    "resources": {"cpu": 1},
}
GRIDS = {  # points of the dynamical arm; the static arm has those of the learning rate
    1_000: {"period": 10, "amplitude": 10, "learning_rate": 10},
    2_000: {"period": 10, "amplitude": 10, "learning_rate": 20},
    10_000: {"period": 20, "amplitude": 20, "learning_rate": 25},
    100_000: {"period": 40, "amplitude": 50, "learning_rate": 50},
}
SLEEP = 0.2  # seconds a block


@dataclass(frozen=True)
class Measurement:
    """One stage.

    Args:
        stage: what was done.
        sampler: of the study.
        points: of the study, both arms.
        block: points in one.
        seconds: it took.
        points_per_second: of the study, all of it.
        trained_per_second: points, until the last block was recorded, MLflow lagging behind; None
            without blocks through Ray.
        busy_seconds: of a core, in the driver's process.
        mlflow_rows_per_second: metrics, parameters and tags; None where nothing was delivered.
        before_megabytes: of the process, when it began.
        peak_megabytes: of the process.
    """

    stage: str
    sampler: str
    points: int
    block: int
    seconds: float
    points_per_second: float
    trained_per_second: float | None
    busy_seconds: float
    mlflow_rows_per_second: float | None
    before_megabytes: float
    peak_megabytes: float


def study_of(sampler: str, points: int, block: int) -> Study:
    """A study of about so many points."""
    if sampler == "grid":
        kind: dict[str, Any] = {"mode": "map", "grid": GRIDS[points]}
    else:
        kind = {"mode": "optimize", "trials_per_arm": points // 2, "confirm_seeds": 2}
    return study_from_mapping({**DEFINITION, **kind, "block_size": block}, source="scale")


class Copies:
    """What a block leaves, copied from the one trial that was trained.

    Args:
        study: that the block belongs to.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._of_arm: dict[str, BlockResult] = {}

    def of(self, block: Block) -> BlockResult:
        """Its tables."""
        one = self._of_arm.get(block.arm)
        if one is None:
            run = BlockRun(self._study, Block(keys.SEARCH, block.arm, 0, block.trials[:1], (0,)))
            for _ in run.progress():
                pass
            one = self._of_arm[block.arm] = run.result()
        pairs = [(trial, seed) for trial in block.trials for seed in block.seeds]
        return BlockResult(_copied(one.members, block, pairs), _copied(one.curves, block, pairs))


def _copied(one: pd.DataFrame, block: Block, pairs: list[tuple[Trial, int]]) -> pd.DataFrame:
    """The rows of one member as those of every member of a block."""
    copies = pd.concat([one] * len(pairs), ignore_index=True)
    each = [pair for pair in pairs for _ in range(len(one))]
    copies[keys.PHASE], copies[keys.BLOCK] = block.phase, block.index
    copies[keys.TRIAL] = [trial.number for trial, _ in each]
    copies[keys.SEED] = [seed for _, seed in each]
    for name in (keys.PERIOD, keys.AMPLITUDE, keys.LEARNING_RATE):
        if name in copies and name in block.trials[0].point:
            copies[name] = [trial.point[name] for trial, _ in each]
            copies[name] = copies[name].astype(one[name].dtype)
    if keys.VALIDATION_ACCURACY in copies and keys.CONFIG_HASH in copies:
        rate = copies[keys.LEARNING_RATE]
        copies[keys.VALIDATION_ACCURACY] = 0.7 - 0.01 * (rate - 1).abs()
    return copies


class SleepingTrainable(BlockTrainable):
    """Sleeps where a block would be trained, and leaves what one leaves."""

    _copies: Copies | None = None

    def _begin(self, block: Block) -> None:
        if self._copies is None:
            self._copies = Copies(self._study)
        self._block = block

    def step(self) -> dict[str, Any]:
        """One report a block: the last."""
        time.sleep(SLEEP)
        assert self._copies is not None
        result = self._copies.of(self._block)
        means = mean_curves(result.curves)
        return {FRACTION: 1.0, MEANS: means, RESULT: result, "done": True}

    def cleanup(self) -> None:
        """Nothing is unfinished."""


class NoDelivery:
    """Where MLflow is not part of what is measured."""

    def start(self, block: Block) -> None:
        """Nothing."""

    finish = start

    def log_means(self, block: Block, means: pd.DataFrame) -> None:
        """Nothing."""


def search(stored: StoredStudy) -> None:
    """Every block asked for, recorded and told, in this process."""
    copies = Copies(stored.study)
    with StudyProgress(stored.study, Console(quiet=True)) as progress:
        known = KnownNetworks(stored)
        session = Session(stored, cast(Delivery, NoDelivery()), progress, known)
        while (block := session.next_block()) is not None:
            result = copies.of(block)
            session.reported(block, 1.0, mean_curves(result.curves), result)
        assert session.finished


def deliver(stored: StoredStudy) -> None:
    """Everything that lies in the folder brought to MLflow."""
    with (
        stored.folder.parts.read_ahead() as earlier,
        delivery_of(stored, at_once=True) as (delivery, stored),
        StudyProgress(stored.study, Console(quiet=True)) as progress,
    ):
        session = Session(stored, delivery, progress, earlier=earlier())
        assert session.has_nothing_to_train()
        delivery.ask(lambda tracker: None)


def deliver_to_server(stored: StoredStudy) -> None:
    """The same, over HTTP; starting the server counts for seconds."""
    with started_mlflow(stored.folder.path.parent) as uri:
        storage = replace(stored.study.storage, tracking_uri=uri)
        deliver(replace(stored, study=replace(stored.study, storage=storage)))


def through_ray(stored: StoredStudy) -> float:
    """The whole driver, but for Ray's own start; the seconds until the last block was recorded."""
    started = time.perf_counter()
    with (
        delivery_of(stored, at_once=True) as (delivery, stored),
        StudyProgress(stored.study, Console(quiet=True)) as progress,
    ):
        session = Session(stored, delivery, progress, KnownNetworks(stored))
        train(session, SleepingTrainable)
        assert session.finished
        assert not session.failures
        trained = time.perf_counter() - started
        delivery.ask(lambda tracker: None)
    return trained


def results(stored: StoredStudy) -> None:
    """Tables, analysis, figures, report."""
    write_results(stored)


STAGES: dict[str, Callable[[StoredStudy], float | None]] = {
    "search": search,
    "delivery": deliver,
    "served": deliver_to_server,
    "resume": deliver,
    "results": results,
    "ray": through_ray,
}


@tuned_sqlite()
def measured(stage: str, sampler: str, points: int, block: int, out: Path) -> Measurement:
    """One stage on the folder that the stages before it left."""
    study = study_of(sampler, points, block)
    folder = StudyFolder.of(study, out)
    stored = StoredStudy.begin(folder, study, resume=True)
    before, rows = megabytes(), mlflow_rows(out)
    with joined_cluster(None) if stage == "ray" else nullcontext():
        started, busy = time.perf_counter(), time.process_time()
        trained = STAGES[stage](stored)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    fresh = mlflow_rows(out) - rows
    trials = sum(study.trials_of(arm).count for arm in study.arms)
    return Measurement(
        stage=stage,
        sampler=sampler,
        points=trials,
        block=block,
        seconds=seconds,
        points_per_second=trials / seconds,
        trained_per_second=trials / trained if trained else None,
        busy_seconds=busy,
        mlflow_rows_per_second=fresh / seconds if fresh else None,
        before_megabytes=before,
        peak_megabytes=megabytes(),
    )


def mlflow_rows(out: Path) -> int:
    """Metrics, parameters and tags in the stores."""
    tables, found = ("metrics", "latest_metrics", "params", "tags"), 0
    for path in (out / "mlflow.db", out / "server.db"):
        if path.exists():
            with closing(sqlite3.connect(path)) as store:
                counts = [store.execute(f"SELECT count(*) FROM {t}").fetchone() for t in tables]
                found += sum(count for (count,) in counts)
    return found


def megabytes() -> float:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PLAN = [  # stages on one folder, sampler, points, block
    (("ray",), "grid", 2_000, 128),
    (("ray",), "grid", 1_000, 32),
    (("search", "delivery", "resume", "served"), "grid", 1_000, 32),
    (("search",), "tpe", 1_000, 32),
    (("ray", "resume", "results"), "grid", 10_000, 128),
    (("search",), "tpe", 10_000, 128),
    (("ray", "resume", "results"), "grid", 100_000, 128),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--most", type=int, default=10_000, help="points; 100000 takes half an hour"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scale.json"))
    options = parser.parse_args()
    shown = Table("stage", "sampler", "points", "block", "time", "points/s", "trained/s", "busy", "MLflow rows/s", "peak",
                  box=None)  # fmt: skip
    rows: list[Measurement] = []
    origin = provenance()  # before the file that is written changes the tree
    console = Console(width=110)
    set_environment(None)  # before the processes to come import Ray
    for stages, sampler, points, block in PLAN:
        if points > options.most:
            continue
        with tempfile.TemporaryDirectory() as out:
            for stage in stages:
                with multiprocessing.get_context("spawn").Pool(1) as alone:
                    work = (stage, sampler, points, block, Path(out))
                    rows.append(alone.apply(measured, work))
                record = {"provenance": origin, "rows": [asdict(row) for row in rows]}
                options.out.write_text(json.dumps(record, indent=1) + "\n")
                console.print(f"{stage} {sampler} {points:,}: {rows[-1].seconds:.1f} s")
    for row in rows:
        sent = row.mlflow_rows_per_second
        shown.add_row(
            row.stage, row.sampler, f"{row.points:,}", str(row.block), f"{row.seconds:.1f} s",
            f"{row.points_per_second:,.0f}",
            "" if row.trained_per_second is None else f"{row.trained_per_second:,.0f}",
            f"{1000 * row.busy_seconds / row.points:.1f} ms", "" if sent is None else f"{sent:,.0f}",
            f"{row.peak_megabytes:,.0f} MB",
        )  # fmt: skip
    console.print(shown)


if __name__ == "__main__":
    from tests.benchmarks import scale  # workers know the trainable by its module's name

    scale.main()
