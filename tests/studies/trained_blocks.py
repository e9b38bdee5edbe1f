"""Blocks trained in this process, by one run or by two in turn."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pandas as pd

from dynloss_core import keys
from dynloss_core.checkpoint import load_checkpoint, save_checkpoint
from studies.blocks.block import Block, BlockResult
from studies.blocks.block_run import BlockRun
from studies.definition.study import Study


def trained(study: Study, block: Block) -> BlockResult:
    run = BlockRun(study, block)
    list(run.progress())
    return run.result()


def resumed(study: Study, block: Block, after: int, folder: Path) -> BlockResult:
    """The result of a run that resumes another's checkpoint, saved after so many reports."""
    first = BlockRun(study, block)
    list(islice(first.progress(), after))
    save_checkpoint(folder / "block.pt", first.state_dict())
    second, state = BlockRun(study, block), load_checkpoint(folder / "block.pt")
    assert state is not None
    assert second.load_state_dict(state)
    list(second.progress())
    return second.result()


def assert_same(result: BlockResult, expected: BlockResult) -> None:
    """Tables are equal, but for the seconds that training took."""
    pd.testing.assert_frame_equal(
        result.members.drop(columns=keys.SECONDS), expected.members.drop(columns=keys.SECONDS)
    )
    pd.testing.assert_frame_equal(result.curves, expected.curves)
    assert set(result.recorded) == set(expected.recorded)
    for kind, frame in result.recorded.items():
        pd.testing.assert_frame_equal(frame, expected.recorded[kind])
