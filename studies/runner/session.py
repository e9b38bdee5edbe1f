"""One process's work on a study: blocks go out as the plan says, results come in and are recorded.

A session knows nothing of Ray: to whatever trains its blocks it is a `BlockSource`. What it leaves
behind is in the study's folder, in Optuna's storage and in MLflow, so a study is resumed by a new
session that skips what is recorded.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from studies.blocks.block import Block, BlockResult, Trial
from studies.blocks.block_run import is_table_of
from studies.blocks.failure import Failure, FailureKind
from studies.definition.phases import Phase
from studies.object_store import ObjectStore
from studies.runner.parent_run import conclude
from studies.runner.progress import StudyProgress
from studies.storage.block_counts import BlockCounts
from studies.storage.gathered_tables import Frames
from studies.storage.origins import record_origin
from studies.storage.phase_counts import PhaseCounts, counted_rows, counts_of_block
from studies.storage.reuse import KnownNetworks, joined
from studies.storage.status import status_of
from studies.storage.status_file import StudyStatus, times_of_plan
from studies.storage.stored_plan import plan_of
from studies.storage.stored_study import StoredStudy
from studies.storage.tracking.delivery import Delivery

__all__ = ["Session"]

_RETRIES_PER_BLOCK = 2
_LOST_WORKERS_PER_BLOCK = 8  # limited, as a block that outgrows the memory is killed every time
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 30.0  # seconds after a loss, until the cluster has noticed it


@dataclass(frozen=True)
class _PartialBlock:
    """A block that is handed out without the trials that need not be trained.

    Args:
        block: the whole block.
        known: trials that were trained before, by number, with their tables.
        duplicates: trials that equal an earlier one in the block, each with that one's number.
    """

    block: Block
    known: dict[int, BlockResult]
    duplicates: dict[int, int]

    @property
    def rest(self) -> tuple[Trial, ...]:
        """The trials to be trained."""
        spared = {*self.known, *self.duplicates}
        return tuple(trial for trial in self.block.trials if trial.number not in spared)


class Session:
    """One process's work on a study.

    Args:
        stored: the study to run.
        delivery: the delivery to MLflow.
        progress: what the user sees.
        known: networks that need not be trained; None trains all.
        earlier: the blocks that the folder holds, if they were read already.
    """

    def __init__(
        self,
        stored: StoredStudy,
        delivery: Delivery,
        progress: StudyProgress,
        known: KnownNetworks | None = None,
        earlier: Frames | None = None,
    ) -> None:
        self.stored, self.study, self.folder = stored, stored.study, stored.folder
        self._known = known
        self._partial: dict[str, _PartialBlock] = {}
        self._held: list[Block] = []  # while another block trains some of their networks
        self.delivery, self.progress = delivery, progress
        self.failures: dict[str, str] = {}
        # by block; each is asked for once
        self._earlier = self.folder.parts.all_recorded() if earlier is None else earlier
        self._first: Block | None = None
        self._trains = False
        self._retries: list[Block] = []
        self._pause_until = 0.0
        self._attempts: Counter[tuple[str, bool]] = Counter()
        self._reasons: dict[str, str] = {}  # of each block's last failure
        self._said: set[str] = set()
        blocks = (block for confirmation in stored.rounds for block in confirmation.blocks())
        progress.expect(sum(block.members for block in blocks))
        self._counts = PhaseCounts(stored.study, stored.rounds)
        self._block_counts = BlockCounts(self.folder)
        progress.status = self.status
        progress.times = times_of_plan(self.folder)
        self.plan = plan_of(stored, self._recorded)

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its searcher and callbacks, but a study never resumes from that."""
        return {}

    @property
    def checkpoints(self) -> ObjectStore:
        """Where blocks in flight are saved."""
        return self.folder.checkpoints

    @property
    def finished(self) -> bool:
        """Whether every block of the study has ended, trained or failed."""
        return self.plan.finished

    def status(self) -> StudyStatus:
        """How far the study has got, without what is in training."""
        return status_of(self.stored, self._counts, self.failures)

    def has_nothing_to_train(self) -> bool:
        """Skip what is recorded, up to the first block to train; whether none is left."""
        self._first = self._next_unknown()
        self._block_counts.write()
        return self._first is None

    def next_block(self) -> Block | None:
        """The next block to train; None if it depends on results to come, or none is left."""
        if time.monotonic() < self._pause_until:
            return None
        if self._retries:
            return self._retries.pop(0)
        first, self._first = self._first, None
        return first or self._next_unknown()

    def recall(self) -> None:
        """Skip everything that is recorded, and train nothing."""
        while self.plan.next_block() is not None:
            pass

    def _next_unknown(self) -> Block | None:
        """The next block that needs training, with only the trials that need it."""
        for block in self._asked():
            if not self._trains:
                record_origin(self.folder)
                self._trains = True
            if self._known is None:
                return block
            if self._known.is_training(block):
                self._held.append(block)
                continue
            partial = _PartialBlock(
                block, self._known.known_trials(block), self._known.duplicates(block)
            )
            if partial.rest:
                self._partial[block.id] = partial
                part = replace(block, trials=partial.rest)
                self._known.begin(part)
                return part
            result = joined(partial.known)
            self.folder.parts.record(block, result)
            self._announce(block, result.members)
        return None

    def _asked(self) -> Iterator[Block]:
        """Blocks that were held back, each once, then those of the plan."""
        for _ in range(len(self._held)):
            yield self._held.pop(0)
        while (block := self.plan.next_block()) is not None:
            yield block

    def _whole(self, block: Block) -> Block:
        """A block together with its known trials."""
        return self._partial[block.id].block if block.id in self._partial else block

    def _completed(self, block: Block, trained: BlockResult) -> BlockResult:
        """The result of a block, completed by the trials that were not trained."""
        partial = self._partial.get(block.id)
        if partial is None or self._known is None or not (partial.known or partial.duplicates):
            return trained
        for number, original in partial.duplicates.items():
            if number not in partial.known:
                copied = self._known.copied(partial.block, number, trained, original)
                partial.known[number] = copied
        return joined(partial.known, trained)

    def started(self, block: Block) -> None:
        """Take note that a block has started."""
        self.delivery.start(self._whole(block))
        self.progress.started(block)

    def reported(
        self,
        block: Block,
        fraction: float,
        means: pd.DataFrame | None,
        result: BlockResult | None,
        node: str = "",
    ) -> None:
        """Take a block's progress on some machine, or its result: the folder gets it first, then
        everything else."""
        if result is not None:
            result = self._completed(block, result)
            block = self._whole(block)
            self.folder.parts.record(block, result)
        if means is not None:
            self.delivery.log_means(block, means)
            self.progress.advance(block, fraction, node)
        if result is not None:
            self._announce(block, result.members)

    @property
    def asked_to_stop(self) -> bool:
        """Whether somebody asked the study to stop (see `StudyFolder.ask_to_stop`)."""
        return self.folder.is_asked_to_stop()

    def try_again(self, block: Block, failure: Failure) -> bool:
        """Decide whether a block that ended with an error is handed out again.

        A training error is retried a few times, unless the same one comes twice. A lost
        process or machine is not the block's fault; after it, the next blocks wait a little, longer
        after each loss, so as not to be sent there too.

        Args:
            block: the block that ended.
            failure: why it ended.
        """
        lost = failure.kind in (FailureKind.LOST, FailureKind.NOT_STARTED)
        self._attempts[block.id, lost] += 1
        attempts = self._attempts[block.id, lost]
        again = attempts <= (_LOST_WORKERS_PER_BLOCK if lost else _RETRIES_PER_BLOCK)
        same = self._reasons.get(block.id) == failure.reason
        self._reasons[block.id] = failure.reason
        if failure.kind is FailureKind.REFUSED or (failure.kind is FailureKind.RAISED and same):
            again = False
        if again:
            self._say_once(f"block {block}: {failure.reason}; trying again", failure.reason)
            self._retries.append(block)
            if lost:
                pause = min(_FIRST_PAUSE * 2 ** (attempts - 1), _MAX_PAUSE)
                self._pause_until = max(self._pause_until, time.monotonic() + pause)
        return again

    def failed(self, block: Block, error: str) -> None:
        """Record that a block failed for good, and why."""
        block = self._whole(block)
        self._say_once(f"block {block} failed: {error}", f"failed: {error}")
        self.failures[block.id] = error
        self.folder.parts.record_failure(block, error)
        self._announce(block, pd.DataFrame())

    def cut_off(self) -> None:
        """Close the run in MLflow, as far as it is: the process is about to be ended."""
        stored = replace(self.stored, state=self.folder.state())
        conclude(stored, self.delivery, None, finished=False)

    def say(self, line: str) -> None:
        """Show the user a line above the progress bar."""
        self.progress.say(line)

    def _say_once(self, line: str, reason: str) -> None:
        """Show the user a line, unless another block had the same reason before."""
        if reason not in self._said:
            self._said.add(reason)
            self.progress.say(line)

    def _announce(self, block: Block, members: pd.DataFrame) -> None:
        """Tell MLflow, the plan and the user that a block is recorded in the folder."""
        self.delivery.finish(block)
        self._partial.pop(block.id, None)
        if self._known is not None:
            self._known.end(block, members)
        self._count(block, members)
        self.plan.receive(block, members)
        if Phase.parse(block.phase).is_search:
            self.progress.best(self.plan.winners())
        self.progress.finish(block, trained=not members.empty)

    def _count(self, block: Block, members: pd.DataFrame, *, at_once: bool = True) -> None:
        """Count a block, for this session and for whoever asks once it was killed."""
        rows = counted_rows(members, self.study.objective)
        self._counts.add(rows)
        counts = counts_of_block(rows, self.study.objective)
        self._block_counts.add(block.id, counts, at_once=at_once)

    def _recorded(self, block: Block) -> pd.DataFrame | None:
        """The members table of a block that an earlier session finished, delivered to MLflow too.

        It is empty for a block that failed, which a resumed study does not try again.
        """
        members = self._earlier.pop(block.id)
        if members is None:
            members = self.folder.parts.recorded(block)
        if members is not None:
            if members.empty:
                reasons = self.folder.parts.failures()
                self.failures[block.id] = reasons.get(block.id, "unknown error")
            elif not is_table_of(block, members, self.study):
                self.folder.parts.refuse(block)
            self._count(block, members, at_once=False)
            self.delivery.finish(block)
            self.progress.recorded(block, trained=not members.empty)
            if self._known is not None:
                self._known.end(block, members)
        return members
