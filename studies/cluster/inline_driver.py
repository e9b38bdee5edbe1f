"""Trains the blocks of a study in this process, one after another: no cluster, nothing to install,
and a debugger stops where the training does."""

from __future__ import annotations

import time

import torch

from studies.blocks.block import Block, BlockSource
from studies.blocks.block_run import use_threads
from studies.blocks.block_training import BlockTraining
from studies.blocks.failure import failure_to_train

__all__ = ["train"]

_SECONDS_TO_WAIT = 0.2


def train(source: BlockSource) -> None:
    """Train the blocks that are left.

    Returns when all have ended, or once the source is asked to stop; a block in training is then
    saved.

    Args:
        source: the source of the blocks.
    """
    threads = torch.get_num_threads()
    use_threads(source.study.resources.cpu)
    try:
        while not source.finished and not source.asked_to_stop:
            block = source.next_block()
            if block is None:
                time.sleep(_SECONDS_TO_WAIT)  # the source pauses after a failure
            else:
                _train(source, block)
    finally:
        torch.set_num_threads(threads)


def _train(source: BlockSource, block: Block) -> None:
    """Train a block to its end, or until the source is asked to stop."""
    source.started(block)
    training = BlockTraining(source.study, block, source.checkpoints)
    try:
        while not source.asked_to_stop:
            try:
                report = training.advance()
            except Exception as error:
                failure = failure_to_train(error)
                if not source.try_again(block, failure):
                    source.failed(block, failure.reason)
                return
            source.reported(block, report.fraction, report.means, report.result)
            if report.result is not None:
                return
    finally:
        training.save_unfinished()
