"""Trains the blocks of a study in processes of this machine, as many as it has room for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from dynloss_core.config import ConfigError
from dynloss_core.data import chosen_folder, use_data_folder
from studies.blocks.block import Block, BlockSource
from studies.blocks.block_run import use_threads
from studies.blocks.block_training import BlockReport, BlockTraining
from studies.blocks.failure import Failure, FailureKind, failure_to_train
from studies.cluster.capacity import local_resources, parallel_blocks
from studies.definition.study import Study
from studies.interrupts import INTERRUPTS
from studies.object_store import ObjectStore

__all__ = ["call", "train"]

_GUARD = 'begin a script that runs a study with `if __name__ == "__main__":`'
_SECONDS_TO_WAIT = 0.2
_SECONDS_TO_SAVE = 60.0  # for a process that is to end, before it is ended
_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy threads that hold locks


def train(source: BlockSource) -> None:
    """Train the blocks that are left, as many at once as this machine has room for.

    Returns when all have ended, or once the source is asked to stop; blocks in training are then
    saved. A block whose process dies is tried again in another.

    Args:
        source: the source of the blocks.
    """
    workers: dict[str, _Worker] = {}
    free = _devices(source.study)
    try:
        while not source.finished and not source.asked_to_stop:
            while free and (block := source.next_block()) is not None:
                device = free.pop(0)
                if device not in workers:
                    workers[device] = _Worker(source, device)
                workers[device].begin(block)
                source.started(block)
            busy = {worker.connection: worker for worker in workers.values() if worker.block}
            for ready in wait(list(busy), _SECONDS_TO_WAIT):
                worker = busy[ready]  # type: ignore[index]  # it was given connections alone
                worker.forward_report(source)
                if worker.block is None:
                    free.append(worker.device)
                if worker.is_gone:
                    del workers[worker.device]
    finally:
        for worker in workers.values():
            worker.ask_to_end()
        _drain(source, list(workers.values()))
        for worker in workers.values():
            worker.end()


def call(task: Callable[[], Any]) -> Any:
    """Call a function in a process of its own, as those that train blocks are.

    Raises:
        ConfigError: what the function refuses, or if the process could not start.
    """
    begin, where = use_data_folder, (chosen_folder(),)
    with ProcessPoolExecutor(1, mp_context=_SPAWN, initializer=begin, initargs=where) as pool:
        try:
            return pool.submit(task).result()
        except BrokenProcessPool:
            raise ConfigError("backend", "a process could not start", _GUARD) from None


def _drain(source: BlockSource, workers: list[_Worker]) -> None:
    """Take what processes that are to end still report: one that cannot send its tables, because
    nobody reads them, does not end."""
    deadline = time.monotonic() + _SECONDS_TO_SAVE
    left = {worker.connection: worker for worker in workers}
    while left and time.monotonic() < deadline:
        for ready in wait(list(left), _SECONDS_TO_WAIT):
            if not left[ready].drain(source):  # type: ignore[index]  # as above
                del left[ready]  # type: ignore[arg-type]


def _devices(study: Study) -> list[str]:
    """A name for each process that there is room for: `k on GPU`, and without GPUs `k on `."""
    room = parallel_blocks(study, local_resources())
    gpus = [""]
    if study.resources.gpus > 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        numbers = range(int(local_resources()["GPU"]))
        gpus = visible.split(",") if visible else [str(number) for number in numbers]
    return [f"{k} on {gpus[k % len(gpus)]}" for k in range(room)]


class _Worker:
    """A process that trains one block after another, as the driver sees it.

    Args:
        source: the source of the blocks.
        device: its name, with the GPU that it uses.
    """

    def __init__(self, source: BlockSource, device: str) -> None:
        self.device = device
        self.block: Block | None = None  # in training
        self.is_gone = False
        self._is_ready = False
        self.connection, theirs = _SPAWN.Pipe()
        gpu = device.partition(" on ")[2]
        given = (theirs, source.study, source.checkpoints, chosen_folder(), gpu)
        self._process = _SPAWN.Process(target=_work, args=given, name=device, daemon=True)
        with _without_interrupts():
            self._process.start()
        theirs.close()

    def begin(self, block: Block) -> None:
        """Send it a block."""
        self.block = block
        with suppress(OSError):  # it is gone, which the next look at its connection tells
            self.connection.send(block)

    def forward_report(self, source: BlockSource) -> None:
        """Tell the source what the process reports of its block."""
        assert self.block is not None
        block = self.block
        try:
            report: BlockReport | Failure | None = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            if not self._is_ready:
                raise ConfigError("backend", "a process could not start", _GUARD) from None
            reason = f"its process is gone (exit code {self._process.exitcode})"
            report, self.is_gone = Failure(FailureKind.LOST, reason), True
        if report is None:
            self._is_ready = True
            return
        if isinstance(report, Failure):
            self.block = None
            if not source.try_again(block, report):
                source.failed(block, report.reason)
            return
        if report.result is not None:
            self.block = None
        source.reported(block, report.fraction, report.means, report.result)

    def drain(self, source: BlockSource) -> bool:
        """Tell the source what the process still reports, and whether it may report more."""
        try:
            report: BlockReport | Failure | None = self.connection.recv()
        except (EOFError, OSError):
            return False
        if isinstance(report, BlockReport) and self.block is not None:
            source.reported(self.block, report.fraction, report.means, report.result)
            self.block = None if report.result is not None else self.block
        return True

    def ask_to_end(self) -> None:
        """Have it save its block, if it has one, and end."""
        with suppress(OSError):
            self.connection.send(None)

    def end(self) -> None:
        """Wait for its end."""
        self._process.join(_SECONDS_TO_SAVE)
        self._process.kill()
        self._process.join()
        self.connection.close()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C and what is taken for it, which a terminal or a scheduler sends to every process,
    from those that start meanwhile: it is the driver's, which asks them to end."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it would be started with the first, and unblock Ctrl-C
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(INTERRUPTS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    connection: Connection,
    study: Study,
    checkpoints: ObjectStore,
    data_folder: str | None,
    gpu: str,
) -> None:
    """What a process does: train one block after another, until it is sent None instead of one."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, set(INTERRUPTS))
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    use_data_folder(data_folder)
    use_threads(study.resources.cpu)
    try:
        connection.send(None)  # it has started
        while (block := connection.recv()) is not None:
            _train(connection, BlockTraining(study, block, checkpoints))
    except (EOFError, OSError):
        return  # the driver is gone


def _train(connection: Connection, training: BlockTraining) -> None:
    """Train a block and report, until it has ended, or something is sent: the request to end."""
    report = None
    try:
        while not connection.poll() and (report is None or report.result is None):
            try:
                report = training.advance()
            except Exception as error:
                connection.send(failure_to_train(error))
                return
            connection.send(report)
    finally:
        training.save_unfinished()
