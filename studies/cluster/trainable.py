"""The Ray Tune trainable: one block, with all its points and seeds, in one process."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from ray import tune

import dynloss_core
from dynloss_core import keys
from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from dynloss_core.data import use_data_folder
from studies.blocks.block import Block, BlockProgress, BlockResult
from studies.blocks.block_run import BlockRun, use_threads
from studies.blocks.code_origin import Origin, current_origin
from studies.cluster.resource_usage import Usage
from studies.definition.study import Study

__all__ = ["BLOCK", "FRACTION", "MEANS", "RESULT", "BlockTrainable"]

BLOCK = "block"
FRACTION = "fraction"
MEANS = "means"
RESULT = "result"

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_REPORTS = 1.0
_SECONDS_BETWEEN_CHECKPOINTS = 20.0


class BlockTrainable(tune.Trainable):
    """Trains a block and reports about once a second.

    The actor is reused for one block after another. Checkpoints go to the study's folder under the
    block's own name: whichever process trains the block next, in this session or another, continues
    from there, and the result is the same as without the interruption.
    """

    _run: BlockRun
    _progress: Iterator[BlockProgress]

    def setup(  # type: ignore[override]  # tune.with_parameters adds all but the first
        self,
        config: dict[str, Any],
        study: Study,
        folder: str,
        data_folder: str | None,
        code: Mapping[str, str],
    ) -> None:
        """Called once per actor, with its first block.

        Raises:
            ImportError: if this process has other code than the driver (see `Origin.files`).
        """
        origin = current_origin()
        if differences := Origin(code, origin.versions).differences(origin):
            where = Path(dynloss_core.__file__).parents[1]
            changed = "; ".join(differences[:3])
            raise ImportError(f"{socket.gethostname()} has different code in {where}: {changed}")
        self._saved = 0.0
        self._study = study
        self._folder = Path(folder)
        use_data_folder(data_folder)
        use_threads(study.resources.cpu)
        self._begin(config[BLOCK])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called on a reused actor, with its next block."""
        self._begin(new_config[BLOCK])
        return True

    def step(self) -> dict[str, Any]:
        """Train for about a second, and return the mean curves, and at the end the tables."""
        started = time.monotonic()
        means, fraction, finished = [], 1.0, True
        for progress in self._progress:
            means.append(progress.means)
            now = time.monotonic()
            if now - self._saved >= _SECONDS_BETWEEN_CHECKPOINTS:
                self._save()
            if now - started >= _SECONDS_BETWEEN_REPORTS:
                fraction, finished = progress.fraction, False
                break
        self._unfinished = not finished
        self._usage.sample()
        return {
            FRACTION: fraction,
            MEANS: pd.concat(means, ignore_index=True) if means else None,
            RESULT: self._result() if finished else None,
            "done": finished,
        }

    def _result(self) -> BlockResult:
        """The tables, with what the block used of the machine since it started or resumed here."""
        result = self._run.result()
        for name, value in self._usage.so_far().items():
            result.members[name] = value
        result.members[keys.NODE] = socket.gethostname()
        return result

    def cleanup(self) -> None:
        """Save an unfinished block when the study ends, so that it can be resumed."""
        if self._unfinished:
            self._save()

    def _save(self) -> None:
        with suppress(OSError):  # if the study's folder is not shared, train without checkpoints
            save_checkpoint(self._checkpoint, self._run.state_dict())
        self._saved = time.monotonic()

    def _begin(self, block: Block) -> None:
        self._unfinished = False
        self._usage = Usage(self._study.resources.cpu)
        self._progress = self._trained(block)

    def _trained(self, block: Block) -> Iterator[BlockProgress]:
        """Start or resume a block, at its first step: an error is then the block's, while an error
        before that counts as the process's."""
        self._run = BlockRun(self._study, block, self._study.device)
        self._checkpoint = block.checkpoint(self._folder)
        try:
            state = load_checkpoint(self._checkpoint)
        except OSError as error:
            log.warning("block %s starts from the beginning: %s", block, error)
        else:
            if state is not None:
                self._run.load_state_dict(state)
        self._saved = time.monotonic()
        yield from self._run.progress()
