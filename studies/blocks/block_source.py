"""Who hands out a study's blocks and takes what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from studies.blocks.block import Block, BlockResult
from studies.blocks.failure import Failure
from studies.definition.study import Study

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BlockSource"]


class BlockSource(Protocol):
    """What a cluster's driver asks of a session, and tells it: neither knows the other.

    Attributes:
        study: whose blocks.
    """

    study: Study

    @property
    def path(self) -> Path:
        """The study's folder, below which blocks keep their checkpoints."""

    @property
    def finished(self) -> bool:
        """Whether every block of the study is trained."""

    @property
    def asked_to_stop(self) -> bool:
        """Whether somebody wants the study to end here."""

    def next_block(self) -> Block | None:
        """The next block to train; None to wait for results, or where all is done."""

    def started(self, block: Block) -> None:
        """A block is at work."""

    def reported(
        self,
        block: Block,
        fraction: float,
        means: pd.DataFrame | None,
        result: BlockResult | None,
        node: str = "",
    ) -> None:
        """A block has got further, or is finished.

        Args:
            block: which.
            fraction: of its training done.
            means: over seeds since the last report (see `BlockProgress`); None if there are none.
            result: once it is finished.
            node: the machine it is on.
        """

    def try_again(self, block: Block, failure: Failure) -> bool:
        """Whether a block that ended without a result will be handed out again."""

    def failed(self, block: Block, error: str) -> None:
        """Record that a block failed for good, and why."""

    def tell(self, line: str) -> None:
        """Show the user a line beside the progress."""
