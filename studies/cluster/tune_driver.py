"""Ray Tune trains the blocks of a study, wherever the cluster has room.

One call is one Tune experiment, whose trials are the blocks. Tune's own files go to a temporary
folder and are deleted: a study keeps its own (see `studies.storage.study_folder`).

Importing this module imports Ray; `studies.cluster.ray_cluster` sets up its environment first.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from dynloss_core.config import ConfigError
from dynloss_core.data import chosen_folder
from dynloss_core.own_command import own_command
from studies.blocks.block import BlockSource
from studies.blocks.code_origin import current_origin
from studies.blocks.failure import FailureKind
from studies.cluster.capacity import parallel_blocks
from studies.cluster.head_watch import watched_head
from studies.cluster.trainable import BLOCK, FRACTION, MEANS, RESULT, BlockTrainable
from studies.cluster.worker_errors import failure_of, read_error
from studies.definition.study import Study

__all__ = ["train"]

_SECONDS_BETWEEN_CHECKS = 1.0
_SECONDS_TO_START = 60.0  # for the first block, before the user is told that none has
_SECONDS_BETWEEN_COUNTS = 5.0  # of the cluster's machines, which may come and go
_ENDED = Trial.TERMINATED, Trial.ERROR


def train(source: BlockSource, trainable: type[BlockTrainable] = BlockTrainable) -> None:
    """Train the blocks that are left on the cluster that Ray is connected to.

    Returns when all have ended, or after Ctrl-C, which Tune turns into an orderly end.

    Args:
        source: the source of the blocks.
        trainable: the trainable that trains them.

    Raises:
        ConfigError: if a worker cannot import what it needs: the study ends, and no block counts as
            failed.
    """
    study = source.study
    storage = Path(tempfile.mkdtemp(prefix=f"dynloss-{study.name}-"))
    trains = tune.with_resources(
        tune.with_parameters(
            trainable,
            study=study,
            checkpoints=source.checkpoints,
            data_folder=chosen_folder(),
            code=current_origin().files,
        ),
        {"cpu": study.resources.cpu, "gpu": study.resources.gpus},
    )
    reporter, room = Reporter(source), Room(study)
    # Tune's own 1 would start one process after another, seconds each
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(room.blocks + 1)
    try:
        fit = tune.Tuner(
            trains,
            tune_config=tune.TuneConfig(
                search_alg=BlockSearcher(source, room),
                scheduler=_SCHEDULERS[study.scheduler](room),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_block_id,
                trial_dirname_creator=_block_id,
            ),
            run_config=tune.RunConfig(
                name="session",
                storage_path=str(storage),
                callbacks=[reporter],
                failure_config=tune.FailureConfig(max_failures=0),  # retries are the source's
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit
        head = str(ray.get_runtime_context().gcs_address)
        with watched_head(head, source.say, source.cut_off):
            fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    if reporter.no_worker:
        remedy = "install what the suite needs there, in the same versions"
        raise ConfigError("", reporter.no_worker, remedy)


class Room:
    """How many blocks the cluster can train at once, as it grows and shrinks.

    Args:
        study: what asks for it.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._counted = -math.inf
        self._blocks = 1

    @property
    def blocks(self) -> int:
        """The number of blocks, counted at most every few seconds."""
        now = time.monotonic()
        if now - self._counted > _SECONDS_BETWEEN_COUNTS:
            self._counted = now
            capacity = ray.cluster_resources()  # type: ignore[no-untyped-call]
            self._blocks = parallel_blocks(self._study, capacity)
        return self._blocks


