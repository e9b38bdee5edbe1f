"""The Ray Tune trainable: one block, with all its points and seeds, in one process."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

import dynloss_core
from dynloss_core.data import use_data_folder
from studies.blocks.block import Block
from studies.blocks.block_run import use_threads
from studies.blocks.block_training import BlockTraining
from studies.blocks.code_origin import Origin, current_origin
from studies.definition.study import Study
from studies.object_store import ObjectStore

__all__ = ["BLOCK", "FRACTION", "MEANS", "RESULT", "BlockTrainable"]

BLOCK = "block"
FRACTION = "fraction"
MEANS = "means"
RESULT = "result"


class BlockTrainable(tune.Trainable):
    """Trains a block and reports about once a second. The actor is reused for one block after
    another."""

    _training: BlockTraining

    def setup(  # type: ignore[override]  # tune.with_parameters adds all but the first
        self,
        config: dict[str, Any],
        study: Study,
        checkpoints: ObjectStore,
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
        self._study = study
        self._checkpoints = checkpoints
        use_data_folder(data_folder)
        use_threads(study.resources.cpu)
        self._begin(config[BLOCK])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called on a reused actor, with its next block."""
        self._begin(new_config[BLOCK])
        return True

    def step(self) -> dict[str, Any]:
        """Train for about a second, and return the mean curves, and at the end the tables."""
        report = self._training.advance()
        return {
            FRACTION: report.fraction,
            MEANS: report.means,
            RESULT: report.result,
            "done": report.result is not None,
        }

    def cleanup(self) -> None:
        """Save an unfinished block when the study ends, so that it can be resumed."""
        self._training.save_unfinished()

    def _begin(self, block: Block) -> None:
        self._training = BlockTraining(self._study, block, self._checkpoints)
