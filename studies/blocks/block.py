"""Blocks: trials that are trained together, as one unit of scheduling; and who hands them out.

A block is plain data on its way to a worker, where a `BlockRun` trains it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

from search_spaces import Point
from studies.blocks.failure import Failure
from studies.definition.study import Study
from studies.object_store import ObjectStore

__all__ = [
    "CHECKPOINTS",
    "Block",
    "BlockProgress",
    "BlockResult",
    "BlockSource",
    "Trial",
    "checkpoint_name",
]


CHECKPOINTS = "checkpoints"
"""Folder inside the study's folder where blocks in flight are saved."""


def checkpoint_name(block: str) -> str:
    """The name of the object that saves a block, given the block's own."""
    return f"{CHECKPOINTS}/{block}.pt"


@dataclass(frozen=True)
class Trial:
    """One point to try, numbered within its arm and phase."""

    number: int
    point: Point


@dataclass(frozen=True)
class Block:
    """Trials of one arm and phase, each to be trained with every seed.

    Args:
        phase: `search`, or a round of confirmation: `confirm`, `confirm-2`, ...
        arm: the name of the arm.
        index: the index of the block within its phase and arm.
        trials: the points.
        seeds: the seeds of each trial.
        thresholds: what a trial must reach at each rung not to be stopped (see `early_stopping`),
            fixed when the block is asked for; empty without early stopping.
    """

    phase: str
    arm: str
    index: int
    trials: tuple[Trial, ...]
    seeds: tuple[int, ...]
    thresholds: tuple[float | None, ...] = ()

    @property
    def id(self) -> str:
        """The block's name in files and logs."""
        return f"{self.phase}-{self.arm}-{self.index:05d}"

    def __str__(self) -> str:
        return self.id

    @property
    def checkpoint(self) -> str:
        """The name of the object that saves the block while it is in flight."""
        return checkpoint_name(self.id)

    @property
    def members(self) -> int:
        """Number of networks in the block."""
        return len(self.trials) * len(self.seeds)


@dataclass(frozen=True)
class BlockProgress:
    """How far a block has got.

    Args:
        fraction: the fraction of its training done.
        means: means over seeds since the last report, one row per trial and evaluation (see
            `tables.mean_curves`).
    """

    fraction: float
    means: pd.DataFrame


@dataclass(frozen=True)
class BlockResult:
    """The tables of a finished block.

    Args:
        members: one row per member, at the end of its training.
        curves: one row per member and evaluation.
        recorded: one table per kind (see `recorder.KINDS`); empty if it was not asked for.
    """

    members: pd.DataFrame
    curves: pd.DataFrame
    recorded: dict[str, pd.DataFrame] = field(default_factory=dict)


class BlockSource(Protocol):
    """What a cluster's driver needs of a session, so that neither has to know the other.

    Attributes:
        study: the study whose blocks these are.
    """

    study: Study

    @property
    def checkpoints(self) -> ObjectStore:
        """Where blocks in flight are saved."""

    @property
    def finished(self) -> bool:
        """Whether every block of the study has ended, trained or failed."""

    @property
    def asked_to_stop(self) -> bool:
        """Whether somebody asked the study to stop."""

    def next_block(self) -> Block | None:
        """The next block to train; None if it depends on results to come, or none is left."""

    def started(self, block: Block) -> None:
        """Take note that a block has started."""

    def reported(
        self,
        block: Block,
        fraction: float,
        means: pd.DataFrame | None,
        result: BlockResult | None,
        node: str = "",
    ) -> None:
        """Take a block's progress, and its result once it is finished.

        Args:
            block: the block.
            fraction: the fraction of its training done.
            means: means since the last report (see `BlockProgress`); None if there are none.
            result: its tables; None until it is finished.
            node: the machine that it runs on.
        """

    def try_again(self, block: Block, failure: Failure) -> bool:
        """Decide whether a block that ended without a result is handed out again."""

    def failed(self, block: Block, error: str) -> None:
        """Record that a block failed for good, and why."""

    def cut_off(self) -> None:
        """Close the run in MLflow, as far as it is: the process is about to be ended."""

    def say(self, line: str) -> None:
        """Show the user a line above the progress bar."""
