"""A block in training in one process: resumed from its checkpoint, saved now and then.

Whatever backend hands the block to a process, this is what the process does with it.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from dynloss_core import keys
from dynloss_core.checkpoint import packed_checkpoint, unpacked_checkpoint
from studies.blocks.block import Block, BlockProgress, BlockResult
from studies.blocks.block_run import BlockRun
from studies.blocks.resource_usage import Usage
from studies.definition.study import Study
from studies.object_store import ObjectStore

__all__ = ["BlockTraining", "BlockReport"]

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_REPORTS = 1.0
_SECONDS_BETWEEN_CHECKPOINTS = 20.0


@dataclass(frozen=True)
class BlockReport:
    """What a block in training reports.

    Args:
        fraction: the fraction of its training done.
        means: means over seeds since the last report (see `BlockProgress`); None if there are none.
        result: its tables; None until it is finished.
    """

    fraction: float
    means: pd.DataFrame | None
    result: BlockResult | None


class BlockTraining:
    """One block in training.

    Checkpoints are kept under the block's own name: whichever process trains the block next, in
    this session or another, continues from there, and the result is the same as without the
    interruption.

    Args:
        study: the study that the block belongs to.
        block: the block to train.
        checkpoints: where it is saved.
    """

    def __init__(self, study: Study, block: Block, checkpoints: ObjectStore) -> None:
        self.block, self._study = block, study
        self._checkpoints = checkpoints
        self._usage = Usage(study.resources.cpu)
        self._saved = 0.0
        self._unfinished = False
        self._progress = self._trained()

    def advance(self) -> BlockReport:
        """Train for about a second, or to the end. The block's errors are raised here, also those
        of its beginning."""
        started, self._unfinished = time.monotonic(), False  # an interrupted step is not saved
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
        return BlockReport(
            fraction,
            pd.concat(means, ignore_index=True) if means else None,
            self._result() if finished else None,
        )

    def save_unfinished(self) -> None:
        """Save the block if it is unfinished, so that it can be resumed."""
        if self._unfinished:
            self._save()

    def _result(self) -> BlockResult:
        """The tables, with what the block used of the machine since it started or resumed here."""
        result = self._run.result()
        for name, value in self._usage.so_far().items():
            result.members[name] = value
        result.members[keys.NODE] = socket.gethostname()
        return result

    def _save(self) -> None:
        content = packed_checkpoint(self._run.state_dict())
        with suppress(OSError):  # if the study's folder is not shared, train without checkpoints
            self._checkpoints.write(self.block.checkpoint, content)
        self._saved = time.monotonic()

    def _trained(self) -> Iterator[BlockProgress]:
        """Start or resume the block, at its first step."""
        self._run = BlockRun(self._study, self.block, self._study.device)
        name = self.block.checkpoint
        try:
            state = unpacked_checkpoint(self._checkpoints.read(name), name)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("block %s starts from the beginning: %s", self.block, error)
        else:
            if state is not None:
                self._run.load_state_dict(state)
        self._saved = time.monotonic()
        yield from self._run.progress()