class BlockSearcher(Searcher):
    """Hands blocks to Tune: as many as there is room for, and the one after them.

    Args:
        source: the source of the blocks.
        room: of the cluster.
    """

    def __init__(self, source: BlockSource, room: Room) -> None:
        super().__init__()
        self._source, self._room = source, room
        self._handed_out: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """The next block as a configuration, None to wait, or FINISHED."""
        if len(self._handed_out) > self._room.blocks:
            return None
        block = self._source.next_block()
        if block is None:
            return Searcher.FINISHED if self._source.finished else None
        self._handed_out.add(trial_id)
        return {BLOCK: block}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Count the trial as ended; its results arrive through the reporter."""
        self._handed_out.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the plan's state is the study's folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Refused: a study resumes from its folder."""
        raise NotImplementedError(f"use `{own_command('run', '--resume')}`")


class SparesStarting(FIFOScheduler):
    """First come, first served, but for trials whose process is starting.

    Tune reuses the process of a trial that has ended for the trial that is chosen here, and kills
    the process that was starting for that one. Chosen in order, short blocks would keep a second
    process from ever starting: one trains them all. So the first trial that still waits for room
    is chosen. How many are starting Tune does not say; it is the room that no trial runs in.

    Args:
        room: of the cluster.
    """

    def __init__(self, room: Room) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room = room
        self._trials: list[Trial] = []  # that have not ended, in the order of their coming

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Remember a trial that has come."""
        self._trials.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The first trial that waits for room, where one process is free; None if none does."""
        self._trials = [trial for trial in self._trials if trial.status not in _ENDED]
        pending = [trial for trial in self._trials if trial.status == Trial.PENDING]
        running = len(self._trials) - len(pending)
        starting = max(self._room.blocks - running - 1, 0)
        return pending[starting] if starting < len(pending) else None


_SCHEDULERS = {"fifo": SparesStarting}


class Reporter(tune.Callback):
    """Takes the tables out of Tune's results, so that they are kept in the study's folder alone.

    Attributes:
        no_worker: why a worker could not start; empty if all could.
    """

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self.no_worker = ""
        self._not_started: set[str] = set()  # reasons why processes did not start, so far
        self._waiting_since: float | None = time.monotonic()  # None once a block has started
        self._checked = 0.0
        self._stopping = False

    def on_step_end(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Once a second, check whether somebody asked the study to stop, or no worker can start;
        then end it as Ctrl-C would, which Tune turns into an orderly end."""
        now = time.monotonic()
        if self._stopping or now - self._checked < _SECONDS_BETWEEN_CHECKS:
            return
        self._checked = now
        if self._waiting_since is not None and now - self._waiting_since > _SECONDS_TO_START:
            self._waiting_since = None
            self._source.say(
                "no block has started yet: the cluster is busy, or its workers do not start "
                "(see `ray status`)"
            )
        if self._source.asked_to_stop or self.no_worker:
            self._stopping = True
            os.kill(os.getpid(), signal.SIGINT)

    def on_trial_start(
        self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any
    ) -> None:
        """Report that a block has started."""
        self._waiting_since = None
        self._source.started(trial.config[BLOCK])

    def on_trial_result(
        self,
        iteration: int,
        trials: Sequence[Any],
        trial: Any,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Report a block's progress or result. Tune lets a callback change the result it keeps."""
        means, finished = result.pop(MEANS, None), result.pop(RESULT, None)
        node = str(result.get("hostname", ""))
        self._source.reported(trial.config[BLOCK], result[FRACTION], means, finished, node)

    def on_trial_error(
        self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any
    ) -> None:
        """Report that a block ended with an error, or that its process or machine is gone."""
        block, failure = trial.config[BLOCK], failure_of(read_error(trial))
        again = failure.kind is FailureKind.NOT_STARTED and failure.reason in self._not_started
        self._not_started.add(failure.reason)
        if failure.kind is FailureKind.NO_WORKER or again:
            self.no_worker = f"block {block} cannot start: {failure.reason}"
            self._checked = 0.0  # end without delay
        elif not self._source.try_again(block, failure):
            self._source.failed(block, failure.reason)


def _block_id(trial: Any) -> str:
    return str(trial.config[BLOCK])
